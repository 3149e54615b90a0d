"""The simulated shop's vocabulary: looks, colours, materials, functions, product types, brands, complements.

Every attribute (a *concept*) has several *forms*: words that a seller or a searching shopper may use for the same
thing. A product shows one form, a query another, so matching letters is not enough. A few forms are trade terms
("ThermaLock") that no general language model knows; what they mean can be learnt from clicks only.

All brands and trade terms are invented.
"""
# ruff: noqa: E501  (one product type a line reads as the table that it is)

from collections.abc import Sequence
from typing import NamedTuple

from numpy.random import Generator

FAMILIES = ("soft", "hard", "scent")


class Look(NamedTuple):
    """A style of design: words for it, its usual colours, one material per family, and sentences that hint at it."""

    forms: tuple[str, ...]
    colours: tuple[str, ...]
    soft: tuple[str, ...]
    hard: tuple[str, ...]
    scent: tuple[str, ...]
    moods: tuple[str, ...]


class ProductType(NamedTuple):
    """What a leaf category sells. `price` is the median in dollars; a `consumable` is bought again."""

    path: tuple[str, ...]
    forms: tuple[str, ...]
    family: str
    functions: tuple[str, ...]
    sizes: tuple[str, ...]
    price: float
    consumable: bool = False


COLOURS: dict[str, tuple[str, ...]] = {
    "black": ("black", "jet black", "onyx"),
    "white": ("white", "snow white", "chalk"),
    "grey": ("grey", "charcoal", "slate"),
    "navy": ("navy", "dark blue", "midnight blue"),
    "sky": ("sky blue", "light blue", "baby blue"),
    "teal": ("teal", "turquoise", "aqua"),
    "olive": ("olive", "army green", "khaki"),
    "green": ("forest green", "emerald", "moss green"),
    "pink": ("pink", "blush", "rose"),
    "red": ("red", "crimson", "scarlet"),
    "orange": ("orange", "tangerine", "neon orange"),
    "yellow": ("yellow", "lemon", "mustard"),
    "purple": ("purple", "violet", "plum"),
    "brown": ("brown", "chestnut", "cognac"),
    "beige": ("beige", "sand", "cream"),
    "gold": ("gold", "golden", "champagne"),
    "silver": ("silver", "chrome", "metallic grey"),
    "multicolour": ("multicolour", "rainbow", "many-coloured"),
}

