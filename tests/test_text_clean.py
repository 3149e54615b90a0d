"""Cleaning, words, sentences and behaviour text: pure Python, so no TensorFlow here."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrs_shop.text.behavior import behavior_text
from tfrs_shop.text.clean import clean_text
from tfrs_shop.text.sentences import split_sentences
from tfrs_shop.text.tokenize import STOP_WORDS, words

# Pieces that make entities, tags, joiners and sentence ends meet in all orders.
PIECES = [
    *"&;#<>/=\"'.,!?- \n\t38xlgt",
    *["amp", "&amp;", "&#39", "&lt;", "&#x26;", "<b>", "</p>", "<br/>", "<script>", "</script>", "<!--", "-->"],
    *["<p class='a>b'>", "a<", "]]>", "&nbsp;", "\u200d", "\u200c", "\u00ad", "\ufeff", "\u0301", "é", "＆", "＜", "™"],
    *["½", "1", "👩", "中", "。", "ﬁ", "\ud800", "\x00", "\x1c", "\u2028", "كتاب", "क", "ß", "oz", "Σ", "…", "”"],
]
messy_text = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=30).map("".join))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Women&amp;#39;s Shoes", "Women's Shoes"),
        ("Women&amp;amp;amp;#x27;s Shoes", "Women's Shoes"),
        ("&quot;Best&quot; 5&nbsp;oz &eacute;clair &euro;9", '"Best" 5 oz éclair €9'),
        ("AT&T, H&M, Q&A & R&D;", "AT&T, H&M, Q&A & R&D;"),
        ("Salt &amp Pepper", "Salt & Pepper"),
        ("Black&notebook shop?a=1&copy=2", "Black&notebook shop?a=1&copy=2"),
        ("<p>Soft</p><ul><li>red</li><li>blue</li></ul>", "Soft red blue"),
        ("H<sub>2</sub>O <b>Pu</b>re<br>Water", "H2O Pure Water"),
        ("&lt;b&gt;Bold&lt;/b&gt; claim", "Bold claim"),
        ("keep <script type='x'>var a = '<b>';</script> and <style>p {}</style>this", "keep and this"),
        ("a <!-- hidden > --> b <![CDATA[ c ]]>", "a b c"),
        ('<a title="a > b" href=x>link</a>', "link"),
        ('cut off <a href="http://', "cut off"),
        ("a < b and c > d", "a < b and c > d"),
        ("I <3 this", "I <3 this"),
        ('5" x 3"', '5" x 3"'),
        ("<Limited Edition> Perfume <foo@bar.com>", "<Limited Edition> Perfume <foo@bar.com>"),
        ("ＡＢＣ　１２３ ﬁne", "ABC 123 fine"),
        ("Nike™ Air® 1½ oz x ¼ in", "Nike Air® 1 1/2 oz x 1/4 in"),
        ("so\u00adft\ufeff \u200bzero\x00 \ufffd tab\there\r\nline\u2028end", "soft zero tab here line end"),
        ("e\u0301", "é"),
        ("e\u00ad\u0301", "é"),
        ("👩\u200d👩\u200d👧 family", "👩\u200d👩\u200d👧 family"),
        ("a\u200db", "ab"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\ud800broken", "broken"),
        ("  \n ", ""),
        ("", ""),
    ],
)
def test_cleaning_shows_what_a_browser_would_show(raw: str, expected: str) -> None:
    assert clean_text(raw) == expected


@settings(max_examples=300, deadline=None)
@given(messy_text)
def test_cleaning_twice_is_cleaning_once(raw: str) -> None:
    cleaned = clean_text(raw)
    assert clean_text(cleaned) == cleaned
    assert cleaned == " ".join(cleaned.split())
    cleaned.encode("utf-8")


@pytest.mark.parametrize(
    "hostile",
    [
        "&amp;" * 50_000,
        "&" + "amp;" * 50_000,
        "<" * 100_000,
        "<b " * 50_000,
        '<b "' * 50_000,
        "<b>" * 50_000,
        "<<b>b>" * 30_000,
        "<<" * 20_000 + "b>" * 20_000,
        "<i" * 30_000 + "<i>" + ">" * 30_000,
        "&am" * 30_000 + "&#112;" + "p;" * 30_000,
        "<!--" * 30_000,
        "<script>" * 30_000,
        " " * 200_000 + "<",
        "<br" + " " * 100_000 + "x",
    ],
    ids=lambda text: text[:12],
)
def test_hostile_text_is_cleaned_in_linear_time_and_stays_clean(hostile: str) -> None:
    cleaned = clean_text(hostile)  # a quadratic pass would take minutes
    assert clean_text(cleaned) == cleaned


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sony WH-1000XM4 Headphones", ["sony", "wh-1000xm4", "headphones"]),
        ("Anti-Aging 3-Piece USB-C", ["anti", "aging", "3", "piece", "usb", "c"]),
        ("1.7oz, 1,000 pcs, 2.5 mm; 1,5", ["1.7oz", "1000", "pcs", "2.5", "mm", "1", "5"]),
        ("Women's L'Oréal don’t", ["women", "l'oréal", "don't"]),
        ("H&M AT&T black&white", ["h&m", "at&t", "black", "white"]),
        ("香水 perfume シャネル No.5", ["香", "水", "perfume", "シ", "ャ", "ネ", "ル", "no", "5"]),
        ("한국 화장품", ["한국", "화장품"]),
        ("हिन्दी किताब", ["हिन्दी", "किताब"]),
        ("می\u200cخواهم", ["میخواهم"]),
        ("snake_case 💄❤️ !!!", ["snake", "case"]),
        ("GROẞE Straße ﬁne", ["große", "straße", "fine"]),
        ("", []),
    ],
)
def test_words_are_lower_cased_and_split_as_shoppers_search(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_stop_words_go_only_when_asked_and_negations_stay() -> None:
    assert words("The cream is not for the face") == ["the", "cream", "is", "not", "for", "the", "face"]
    assert words("The cream is not for the face", drop_stop_words=True) == ["cream", "not", "face"]
    assert not STOP_WORDS & {"no", "not", "without", "free", "off"}


@settings(max_examples=300, deadline=None)
@given(messy_text)
def test_words_of_the_words_are_the_same_words(text: str) -> None:
    found = words(text)
    assert words(" ".join(found)) == found
    assert all(word and not word.isspace() for word in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Soft. Warm! Really? Yes… ok", ["Soft.", "Warm!", "Really?", "Yes…", "ok"]),
        ('He said "stop." Then left', ['He said "stop."', "Then left"]),
        ("30.5 degrees at example.com", ["30.5 degrees at example.com"]),
        ("好用。很香！推荐", ["好用。", "很香！", "推荐"]),
        ("first line\nsecond line", ["first line", "second line"]),
        ("  ", []),
        ("", []),
    ],
)
def test_text_is_split_after_sentence_marks(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


def test_a_long_sentence_is_cut_into_pieces_of_at_most_max_words() -> None:
    assert split_sentences("a b c d e. f", max_words=2) == ["a b", "c d", "e.", "f"]
    assert split_sentences("香水很香", max_words=3) == ["香水很", "香"]
    with pytest.raises(ValueError, match="max_words must be at least 1, not 0"):
        split_sentences("a", max_words=0)


@settings(max_examples=300, deadline=None)
@given(messy_text, st.integers(1, 5))
def test_splitting_loses_nothing_but_white_space(text: str, max_words: int) -> None:
    sentences = split_sentences(text, max_words)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence.strip() for sentence in sentences)


def test_behaviour_text_is_newest_first_and_merges_repeats() -> None:
    events = [
        ("search", "face cream"),
        ("view", "Dr. Bronner's Soap 8 oz."),
        ("cart", "Dr. Bronner's Soap 8 oz."),
        ("view", ""),
        ("purchase", "Wow! Lipstick"),
        ("return", "Wow! Lipstick"),
        ("search", "face cream"),
    ]
    assert behavior_text(events) == "face cream. Wow Lipstick. Dr Bronner's Soap 8 oz. face cream"
    assert behavior_text(events, max_items=2) == "face cream. Wow Lipstick"
    assert behavior_text(events, max_items=0) == ""
    assert behavior_text([]) == ""


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["view", "cart"]), messy_text), max_size=8))
def test_splitting_behaviour_text_on_sentences_gives_its_items_back(events: list[tuple[str, str]]) -> None:
    text = behavior_text(events)
    items = text.split(". ") if text else []
    assert [sentence.rstrip(".") for sentence in split_sentences(text)] == items


@pytest.mark.parametrize("module", ["clean", "tokenize", "behavior", "sentences"])
def test_beam_workers_clean_text_without_importing_tensorflow(module: str) -> None:
    code = f"import sys, tfrs_shop.text.{module}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
