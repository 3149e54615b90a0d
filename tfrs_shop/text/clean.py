"""Cleaning of shop text: what a browser would show, as one line of normalised Unicode.

Decisions, where the standard leaves room:
- An element is removed only if HTML knows its name, so ``<Limited Edition>``, ``a < b`` and ``<3`` stay.
- A tag becomes a space (``<li>red</li><li>blue</li>`` is two words), except tags that sit inside words
  (``H<sub>2</sub>O``), which vanish.
- Named entities without semicolon are decoded as HTML does in attributes: only when no letter, digit or
  ``=`` follows, so ``Black&notebook`` and ``?a=1&copy=2`` stay.
- Format characters are dropped. A zero-width joiner or non-joiner stays where it has a meaning: inside an
  emoji sequence, and between letters of scripts that shape by it (Arabic, Indic).
- NFKC alone would turn ``1½`` into ``11⁄2`` and ``Nike™`` into ``NikeTM``: a space is set before such a
  fraction, the fraction slash becomes ``/``, and trade-mark signs are dropped.
"""

import html
import html.entities
import re
import unicodedata

# Elements of HTML, present and past. Others in angle brackets are text.
_ELEMENTS = """
a abbr acronym address applet area article aside audio b base basefont bdi bdo bgsound big blink blockquote body br
button canvas caption center cite code col colgroup data datalist dd del details dfn dialog dir div dl dt em embed
fieldset figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe img
input ins kbd label legend li link main map mark marquee menu meta meter nav nobr noframes noscript object ol optgroup
option output p param picture pre progress q rp rt ruby s samp script section select slot small source span strike
strong style sub summary sup svg table tbody td template textarea tfoot th thead time title tr track tt u ul var video
wbr
"""
_INSIDE_WORDS = "b|big|em|font|i|mark|s|small|strong|sub|sup|u|wbr"

_NAME = rf"(?:{'|'.join(_ELEMENTS.split())}|(?:o|v|w|st1):\w+)"
# Quoted attribute values may hold ">" but not "<": so no scan runs past the next tag, and time stays linear.
_ATTRIBUTES = r"""(?:[\s/](?:[^<>"']|"[^"<]*"|'[^'<]*')*|[\s/][^<>]*)?"""
_UNSEEN = re.compile(
    r"<!--.*?(?:-->|\Z)|<!doctype[^<>]*>|<\?xml[^<>]*>|<!\[CDATA\[|\]\]>"
    rf"|<(script|style)\b{_ATTRIBUTES}>.*?(?:</\1\s*>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_INLINE_TAG = re.compile(rf"</?(?:{_INSIDE_WORDS}){_ATTRIBUTES}>", re.IGNORECASE)
_TAG = re.compile(rf"</?{_NAME}{_ATTRIBUTES}>", re.IGNORECASE)
# A description that was cut off inside a tag: "... <br" or '... <a href="http://'.
_CUT_TAG = re.compile(rf"<(?:/{_NAME}|br|{_NAME}\s+[\w:-]+=[^<>]*)\s*/?\Z", re.IGNORECASE)

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31})(?:;|(?![a-zA-Z0-9=;]))")
_ESCAPED_AMPERSANDS = re.compile(r"&(?:(?:amp|#0*38|#x0*26);)+", re.IGNORECASE)

_FRACTION_AFTER_DIGIT = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅟])")
_TRADE_MARKS = re.compile("[™℠]")
_SHAPING = "\u0600-\u1fff\ua800-\uabff\U00011000-\U00011fff"
_EMOJI = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_IDLE_JOINER = re.compile(f"[\u200c\u200d](?![{_SHAPING}{_EMOJI}])|(?<![{_SHAPING}{_EMOJI}])[\u200c\u200d]", re.UNICODE)
_DROPPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_MANY_PASSES = 8


def clean_text(raw: str) -> str:
    """Return `raw` as a browser would show it, NFKC-normalised, on one line without outer white space.

    Entities are decoded however often they were escaped, tags and the contents of script and style
    removed, control and format characters dropped, white space folded. `clean_text` is idempotent.

    >>> clean_text("Tom &amp;amp; Jerry&amp;#39;s <b>Mug</b><br/>  11&nbsp;oz")
    "Tom & Jerry's Mug 11 oz"
    >>> clean_text('I <3 a < b, 5" x 3"')
    'I <3 a < b, 5" x 3"'
    """
    text = _one_pass(raw)
    before = raw
    passes = 1
    while text != before:
        if passes == _MANY_PASSES:
            # Only hostile text nests so deep ("&am&am&#112;p;p;..."); without these two nothing is left to undo.
            text = text.replace("&", " ").replace("<", " ")
        before, text = text, _one_pass(text)
        passes += 1
    return text


def _one_pass(text: str) -> str:
    if "&" in text:
        text = _ENTITY.sub(_decode, _ESCAPED_AMPERSANDS.sub("&", text))
    if "<" in text or "]]>" in text:
        text = _UNSEEN.sub(" ", text)
        text = _INLINE_TAG.sub("", text)
        text = _TAG.sub(" ", text)
        text = _CUT_TAG.sub(" ", text)
    if not text.isascii() or not text.isprintable():
        text = _normalise(text)
    return " ".join(text.split())


def _decode(match: re.Match[str]) -> str:
    entity = match.group()
    if entity[1] == "#" or entity.endswith(";") or entity[1:] in html.entities.html5:
        return html.unescape(entity)
    return entity


def _normalise(text: str) -> str:
    text = _TRADE_MARKS.sub("", _FRACTION_AFTER_DIGIT.sub(" ", text))
    # Dropped before NFKC, because a dropped character may stand between a letter and its accent.
    text = unicodedata.normalize("NFKC", "".join(map(_visible, text))).replace("\u2044", "/")
    return _IDLE_JOINER.sub("", text)


def _visible(char: str) -> str:
    if char.isspace() or char == "\ufffd":
        return " "
    if char in "\u200c\u200d":
        return char
    return "" if unicodedata.category(char) in _DROPPED_CATEGORIES else char