LOOKS: dict[str, Look] = {
    "minimalist": Look(
        ("minimalist", "clean-lined", "Scandinavian", "understated", "pared-back"),
        ("white", "grey", "beige"),
        ("felt", "wool felt", "pressed wool"),
        ("matte aluminium", "brushed aluminum", "satin alloy"),
        ("clean cotton", "fresh linen", "soap-clean"),
        (
            "Nothing too much, nothing missing.",
            "Plain surfaces that calm a busy room.",
            "Simple lines that never shout.",
            "Less is more: one shape, no ornament.",
        ),
    ),
    "rugged": Look(
        ("rugged", "heavy-duty", "tough", "hard-wearing", "tactical"),
        ("olive", "black", "orange"),
        ("canvas", "ripstop nylon", "cordura"),
        ("stainless steel", "steel", "inox"),
        ("cedar", "pine tar", "smoked wood"),
        (
            "Made for mud, gravel and bad weather.",
            "Takes a beating on site and asks for more.",
            "Ready for expeditions and rough hands.",
            "Tested by rangers and builders.",
        ),
    ),
    "cute": Look(
        ("cute", "kawaii", "adorable", "sweet", "charming little"),
        ("pink", "sky", "yellow"),
        ("plush", "fluffy fleece", "teddy fabric"),
        ("pastel silicone", "soft silicone", "candy enamel"),
        ("strawberry", "marshmallow", "bubblegum"),
        (
            "With a smiling kitten face.",
            "Round ears and tiny hearts included.",
            "So lovely that you will want to hug it.",
            "A bunny print makes everybody smile.",
        ),
    ),
    "vintage": Look(
        ("vintage", "retro", "old-fashioned", "nostalgic", "mid-century"),
        ("brown", "gold", "beige"),
        ("corduroy", "tweed", "herringbone"),
        ("brass", "aged brass", "antique copper"),
        ("tobacco", "old books", "pipe smoke"),
        (
            "As if found in grandmother's attic.",
            "Brings the 1950s back home.",
            "Looks like a treasure from the flea market.",
            "Inspired by the jukebox years.",
        ),
    ),
    "natural": Look(
        ("eco-friendly", "organic", "sustainable", "earth-friendly", "green-living"),
        ("green", "beige", "brown"),
        ("organic cotton", "hemp", "undyed cotton"),
        ("bamboo", "bamboo wood", "solid bamboo"),
        ("aloe", "green tea", "oat milk"),
        (
            "Grown, not drilled; returns to the soil.",
            "Packed without plastic, kind to the planet.",
            "From renewable sources and fair farms.",
            "Compostable at the end of its life.",
        ),
    ),
    "sporty": Look(
        ("sporty", "athletic", "racing", "dynamic", "training"),
        ("red", "navy", "yellow"),
        ("mesh", "stretch jersey", "sweat-wicking knit"),
        ("carbon fibre", "carbon", "carbon composite"),
        ("mint", "menthol", "lime"),
        (
            "Keeps up with your personal best.",
            "With speed stripes from the track.",
            "Designed with marathon runners and coaches.",
            "For people who count laps and sets.",
        ),
    ),
    "futuristic": Look(
        ("futuristic", "sci-fi", "cyber", "space-age", "neon-lit"),
        ("silver", "purple", "teal"),
        ("neoprene", "scuba knit", "tech foam"),
        ("clear acrylic", "transparent polycarbonate", "see-through plastic"),
        ("ozone", "cold metal", "ionised air"),
        (
            "Looks as if a robot had drawn it.",
            "Straight from the bridge of a starship.",
            "Glowing edges, seen in tomorrow's city.",
            "Beamed in from the year 2080.",
        ),
    ),
    "bohemian": Look(
        ("boho", "bohemian", "folk", "hippie", "festival"),
        ("multicolour", "teal", "orange"),
        ("macrame", "hand-woven yarn", "knotted cotton cord"),
        ("rattan", "wicker", "cane"),
        ("patchouli", "sandalwood", "nag champa"),
        (
            "Fringes, beads and a free spirit.",
            "Picked up on the road to Marrakesh.",
            "Every pattern tells a tale of the road.",
            "For barefoot evenings and dreamcatchers.",
        ),
    ),
    "gothic": Look(
        ("gothic", "noir", "dark", "vampire", "skull"),
        ("black", "purple", "red"),
        ("black lace", "lace", "fishnet"),
        ("cast iron", "wrought iron", "blackened iron"),
        ("black orchid", "incense", "burnt clove"),
        (
            "For midnight hours and candlelight.",
            "Ravens and thorns around the edge.",
            "Haunted houses would be proud.",
            "Shadows were never so elegant.",
        ),
    ),
    "floral": Look(
        ("floral", "flowery", "botanical", "blossom", "rose-print"),
        ("pink", "green", "purple"),
        ("chintz", "printed cotton", "calico"),
        ("porcelain", "fine china", "bone china"),
        ("lavender", "jasmine", "peony"),
        (
            "Petals and leaves, as in a June garden.",
            "Peonies climb all over it.",
            "A bouquet that never fades.",
            "Painted with daisies and wild herbs.",
        ),
    ),
}

