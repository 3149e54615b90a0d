"""Words of a text, for bag-of-words features, facets and query logs (not for BERT, which has its own)."""

import re
import unicodedata

_STOP_WORDS = """
a about after again all also am an and any are as at be because been before being both but by can could did do
does doing during each few for from further had has have having he her here hers him his how i if in into is it
its itself just me more most my of on once only or other our ours own same she should so some such than that the
their theirs them then there these they this those through to too under until up us very was we were what when
where which while who whom whose why will with would you your yours
"""
# Written for shop text: function words only; "no", "not", "without", "free" carry meaning there and stay out.
STOP_WORDS = frozenset(_STOP_WORDS.split())

_CJK = (
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
# Combining marks (vowel signs of Indic scripts, Thai tones, ...) are no \w for `re`; without them words fall apart.
_MARKS = "".join(
    chr(code)
    for block in (range(0x300, 0x1E00), range(0x20D0, 0x20F1), range(0xA66F, 0xABFF), range(0x11000, 0x11A00))
    for code in block
    if unicodedata.category(chr(code)).startswith("M")
)


def _word_pattern(letter: str, alone: str) -> re.Pattern[str]:
    """Compile: a lone character | 1,000.5 | h&m | letters and digits, joined by ' or - and by decimal points."""
    run = rf"(?:{letter})+"
    part = rf"{run}(?:(?<=\d)\.(?=\d){run})*"
    return re.compile(
        rf"{alone}"
        rf"(?<![^\W_])\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?(?!{letter}|,\d)"
        rf"|(?<![^\W_])[a-z]{{1,2}}(?:&[a-z]{{1,2}})+(?!{letter})"
        rf"|{part}(?:['-]{part})*"
    )


_ASCII_WORD = _word_pattern("[a-z0-9]", "")
_ANY_WORD = _word_pattern(rf"(?![{_CJK}])[^\W_][{_MARKS}]*", rf"[{_CJK}]|")


def words(text: str, drop_stop_words: bool = False) -> list[str]:
    """Return the lower-cased words of `text` in order; with `drop_stop_words` without English function words.

    Chinese and Japanese characters are words by themselves. Numbers keep their decimals and lose their
    thousands commas. A hyphen is kept where a model number follows it (``wh-1000xm4``); other hyphenated
    words are split, so that ``anti-aging`` meets ``anti aging``. The possessive ``'s`` is dropped.

    >>> words("Sony WH-1000XM4: Women's Anti-Aging, 1,000 x 2.5 oz")
    ['sony', 'wh-1000xm4', 'women', 'anti', 'aging', '1000', 'x', '2.5', 'oz']
    """
    if text.isascii():
        pattern, text = _ASCII_WORD, text.lower()
    else:
        # Soft hyphens, joiners and their kin are inside words, not between them.
        text = "".join(char for char in text if char.isascii() or unicodedata.category(char) != "Cf")
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower()).replace("\u2019", "'")
        pattern = _ANY_WORD
    found: list[str] = []
    for word in pattern.findall(text):
        if "-" in word:
            found += map(_without_possessive, _split_hyphens(word))
        elif "," in word:
            found.append(word.replace(",", ""))
        else:
            found.append(_without_possessive(word))
    if drop_stop_words:
        return [word for word in found if word not in STOP_WORDS]
    return found


def _split_hyphens(word: str) -> list[str]:
    """Split at hyphens, but not between a letter and a digit: wh-1000xm4 stays, 3-piece and anti-aging do not."""
    parts = word.split("-")
    kept = [parts[0]]
    for part in parts[1:]:
        if kept[-1][-1].isalpha() and part[0].isdigit():
            kept[-1] += "-" + part
        else:
            kept.append(part)
    return kept


def _without_possessive(word: str) -> str:
    return word[:-2] if word.endswith("'s") and len(word) > 2 else word
