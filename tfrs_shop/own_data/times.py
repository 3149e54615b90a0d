"""Times: in which of their many forms a column holds them."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timezone
from typing import Any, Literal

from pipelines import values
from pipelines.values import RowError

EARLIEST, LATEST = (datetime(year, 1, 1, tzinfo=timezone.utc).timestamp() for year in (1990, 2100))
LEAST_SHARE = 0.9
LOOKED_AT = 2000
# Where all days are 12 at most, the first of two that fit is the guess: with a slash the month first, else the day.
FORMATS = (
    *("%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y", "%d/%m/%Y"),
    *("%m/%d/%y %H:%M", "%d/%m/%y %H:%M", "%m/%d/%y", "%d/%m/%y", "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p"),
    *("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d.%m.%y", "%d.%m.%y %H:%M", "%d.%m.%Y, %H:%M"),
    *("%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%d-%m-%Y", "%m-%d-%Y", "%m-%d-%Y %H:%M", "%m-%d-%Y %H:%M:%S"),
    *("%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y.%m.%d", "%Y-%m-%d %H", "%Y-%m-%d_%H:%M:%S"),
    *("%m %d, %Y", "%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y %H:%M"),
    *("%d %b %Y %H:%M", "%d %b %Y %H:%M:%S", "%d/%b/%Y:%H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %Z"),
    *("%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %z %Y", "%Y-%m-%d %H:%M:%S %z", "%Y-%m-%d %I:%M:%S %p"),
)
_COMPACT = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_SINCE_1970: dict[Literal["s", "ms", "us", "ns"], float] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


@dataclasses.dataclass(frozen=True)
class Times:
    """How a column of times is read.

    Attributes:
        share: of its values that can be read so, at least ``LEAST_SHARE``.
        formats: ``strptime`` formats, if it needs any.
        unit: of a number since 1970.
        or_else: the format that would fit all values just as well.
        days_only: no value has a time of day.
    """

    share: float
    formats: tuple[str, ...] = ()
    unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    or_else: str = ""
    days_only: bool = False


def times_of(found: Iterable[Any]) -> Times | None:
    """Return how the values `found` are read as times, or None where they are none."""
    found = list(found)
    if not found or any(isinstance(value, list | dict | bool) for value in found):
        return None
    distinct = list(dict.fromkeys(found))[:LOOKED_AT]
    if all(isinstance(value, date) for value in distinct):
        return Times(1.0, days_only=not any(isinstance(value, datetime) for value in distinct))
    texts = [str(value).strip() for value in distinct]
    return _numbers(texts) or _iso(texts) or _formatted(texts)


def _numbers(texts: list[str]) -> Times | None:
    found = [number for number in map(_number, texts) if number is not None]
    if len(found) < LEAST_SHARE * len(texts):
        return None
    for unit, factor in _SINCE_1970.items():
        share = sum(EARLIEST * factor <= number <= LATEST * factor for number in found) / len(texts)
        if share >= LEAST_SHARE:
            return Times(share, unit=unit)
    form = _COMPACT.get(Counter(map(len, texts)).most_common(1)[0][0])
    share = _share(texts, form) if form else 0.0
    return Times(share, (form,), days_only=form == "%Y%m%d") if form and share >= LEAST_SHARE else None


def _iso(texts: list[str]) -> Times | None:
    def reads(text: str) -> bool:
        if _number(text) is not None:
            return False
        try:
            return EARLIEST <= values.time("", text) / 1000 <= LATEST
        except RowError:
            return False

    share = sum(map(reads, texts)) / len(texts)
    return Times(share, days_only=all(len(text) <= 10 for text in texts)) if share >= LEAST_SHARE else None


def _formatted(texts: list[str]) -> Times | None:
    # Most columns are no times at all, and a few values tell.
    likely = [form for form in FORMATS if _share(texts[:20], form) >= LEAST_SHARE / 2]
    if not likely:
        return None
    shares = {form: _share(texts, form) if form in likely else 0.0 for form in FORMATS}
    best = max(FORMATS, key=lambda form: shares[form])
    if shares[best] < LEAST_SHARE:
        return None
    other = next((form for form in FORMATS if form != best and shares[form] == shares[best]), "")
    return Times(shares[best], (best,), or_else=other, days_only="%H" not in best and "%I" not in best)


def _share(texts: list[str], form: str) -> float:
    return sum(_reads(text, form) for text in texts) / len(texts)


def _reads(text: str, form: str) -> bool:
    try:
        return 1990 <= datetime.strptime(text, form).year <= 2100
    except ValueError:
        return False


def _number(text: str) -> float | None:
    try:
        return float(text) if text[:1] in "0123456789" else None
    except ValueError:
        return None