# A form that starts with "for", "with" or "that" stands after the type, any other before it.
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "waterproof": ("waterproof", "rainproof", "water-resistant", "AquaShield"),
    "children": ("kids", "children's", "junior", "for little ones"),
    "travel": ("travel", "pocket-size", "for trips", "on-the-go"),
    "wireless": ("wireless", "cordless", "cable-free", "without-wires"),
    "foldable": ("foldable", "collapsible", "folding", "that packs flat"),
    "quiet": ("quiet", "silent", "noiseless", "HushDrive"),
    "fast": ("fast", "quick", "rapid", "turbo"),
    "rechargeable": ("rechargeable", "USB-charged", "with built-in battery", "ReVolt"),
    "insulated": ("insulated", "thermal", "double-walled", "ThermaLock"),
    "lightweight": ("lightweight", "ultralight", "featherweight", "FeatherCore"),
    "large": ("large", "family-size", "XL", "jumbo"),
    "small": ("small", "mini", "petite", "tiny"),
    "adjustable": ("adjustable", "customisable", "FlexFit", "with variable setting"),
    "ergonomic": ("ergonomic", "comfort-grip", "posture-friendly", "with body-shaped form"),
    "nonstick": ("non-stick", "stick-free", "with easy-release coating", "GlideCoat"),
    "dishwasher": ("dishwasher-safe", "easy-clean", "that washes up in the machine", "low-care"),
    "sensitive": ("hypoallergenic", "gentle", "for sensitive skin", "DermaCalm"),
    "vegan": ("vegan", "cruelty-free", "plant-based", "animal-free"),
    "moisturising": ("moisturising", "hydrating", "nourishing", "HydraLoop"),
    "nonslip": ("non-slip", "anti-slip", "grippy", "with rubber feet"),
    "magnetic": ("magnetic", "with magnets", "MagSnap", "that clicks on"),
    "shatterproof": ("shatterproof", "drop-proof", "unbreakable", "ArmorShell"),
    "dimmable": ("dimmable", "with brightness control", "mood-light", "GlowStep"),
    "educational": ("educational", "STEM", "learning", "brain-training"),
    "refillable": ("refillable", "reusable", "with refills", "top-up"),
    "gift": ("gift", "gift-boxed", "with present wrap", "ready-to-give"),
    "solar": ("solar", "sun-powered", "SunCell", "with solar panel"),
    "beginner": ("beginner", "starter", "for first-timers", "entry-level"),
}


def _type(
    path: str, forms: str, family: str, functions: str, sizes: str, price: float, consumable: bool = False
) -> ProductType:
    split = [tuple(part.strip() for part in text.split(sep)) for text, sep in ((path, ">"), (forms, "/"), (sizes, "/"))]
    return ProductType(split[0], split[1], family, tuple(functions.split()), split[2], price, consumable)


