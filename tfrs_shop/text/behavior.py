"""Behaviour text: the words of what a user did last, as one text for the query tower."""

import re
from collections.abc import Sequence

# What was sent back says little about what is wanted next; everything else a user did counts.
IGNORED_EVENT_TYPES = frozenset({"return"})

# Inside an item these would end a sentence (see sentences.py), so the item could not be told from its neighbour.
_INNER_CJK_END = re.compile("[。！？｡]+")
_INNER_END = re.compile(r"[.!?…]+(?=[\"'”’»)\]]*\s)")


def behavior_text(events: Sequence[tuple[str, str]], max_items: int = 20) -> str:
    """Return the texts of the last `max_items` events, newest first, joined by ``". "``.

    `events` are ``(event_type, text)`` pairs, oldest first: the query of a search, the product's title
    otherwise. Repeats of one text in a row (view, view, cart) are one item. Texts without words are skipped, and
    sentence marks inside a text are dropped, so that `split_sentences` gives the items back.

    >>> behavior_text([("search", "face cream"), ("view", "Olay Cream 1.7 oz."), ("cart", "Olay Cream 1.7 oz.")])
    'Olay Cream 1.7 oz. face cream'
    """
    items: list[str] = []
    if max_items < 1:
        return ""
    for event_type, text in reversed(events):
        item = _as_item(text)
        if not item or event_type in IGNORED_EVENT_TYPES or (items and items[-1] == item):
            continue
        items.append(item)
        if len(items) == max_items:
            break
    return ". ".join(items)


def _as_item(text: str) -> str:
    text = _INNER_END.sub(" ", _INNER_CJK_END.sub(" ", text))
    return " ".join(text.split()).rstrip(". ")
