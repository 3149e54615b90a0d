"""Terms: what the lexical part of search matches, made of a catalogue's texts in the pipeline.

A *form* is a word as it is written, folded: no case, no accents. A *term* is what forms have in common: their Snowball
stem. A bundle holds a table from form to term, so that no server needs a stemmer. `forms` is done again in graph by
``tfrs_shop.served.query_forms``, for queries; the two must agree, and a test compares them.

>>> forms("Women's Anti-Aging Crème, 1,000 x 2.5 oz")
['women', 'anti', 'aging', 'antiaging', 'creme', '1000', 'x', '2_5', 'oz']
"""

import functools
import re
import unicodedata
from typing import Any

from tfrs_shop.text.tokenize import STOP_WORDS

# Each a word of its own: Chinese characters and Japanese kana, which no blanks part.
ALONE = "\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
APOSTROPHES = "'\u2018\u2019\u02bc`"
# Of a hyphenated word both its parts and the whole are forms, up to so many parts: t-shirt is "t", "shirt", "tshirt".
MOST_PARTS = 3

_ACCENTS = re.compile("[\u0300-\u036f]")
_ALONE = re.compile(f"([{ALONE}])")
_THOUSANDS = re.compile(r"([0-9]),([0-9]{3})")
_DECIMAL = re.compile(r"([0-9])\.([0-9])")
_ASCII_OUTSIDE = re.compile(r"[\x00-\x7f](?<![a-z0-9'`_-])")
_APOSTROPHE = re.compile(f"[{APOSTROPHES}]")
_POSSESSIVE = re.compile(f"[{APOSTROPHES}]s( |$)")


def forms(text: str) -> list[str]:
    """Return the forms of a cleaned text, in order; stop words are left out."""
    text = text.lower() if text.isascii() else _folded(text)
    for _ in range(2):  # neighbours share a digit: 1,000,000
        text = _THOUSANDS.sub(r"\1\2", text)
    text = text.replace("_", " ")
    for _ in range(2):
        text = _DECIMAL.sub(r"\1_\2", text)
    # Only what can be inside a word stays.
    text = _ASCII_OUTSIDE.sub(" ", text)
    if not text.isascii():
        text = "".join(char if char in _INSIDE or unicodedata.category(char)[0] in "LNM" else " " for char in text)
        text = _ALONE.sub(r" \1 ", text)
    text = _APOSTROPHE.sub("", _POSSESSIVE.sub(r"\1", text))
    found: list[str] = []
    for word in text.split():
        parts = [part for part in word.split("-") if part]
        found += parts
        if 1 < len(parts) <= MOST_PARTS:
            found.append("".join(parts))
    return [form for form in found if form not in STOP_WORDS]


def _folded(text: str) -> str:
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).lower())
    return unicodedata.normalize("NFC", _ACCENTS.sub("", text)).replace("\u03c2", "\u03c3")


_INSIDE = frozenset(f"{APOSTROPHES}-_")


@functools.lru_cache(maxsize=200_000)
def term_of(form: str) -> str:
    """Return the term of a form: its English Snowball stem; what is not English mostly is its own."""
    stem: str = _stemmer().stemWord(form)
    return stem


@functools.lru_cache(maxsize=1)
def _stemmer() -> Any:
    import snowballstemmer  # type: ignore[import-untyped]

    return snowballstemmer.stemmer("english")