TYPES: dict[str, ProductType] = {
    "smartphone": _type("Electronics > Phones > Smartphones", "smartphone / mobile phone / cell phone / handset", "hard", "waterproof children fast large small shatterproof beginner", "64 GB / 128 GB / 256 GB / 512 GB", 420),
    "phone_case": _type("Electronics > Phones > Phone Cases", "phone case / phone cover / mobile sleeve / bumper", "soft", "waterproof magnetic shatterproof lightweight nonslip gift", "5.8 inch / 6.1 inch / 6.7 inch", 19),
    "charger": _type("Electronics > Phones > Chargers", "charger / power adapter / charging plug / wall plug", "hard", "fast travel wireless foldable small magnetic", "20 W / 30 W / 65 W", 24),
    "power_bank": _type("Electronics > Phones > Power Banks", "power bank / portable battery / battery pack", "hard", "fast travel wireless solar lightweight magnetic waterproof", "5000 mAh / 10000 mAh / 20000 mAh", 35),
    "headphones": _type("Electronics > Audio > Headphones", "headphones / headset / over-ear phones", "soft", "wireless quiet foldable children waterproof lightweight rechargeable", "32 ohm / 40 mm / 50 mm", 89),
    "speaker": _type("Electronics > Audio > Speakers", "speaker / sound box / music box", "hard", "wireless waterproof travel rechargeable large small", "10 W / 20 W / 40 W", 65),
    "laptop": _type("Electronics > Computers > Laptops", "laptop / notebook computer / ultrabook", "hard", "lightweight fast quiet large beginner shatterproof", "13 inch / 14 inch / 15.6 inch", 780),
    "laptop_bag": _type("Electronics > Computers > Laptop Bags", "laptop bag / laptop sleeve / computer case", "soft", "waterproof lightweight travel adjustable small large", "13 inch / 14 inch / 15.6 inch", 38),
    "mouse": _type("Electronics > Computers > Mice", "computer mouse / mouse / clicker", "hard", "wireless quiet ergonomic rechargeable small travel", "1600 dpi / 2400 dpi / 4000 dpi", 29),
    "action_camera": _type("Electronics > Cameras > Action Cameras", "action camera / sports cam / helmet camera", "hard", "waterproof children lightweight shatterproof beginner rechargeable", "1080p / 2.7K / 4K", 160),
    "tripod": _type("Electronics > Cameras > Tripods", "tripod / camera stand / three-legged stand", "hard", "travel lightweight foldable adjustable nonslip magnetic", "60 cm / 130 cm / 170 cm", 48),
    "battery": _type("Electronics > Batteries", "batteries / AA cells / battery set", "hard", "rechargeable fast large small refillable", "4 pack / 8 pack / 24 pack", 14, True),
    "frying_pan": _type("Kitchen > Cookware > Frying Pans", "frying pan / skillet / fry pan", "hard", "nonstick dishwasher large small lightweight gift", "20 cm / 24 cm / 28 cm", 36),
    "saucepan": _type("Kitchen > Cookware > Saucepans", "saucepan / cooking pot / stew pot", "hard", "nonstick dishwasher large insulated lightweight beginner", "1.5 l / 2.5 l / 4 l", 42),
    "plate": _type("Kitchen > Tableware > Plates", "dinner plate / plate / dish", "hard", "dishwasher shatterproof children large gift small", "21 cm / 24 cm / 27 cm", 16),
    "mug": _type("Kitchen > Tableware > Mugs", "mug / coffee cup / tea cup", "hard", "insulated dishwasher travel large gift shatterproof", "250 ml / 330 ml / 450 ml", 13),
    "coffee_maker": _type("Kitchen > Appliances > Coffee Makers", "coffee maker / coffee machine / brewer", "hard", "quiet fast large refillable dishwasher beginner", "0.6 l / 1.2 l / 1.8 l", 110),
    "kettle": _type("Kitchen > Appliances > Kettles", "kettle / water boiler / tea kettle", "hard", "fast quiet insulated travel adjustable wireless", "0.8 l / 1.2 l / 1.7 l", 44),
    "blender": _type("Kitchen > Appliances > Blenders", "blender / smoothie maker / mixer", "hard", "quiet fast travel dishwasher rechargeable small", "300 W / 600 W / 1200 W", 68),
    "coffee_beans": _type("Kitchen > Coffee Beans", "coffee beans / roast coffee / whole-bean coffee", "scent", "gift large beginner vegan refillable", "250 g / 500 g / 1 kg", 15, True),
    "food_box": _type("Kitchen > Storage > Food Boxes", "food container / lunch box / storage box", "hard", "dishwasher shatterproof insulated children travel large", "0.5 l / 1 l / 2 l", 17),
    "apron": _type("Kitchen > Storage > Aprons", "apron / cooking smock / pinafore", "soft", "waterproof adjustable children gift large lightweight", "S / M / L", 21),
    "shampoo": _type("Beauty > Hair > Shampoo", "shampoo / hair wash / hair cleanser", "scent", "sensitive vegan moisturising travel refillable children", "100 ml / 250 ml / 400 ml", 11, True),
    "conditioner": _type("Beauty > Hair > Conditioner", "conditioner / hair rinse / hair balm", "scent", "sensitive vegan moisturising travel refillable fast", "100 ml / 250 ml / 400 ml", 12, True),
    "hair_dryer": _type("Beauty > Hair > Hair Dryers", "hair dryer / blow dryer / hair blower", "hard", "quiet fast foldable travel lightweight adjustable", "1200 W / 1800 W / 2200 W", 46),
    "face_cream": _type("Beauty > Skin > Face Cream", "face cream / facial lotion / day cream", "scent", "sensitive vegan moisturising travel gift refillable", "30 ml / 50 ml / 75 ml", 24, True),
    "sunscreen": _type("Beauty > Skin > Sunscreen", "sunscreen / sun lotion / sunblock", "scent", "waterproof children sensitive vegan travel moisturising", "SPF 20 / SPF 30 / SPF 50", 16, True),
    "perfume": _type("Beauty > Perfume", "perfume / eau de toilette / fragrance spray", "scent", "travel gift vegan refillable sensitive small", "15 ml / 50 ml / 100 ml", 52),
    "make_up_bag": _type("Beauty > Make-up > Make-up Bags", "make-up bag / cosmetic pouch / toiletry case", "soft", "waterproof travel large small gift foldable", "S / M / L", 20),
    "mirror": _type("Beauty > Make-up > Mirrors", "make-up mirror / vanity mirror / looking glass", "hard", "dimmable foldable travel rechargeable magnetic adjustable", "12 cm / 17 cm / 22 cm", 31),
    "tent": _type("Outdoor > Camping > Tents", "tent / camping shelter / dome tent", "soft", "waterproof lightweight large fast children beginner", "1 person / 2 person / 4 person", 145),
    "sleeping_bag": _type("Outdoor > Camping > Sleeping Bags", "sleeping bag / camping quilt / mummy bag", "soft", "insulated lightweight children waterproof large travel", "190 cm / 210 cm / 230 cm", 72),
    "stove": _type("Outdoor > Camping > Stoves", "camping stove / gas cooker / camp burner", "hard", "foldable lightweight fast travel beginner small", "1 burner / 2 burners / 2500 W", 49),
    "lantern": _type("Outdoor > Camping > Lanterns", "lantern / camping lamp / tent light", "hard", "solar dimmable rechargeable foldable waterproof magnetic", "200 lm / 400 lm / 1000 lm", 28),
    "backpack": _type("Outdoor > Hiking > Backpacks", "backpack / rucksack / daypack", "soft", "waterproof lightweight foldable children adjustable large", "18 l / 28 l / 45 l", 75),
    "bottle": _type("Outdoor > Hiking > Water Bottles", "water bottle / drinking flask / canteen", "hard", "insulated lightweight children foldable dishwasher shatterproof", "0.5 l / 0.75 l / 1 l", 22),
    "jacket": _type("Outdoor > Hiking > Jackets", "jacket / anorak / windbreaker", "soft", "waterproof insulated lightweight children foldable adjustable", "S / M / L / XL", 95),
    "helmet": _type("Outdoor > Cycling > Helmets", "bike helmet / cycling helmet / head protector", "hard", "children lightweight adjustable dimmable foldable magnetic", "S / M / L", 58),
    "bike_light": _type("Outdoor > Cycling > Bike Lights", "bike light / bicycle lamp / cycle headlight", "hard", "rechargeable waterproof solar magnetic dimmable small", "100 lm / 400 lm / 800 lm", 26),
    "blocks": _type("Toys > Building > Building Blocks", "building blocks / construction bricks / stacking bricks", "hard", "educational large magnetic beginner gift quiet", "60 pieces / 120 pieces / 500 pieces", 34),
    "plush_toy": _type("Toys > Plush Toys", "stuffed toy / cuddly toy / soft toy", "soft", "sensitive large small gift dishwasher quiet", "15 cm / 30 cm / 60 cm", 22),
    "puzzle": _type("Toys > Games > Puzzles", "jigsaw puzzle / puzzle / jigsaw", "hard", "educational beginner large gift magnetic travel", "48 pieces / 500 pieces / 1000 pieces", 18),
    "board_game": _type("Toys > Games > Board Games", "board game / tabletop game / parlour game", "hard", "educational travel beginner fast gift magnetic", "2 players / 2-4 players / 3-6 players", 32),
    "rc_car": _type("Toys > Vehicles > Remote Control Cars", "remote control car / RC car / radio-controlled racer", "hard", "fast rechargeable waterproof shatterproof beginner large", "1:24 / 1:16 / 1:10", 54),
    "play_tent": _type("Toys > Play Tents", "play tent / teepee / toy den", "soft", "foldable large gift lightweight dishwasher educational", "100 cm / 120 cm / 150 cm", 47),
    "pen": _type("Office > Writing > Pens", "pen / ballpoint / writing pen", "hard", "refillable ergonomic gift fast lightweight", "3 pack / 5 pack / 10 pack", 9, True),
    "notebook": _type("Office > Writing > Notebooks", "paper notebook / journal / notepad", "soft", "waterproof refillable gift small large lightweight", "A6 / A5 / A4", 12, True),
    "pencil_case": _type("Office > Writing > Pencil Cases", "pencil case / pen pouch / stationery roll", "soft", "waterproof large small gift children foldable", "S / M / L", 15),
    "desk_lamp": _type("Office > Desk > Desk Lamps", "desk lamp / table lamp / reading light", "hard", "dimmable wireless foldable adjustable rechargeable children", "5 W / 8 W / 12 W", 41),
    "organiser": _type("Office > Desk > Organisers", "desk organiser / desk tidy / stationery tray", "hard", "large small nonslip magnetic gift foldable", "3 slots / 5 slots / 8 slots", 23),
    "chair": _type("Office > Chairs", "office chair / desk chair / swivel chair", "soft", "ergonomic adjustable quiet large children lightweight", "100 kg / 120 kg / 150 kg", 170),
    "printer": _type("Office > Printing > Printers", "printer / inkjet printer / photo printer", "hard", "wireless quiet fast small refillable beginner", "A4 / A3 / 10x15 cm", 130),
}  # fmt: skip

