"""What docs/api.md says in words: what each signature is for and how it is asked, what each input and output is."""

import dataclasses
from typing import Any

USER: dict[str, Any] = {"user_id": "{user}"}
HISTORY: dict[str, Any] = {
    "history_product_id": ["{first}", "{second}"],
    "history_event_type": ["view", "cart"],
}
FILTER: dict[str, Any] = {
    "exclude_product_id": ["{third}"],
    "category": "{department}",
    "price_min": -1.0,
    "price_max": 60.0,
    "exclude_seen": True,
    "now": 0,
}
DIVERSE: dict[str, Any] = {"method": "category_quota", "strength": 0.8, "seed": 0}
EVENTS = "--history {first},{second} --event-types view,cart"
ONLY = "--category {department} --price-max 60 --exclude-seen"
DIFFERENT = "--method category_quota --strength 0.8"


@dataclasses.dataclass(frozen=True)
class Signature:
    """A signature of the page.

    Attributes:
        name: of the signature.
        about: what it is for.
        inputs: an example of one row.
        query: the same on the command line, after ``tfrs-shop query``.
    """

    name: str
    about: str
    inputs: dict[str, Any]
    query: str


@dataclasses.dataclass(frozen=True)
class Question:
    """Signatures that answer one question, in one way for a stored user and in one for a history.

    Attributes:
        title: the heading.
        about: what the question is, and where there is more about it.
        signatures: in the order of the page.
        outputs: name of each output to its meaning.
    """

    title: str
    about: str
    signatures: tuple[Signature, ...]
    outputs: dict[str, str]


INPUTS = {
    "user_id": ("a stored user; an unknown one is somebody of whom nothing is known", ""),
    "history_product_id": (
        "the products of the newest events, oldest first; an unknown one is passed over",
        '`""`, also as padding',
    ),
    "history_event_type": (
        "what was done to each: as long as `history_product_id`; an unknown type counts as the most frequent one",
        '`""` where the product is `""`',
    ),
    "product_id": ("the product, or the products, that is asked about", '`""` as padding of a list'),
    "candidate_product_id": ("the products to put in order", '`""` as padding'),
    "query": ("what was typed; the first 1,000 characters of it count, of an intent's the first 200", ""),
    "exclude_product_id": ("products to leave out", '`""`, also as padding'),
    "category": ("only this category path, and what lies below it, such as `Outdoor > Hiking`", '`""`'),
    "price_min": ("only at this price or above", "NaN, or below 0"),
    "price_max": ("only at this price or below", "NaN, or below 0"),
    "exclude_seen": ("leave out whatever an event of the user or the history names", "`false`"),
    "now": ("milliseconds since 1970 at which a product must be on sale", "0: the server's clock"),
    "method": ("`mmr`, `dpp`, `category_quota`, `explore_walk` or `explore_sample`; another one is a 400", ""),
    "strength": ("from 0, which answers as without it, to 1; what is outside, or NaN, is a 400", "0"),
    "seed": ("of the two methods that draw: the same seed draws the same list", "0"),
}

LIST = {
    "product_id": 'the products, best first; `""` where there are no more',
    "score": "the chance that the product comes next",
    "title": "their titles",
}
FOUND = {**LIST, "score": "how well it fits; to be compared within one answer only"}
BECAUSE = {
    "because_product_id": 'what of the history speaks for each most; `""` for a search, or for none',
    "because_title": "its title; of a search the query",
}
EXPLANATION = {
    "score": "the logarithm of the product's chance, but for what all products have in common",
    "baseline": "the same with nothing known",
    "part": "what the score is made of",
    "share": "what each part adds; they sum to `score - baseline`",
    "because_product_id": 'the events of the history, those that add most first; `""` for a search',
    "because_title": "the event's title; of a search the query",
    "because_share": "what each event adds",
}
PROFILE = {
    "category": 'the categories of the history, heaviest first; `""` for no more',
    "category_weight": "their shares; an event weighs 0.9 of the next newer one",
    "brand": "the same of brands",
    "brand_weight": "their shares",
    "event_type": "all types of the shop",
    "event_count": "how often each",
    "event_weight": "their shares",
    "price_low": "four fifths of the weight lie from here; -1 where no price is known",
    "price_median": "the middle",
    "price_high": "to here",
    "summary": 'all of it in words; `""` where nothing is known',
}
BEHAVIOR = {
    "event_type": "types of the next event, likeliest first",
    "event_type_probability": "their chances",
    "category": "categories of the next event, likeliest first",
    "category_probability": "their chances",
    "purchase_probability": "that a purchase follows in this session",
    "rating": "what the shopper will rate the latest product of the history",
}

