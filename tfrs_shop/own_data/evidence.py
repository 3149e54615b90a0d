"""Evidence: what the values of a column are like, whatever it is called."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from pipelines import values
from pipelines.values import RowError
from tfrs_shop.mapping import TableMapping
from tfrs_shop.own_data.names import MISSING, event_word
from tfrs_shop.own_data.times import Times, times_of

MOST_TYPES = 40
SURE_SEPARATORS = (" > ", " / ", " » ", " → ", "|", ">")
SEPARATORS = (*SURE_SEPARATORS, "/", " - ", "::", ";", ".", "\\", ",", "»", "→")


class Column:
    """The values of one column in a sample.

    Args:
        name: the column's name.
        found: its values in the sampled rows; None where a row has none.
    """

    def __init__(self, name: str, found: Sequence[Any]):
        self.name = name
        self.rows = len(found)
        texts = [value.strip() if isinstance(value, str) else value for value in found]
        self.missing = Counter(value for value in texts if isinstance(value, str) and value in MISSING)
        self.per_row = [None if _none(value) else value for value in texts]
        self.values = [value for value in self.per_row if value is not None]

    @property
    def filled(self) -> float:
        """Share of the rows that have a value."""
        return len(self.values) / self.rows if self.rows else 0.0

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each value comes."""
        return Counter(str(value) for value in self.values)

    @property
    def unique(self) -> float:
        """Distinct values as a share of all."""
        return len(self.counts) / len(self.values) if self.values else 0.0

    @cached_property
    def is_plain(self) -> bool:
        """Whether no value is a list or a group of others."""
        return bool(self.values) and not any(isinstance(value, list | dict | tuple) for value in self.values)

    @cached_property
    def is_grouped(self) -> bool:
        """Whether a value is a group of others (a JSON object)."""
        return any(isinstance(value, dict) for value in self.values) or any(
            isinstance(value, list) and any(isinstance(part, dict) for part in value) for value in self.values
        )

    @cached_property
    def length(self) -> float:
        """Mean characters of a value."""
        return sum(len(str(value)) for value in self.values) / max(1, len(self.values))

    @cached_property
    def numbers(self) -> list[float]:
        """The values that are numbers."""
        return self._numbers(TableMapping())

    @cached_property
    def decimal_comma(self) -> bool:
        """Whether the values are numbers with a decimal comma, and not with a point."""
        if not self.is_plain or len(self.numbers) >= 0.98 * len(self.values):
            return False
        return len(self._numbers(TableMapping(decimal=","))) >= 0.95 * len(self.values)

    @cached_property
    def number_share(self) -> float:
        """Share of the values that are numbers."""
        most = len(self._numbers(TableMapping(decimal=","))) if self.decimal_comma else len(self.numbers)
        return most / len(self.values) if self.values else 0.0

    @cached_property
    def whole_share(self) -> float:
        """Share of the numbers that are whole."""
        return sum(number == int(number) for number in self.numbers) / max(1, len(self.numbers))

    @cached_property
    def times(self) -> Times | None:
        """How the values are read as times, or None."""
        return times_of(self.values) if self.is_plain else None

    @cached_property
    def may_be_an_id(self) -> bool:
        """Whether the values are short, and without spaces for the most part."""
        if not self.is_plain or any(isinstance(value, bool) for value in self.values) or self.length > 64:
            return False
        return sum(str(value).count(" ") > 1 for value in self.values) < 0.1 * len(self.values)

    @cached_property
    def looks_like_an_id(self) -> bool:
        """Whether the values look like ids whatever the name: they may be, and are no fractions."""
        return self.may_be_an_id and not (self.number_share > 0.9 and self.whole_share < 0.9)

    @cached_property
    def event_types(self) -> dict[str, str]:
        """The values that are words for an event type of ours, where the column is one of few words."""
        if not self.is_plain or len(self.counts) > MOST_TYPES:
            return {}
        return {value: ours for value in self.counts if (ours := event_word(value))}

    @property
    def event_share(self) -> float:
        """Share of the values that are words for an event type of ours."""
        return sum(self.counts[value] for value in self.event_types) / max(1, len(self.values))

    def separator(self) -> str:
        """Return what stands between the levels of a category path, or ""."""
        texts = [str(value) for value in self.values if isinstance(value, str)]
        if not texts or len(self.counts) < 2:
            return ""
        for separator in SEPARATORS:
            paths = [text.split(separator) for text in self.counts if separator in text]
            share = sum(self.counts[text] for text in self.counts if separator in text) / len(texts)
            if share < (0.2 if separator in SURE_SEPARATORS else 0.5):
                continue
            if separator in SURE_SEPARATORS:
                return separator
            # A path has fewer first levels than paths, and no empty level.
            firsts = {path[0] for path in paths}
            spaces = sum(level != level.strip() for path in paths for level in path)
            tight = separator.strip() == separator and separator in ".,/" and spaces
            if len(firsts) < max(2, 0.7 * len(paths)) and not tight and all(all(path) for path in paths[:100]):
                return separator
        return ""

    def _numbers(self, reading: TableMapping) -> list[float]:
        found = []
        for value in self.values:
            try:
                found.append(values.number("", value, decimal=reading.decimal))
            except RowError:
                continue
        return found


def _none(value: Any) -> bool:
    return value is None or value == "" or value == [] or (isinstance(value, str) and value in MISSING)


def depends(on: Column, column: Column) -> float | None:
    """Return how far the values of `column` follow from those of `on`: 1 where equal ones of `on` have equal ones.

    None where no value of `on` comes twice beside one of `column`.
    """
    seen: dict[str, Counter[str]] = {}
    for key, value in zip(on.per_row, column.per_row, strict=True):
        if key is not None and value is not None:
            seen.setdefault(str(key), Counter())[str(value)] += 1
    repeated = [counts for counts in seen.values() if counts.total() > 1]
    if not repeated:
        return None
    return sum(counts.most_common(1)[0][1] - 1 for counts in repeated) / sum(counts.total() - 1 for counts in repeated)