# What is bought with what: type -> {complement: weight}. One direction, as shops see it: the main thing first.
COMPLEMENTS: dict[str, dict[str, float]] = {
    "smartphone": {"phone_case": 3, "charger": 1.5, "power_bank": 1, "headphones": 0.7},
    "headphones": {"battery": 1, "charger": 0.5},
    "speaker": {"battery": 1, "power_bank": 1},
    "laptop": {"laptop_bag": 2.5, "mouse": 2},
    "action_camera": {"tripod": 2, "battery": 1, "helmet": 0.6},
    "frying_pan": {"apron": 1, "saucepan": 1.5},
    "saucepan": {"frying_pan": 1, "apron": 1},
    "plate": {"mug": 2},
    "coffee_maker": {"coffee_beans": 3, "mug": 1.5},
    "kettle": {"mug": 2},
    "blender": {"bottle": 1.5, "food_box": 1},
    "shampoo": {"conditioner": 3, "hair_dryer": 0.5},
    "conditioner": {"shampoo": 2},
    "hair_dryer": {"shampoo": 1, "mirror": 1},
    "face_cream": {"make_up_bag": 1, "sunscreen": 1},
    "perfume": {"make_up_bag": 1.5},
    "mirror": {"make_up_bag": 1.5, "face_cream": 1},
    "tent": {"sleeping_bag": 3, "lantern": 1.5, "stove": 1},
    "sleeping_bag": {"tent": 1, "lantern": 1},
    "stove": {"saucepan": 1, "food_box": 1},
    "lantern": {"battery": 2},
    "backpack": {"bottle": 2, "jacket": 1},
    "jacket": {"backpack": 1},
    "helmet": {"bike_light": 2, "action_camera": 0.5},
    "bike_light": {"battery": 1.5},
    "blocks": {"puzzle": 1},
    "plush_toy": {"play_tent": 1},
    "rc_car": {"battery": 3},
    "play_tent": {"plush_toy": 1.5, "lantern": 0.5},
    "board_game": {"puzzle": 1},
    "pen": {"notebook": 2, "pencil_case": 1},
    "notebook": {"pen": 2},
    "pencil_case": {"pen": 2},
    "desk_lamp": {"organiser": 1},
    "chair": {"desk_lamp": 1.5, "organiser": 1},
    "printer": {"notebook": 0.5, "organiser": 0.5, "pen": 0.5},
}