QUESTIONS = (
    Question(
        "Recommend",
        "What may this shopper want next? Bought products are left out where they are not bought again "
        "(`export --exclude`), and what is not on sale. An unknown user gets what is popular. "
        "Filters in full: [serving.md](serving.md#filters).",
        (
            Signature(
                "serving_default",
                "For a stored user; asked when no signature is named.",
                USER,
                "recommend --user {user}",
            ),
            Signature("recommend", "The same under its name.", USER, "recommend --user {user}"),
            Signature(
                "recommend_for_history",
                "After what a client saw just now; nothing stored is needed.",
                HISTORY,
                f"recommend {EVENTS}",
            ),
            Signature(
                "recommend_filtered",
                "For a stored user, and only of what a request allows.",
                {**USER, **FILTER},
                f"recommend --user {{user}} {ONLY}",
            ),
            Signature(
                "recommend_for_history_filtered",
                "After a history, and only of what a request allows.",
                {**HISTORY, **FILTER},
                f"recommend {EVENTS} {ONLY}",
            ),
        ),
        LIST,
    ),
    Question(
        "Recommend different things",
        "A list that is not all of a kind, chosen as a whole. The methods: [diversity.md](diversity.md).",
        (
            Signature(
                "recommend_diverse", "For a stored user.", {**USER, **DIVERSE}, f"diverse --user {{user}} {DIFFERENT}"
            ),
            Signature(
                "recommend_for_history_diverse",
                "After a history.",
                {**HISTORY, **DIVERSE},
                f"diverse {EVENTS} {DIFFERENT}",
            ),
        ),
        {**LIST, "score": "each product's own chance, which need not fall along the list"},
    ),
    Question(
        "Recommend, and say why",
        "The answer of `recommend`, and because of what in the history. How it is found: [explain.md](explain.md).",
        (
            Signature("recommend_explained", "For a stored user.", USER, "explain --user {user}"),
            Signature("recommend_for_history_explained", "After a history.", HISTORY, f"explain {EVENTS}"),
        ),
        {**LIST, **BECAUSE},
    ),
    Question(
        "Explain a score",
        "What adds how much to one product's score. An unknown product or user, or an empty history, gives zeros. "
        "More: [explain.md](explain.md).",
        (
            Signature(
                "explain",
                "For a stored user.",
                {**USER, "product_id": "{third}"},
                "explain --user {user} --product {third}",
            ),
            Signature(
                "explain_for_history",
                "After a history.",
                {**HISTORY, "product_id": "{third}"},
                f"explain {EVENTS} --product {{third}}",
            ),
        ),
        EXPLANATION,
    ),
    Question(
        "Explain a score by words",
        "What each word of the history's texts adds to one product's score, of the five events whose texts add most. "
        "In bundles with a text encoder. More: [explain.md](explain.md).",
        (
            Signature(
                "explain_words",
                "For a stored user.",
                {**USER, "product_id": "{third}"},
                "explain --user {user} --product {third} --words",
            ),
            Signature(
                "explain_words_for_history",
                "After a history.",
                {**HISTORY, "product_id": "{third}"},
                f"explain {EVENTS} --product {{third}} --words",
            ),
        ),
        {
            "event_product_id": 'the events, those whose texts add most first; of a search `""`',
            "event_title": "their titles; of a search its query",
            "event_share": "what the text of each adds",
            "word": "the words of each text: title, brand and category path",
            "word_share": "what each word adds; they sum to the event's share",
        },
    ),
    Question(
        "Put candidates in order",
        "The given products in the order in which the user would want them, such as another system's list. "
        'One that is unknown or not on sale comes last with score 0; one that is not on sale now has the id `""`.',
        (
            Signature(
                "rank",
                "For a stored user.",
                {**USER, "candidate_product_id": ["{first}", "{second}", "{third}"]},
                "rank --user {user} --products {first},{second},{third}",
            ),
        ),
        {
            "product_id": "the candidates, best first",
            "score": "the chance that the user does something with it, once shown",
            "title": "their titles",
            "rating": "what the user would rate it; absent in a shop without ratings",
        },
    ),
    Question(
        "Similar products",
        "What is like this product? An unknown one gets empty places.",
        (Signature("similar", "By the product vectors.", {"product_id": "{first}"}, "similar --product {first}"),),
        {**LIST, "score": "cosine of the two products' vectors"},
    ),
    Question(
        "What goes together",
        "What is bought with these products, which are seldom alike? More: [complements.md](complements.md).",
        (Signature("complements", "For a basket.", {"product_id": ["{basket}"]}, "complements --products {basket}"),),
        {**LIST, "score": "sum over the given products of how often both are in one basket, as a cosine"},
    ),
    Question(
        "Search",
        "The products that fit a query's words and meaning, slips included. A query without letters or digits gets "
        "empty places. More: [search.md](search.md).",
        (
            Signature("search", "The query alone.", {"query": "{query}"}, 'search --query "{query}"'),
            Signature(
                "search_for_history",
                "The same, in the order that a history suggests.",
                {"query": "{query}", **HISTORY},
                f'search --query "{{query}}" {EVENTS}',
            ),
        ),
        FOUND,
    ),
    Question(
        "Search, and say which words were asked for",
        "The answer of `search`, with the titles cut into words, to be shown in bold. More: [search.md](search.md).",
        (
            Signature(
                "search_explained", "The query alone.", {"query": "{query}"}, 'search --query "{query}" --highlight'
            ),
        ),
        {
            **FOUND,
            "title_word": "the words of each title",
            "title_word_weight": "0 for a word that the query did not ask for, else the more, the rarer it is",
        },
    ),
    Question(
        "What a query is for",
        "Which category is meant, and is this browsing, comparing, buying, or for an accessory? A query without "
        "words gets what is usual. More: [behavior.md](behavior.md#query_intent).",
        (Signature("query_intent", "The query alone.", {"query": "{query}"}, 'intent "{query}"'),),
        {
            "category": "categories, likeliest first",
            "category_probability": "their chances",
            "purpose": "browse, compare, buy, accessory, likeliest first; absent in a shop without searches",
            "purpose_probability": "their chances",
        },
    ),
    Question(
        "What comes next",
        "The next event's type and category, and whether the session ends in a purchase. What the shop's data cannot "
        "teach is absent. More: [behavior.md](behavior.md).",
        (
            Signature("predict_behavior", "After a history.", HISTORY, f"predict-behavior {EVENTS}"),
            Signature("predict_behavior_for_user", "For a stored user.", USER, "predict-behavior --user {user}"),
        ),
        BEHAVIOR,
    ),
    Question(
        "Who is this",
        "The readable profile of a history: categories, brands, prices, activity. More: "
        "[explain.md](explain.md#what-a-user-is-about-user_profile-user_profile_for_history).",
        (
            Signature("user_profile", "Of a stored user.", USER, "profile --user {user}"),
            Signature("user_profile_for_history", "Of a history.", HISTORY, f"profile {EVENTS}"),
        ),
        PROFILE,
    ),
    Question(
        "What a page shows beside answers",
        "Facts of products, what is remembered of a user, and some users to begin with, which the "
        "[storefront](storefront.md) needs. The last two are left out of a bundle without users; they tell histories "
        "to whoever reaches the port, as all questions about a user do.",
        (
            Signature("product_details", "Of a product.", {"product_id": "{first}"}, "details --products {first}"),
            Signature("user_history", "Of a stored user.", USER, "history --user {user}"),
            Signature("example_users", "Some users, drawn by a seed.", {"seed": 1}, "users --seed 1"),
        ),
        {
            "title": "of the product or the event; of a search its query",
            "category": "the whole path",
            "brand": "its name",
            "price": "-1 where it is not known",
            "product_id": 'of the events, oldest first; of a search `""`',
            "event_type": "of the events",
            "user_id": "users",
            "product_count": "how many products each has met",
        },
    ),
)