BRANDS: dict[str, tuple[str, ...]] = {
    "Electronics": ("Norvale", "Teklin", "Orbisa", "Quantra", "Voltari", "Lumeko", "Pixano", "Zentrix", "Kirabo", "Halden"),
    "Kitchen": ("Casamia", "Potterby", "Brennhof", "Savori", "Kettlewick", "Ollendorf", "Mirepoli", "Halden", "Tavolino"),
    "Beauty": ("Liora", "Velvessa", "Dermonde", "Amarise", "Sorelune", "Pure Fjord", "Botanelle", "Kirabo"),
    "Outdoor": ("Trailmark", "Fjellby", "Summitra", "Oakridge & Co", "Wildhavn", "Rastplatz", "Norvale", "Camporo", "Velopath"),
    "Toys": ("Bimbolo", "Toyvana", "Klickerix", "Hoppla", "Little Comet", "Wunderkist", "Zentrix"),
    "Office": ("Papyra", "Scriberly", "Deskwell", "Ordnungs", "Inkhaven", "Bureauva", "Halden", "Lumeko"),
}  # fmt: skip

INTENTS = ("browse", "compare", "buy", "accessory")

# Words by which a query gives its purpose away. "{q}" is the query without them.
INTENT_PHRASES: dict[str, tuple[str, ...]] = {
    "browse": ("{q} ideas", "new {q}", "{q} trends", "{q} inspiration", "{q} news", "latest {q}"),
    "compare": ("best {q}", "top {q}", "{q} reviews", "which {q}", "{q} test", "{q} comparison"),
    "buy": ("buy {q}", "{q} price", "order {q}", "cheap {q}", "{q} deal", "{q} in stock"),
    "accessory": ("{q}", "spare {q}", "matching {q}", "{q} add-on"),
}

# Sentences of a description. Fields: type, function, material, colour, size.
FUNCTION_SENTENCES = (
    "This {type} is {function}.",
    "Customers like that it is {function}.",
    "{Function} in every detail.",
    "Chosen by people who need something {function}.",
)
FUNCTION_SENTENCES_AFTER = ("A {type} {function}.", "Finally a {type} {function}.", "Our answer: a {type} {function}.")
MATERIAL_SENTENCES = {
    "soft": ("Made of {material}.", "Outside: {material}.", "The {material} feels good every day."),
    "hard": ("Made of {material}.", "Body: {material}.", "With parts of {material}."),
    "scent": ("A note of {material}.", "Scent: {material}.", "Carries a hint of {material}."),
}
PLAIN_SENTENCES = (
    "Two years of guarantee.",
    "Ships in one to three days.",
    "Size: {size}.",
    "Delivered with a manual in five languages.",
    "Free returns within 30 days.",
    "A bestseller in its class.",
    "Size {size}, please check before you order.",
)

TYPE_NAMES = tuple(TYPES)
LOOK_NAMES = tuple(LOOKS)
FUNCTION_NAMES = tuple(FUNCTIONS)
BRAND_NAMES = tuple(sorted({brand for brands in BRANDS.values() for brand in brands}))
DEPARTMENTS = tuple(BRANDS)

# Every concept with its forms, by a name like "look:gothic", "colour:navy", "material:gothic/soft", "function:quiet".
CONCEPTS: dict[str, tuple[str, ...]] = (
    {f"look:{name}": look.forms for name, look in LOOKS.items()}
    | {f"colour:{name}": forms for name, forms in COLOURS.items()}
    | {f"material:{name}/{family}": getattr(look, family) for name, look in LOOKS.items() for family in FAMILIES}
    | {f"function:{name}": forms for name, forms in FUNCTIONS.items()}
)
CONCEPT_IDS = {name: column for column, name in enumerate(CONCEPTS)}


def stands_after(form: str) -> bool:
    """Tell whether a function's form follows its noun ("tent for trips") or precedes it ("travel tent")."""
    return form.startswith(("for ", "with ", "that "))


def pick(rng: Generator, items: Sequence[str]) -> str:
    """Return one of `items`, each as likely."""
    return items[int(rng.integers(len(items)))]
