"""Values: what a cell of a file becomes, or why it cannot be used."""

import math
import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timezone
from typing import Any, Literal

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
Decimal = Literal[".", ","]

LARGEST_FLOAT = 3.4028234e38  # of float32, in which records hold numbers
LARGEST_WHOLE = 2**53
_MILLISECONDS = {"s": 1000.0, "ms": 1.0, "us": 0.001, "ns": 0.000001}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d*)?")
_SHOWN = 60
_SENTENCE_ENDS = ".!?…。！？"


class RowError(Exception):
    """A row that cannot be used.

    Attributes:
        field: the field at fault, or "" for the row as a whole.
        kind: what is wrong, in the same few words for each such row, so that like ones are counted together.
        detail: the particulars of this row, or "".
    """

    def __init__(self, field: str, kind: str, detail: str = ""):
        super().__init__(field, kind, detail)
        self.field = field
        self.kind = kind
        self.detail = detail

    @property
    def reason(self) -> str:
        """The kind and the detail as one text."""
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def shown(value: Any) -> str:
    """Return `value` as an error shows it: quoted, on one line, in plain text, cut short."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def checked_text(field: str, value: Any) -> str:
    """Return `value` as text that is UTF-8.

    The readers keep a byte that is not UTF-8 as a lone surrogate, so that it costs one row and not the file.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, list | tuple | dict):
        raise RowError(field, "not a text", shown(value))
    text = str(value)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise RowError(field, "bad UTF-8", shown(text)) from None
    return text


def texts(field: str, value: Any) -> Iterator[str]:
    """Yield a text, or all texts of a list, which may hold lists."""
    if isinstance(value, list | tuple):
        for part in value:
            if part is not None:
                yield from texts(field, part)
    else:
        yield checked_text(field, value)


def joined(parts: Iterable[str]) -> str:
    """Return `parts` as the sentences of one text; empty ones are left out.

    >>> joined(["Soft", "", "Is it blue?", "Yes."])
    'Soft. Is it blue? Yes.'
    """
    text = ""
    for part in parts:
        if text and part:
            text += " " if text[-1] in _SENTENCE_ENDS else ". "
        text += part
    return text


def identifier(field: str, value: Any) -> str:
    """Return an id without outer blanks; a whole number is written without ``.0``."""
    if isinstance(value, float):
        # An id column with gaps, which pandas read as numbers: 17850.0 is 17850.
        if not math.isfinite(value):
            raise RowError(field, "not an id", shown(value))
        value = int(value) if value == int(value) else value
    if isinstance(value, list | tuple | dict | bool):
        raise RowError(field, "not an id", shown(value))
    text = checked_text(field, value).strip()
    if not text.isprintable() and _CONTROL.search(text):
        raise RowError(field, "control characters in an id", shown(text))
    return text


def number(field: str, value: Any, minimum: float = -math.inf, decimal: Decimal = ".") -> float:
    """Return a finite number that float32 can hold, not below `minimum`. ``$`` before it is allowed.

    With a comma as `decimal`, ``1.234,5`` is read, and ``1.5`` is refused: its point does not group thousands.
    """
    if isinstance(value, str | bytes):
        text = checked_text(field, value).strip().removeprefix("$")
        if decimal == ",":
            text = text.replace(".", "").replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else "not a number"
        found = _float(text)
    elif isinstance(value, bool | list | tuple | dict):
        found = None
    else:
        found = _float(value)
    if found is None:
        raise RowError(field, "not a number", shown(value))
    if not -LARGEST_FLOAT <= found <= LARGEST_FLOAT:
        raise RowError(field, "not a finite number", shown(value))
    if found < minimum:
        raise RowError(field, f"below {minimum:g}", shown(value))
    return found


def whole_number(field: str, value: Any, decimal: Decimal = ".") -> int:
    """Return a whole number, at most 2^53 in magnitude."""
    found = number(field, value, decimal=decimal)
    if found != int(found) or abs(found) > LARGEST_WHOLE:
        raise RowError(field, "not a whole number", shown(value))
    return int(found)


def time(field: str, value: Any, formats: Iterable[str] = (), unit: TimeUnit = "auto") -> int:
    """Return a time as milliseconds since 1970. A time without zone is taken as UTC.

    Args:
        field: which field it is, for an error.
        value: a datetime, a number since 1970, or a text.
        formats: ``strptime`` formats that a text is tried with first; then it may be a number, or ISO 8601.
        unit: of a number; ``auto`` tells by its size.
    """
    if isinstance(value, date):
        return _milliseconds(value if isinstance(value, datetime) else datetime(value.year, value.month, value.day))
    text = checked_text(field, value).strip()
    for form in formats:
        try:
            return _milliseconds(datetime.strptime(text, form))
        except ValueError:
            continue
    found = _float(text)
    if found is not None:
        return _numeric_time(field, found, unit)
    # datetime.fromisoformat takes "Z" and fractions of any length only from Python 3.11 on, " UTC" never.
    iso = re.sub(r"\s*(Z|z|UTC)$", "+00:00", text)
    iso = re.sub(r"[.,](\d+)", lambda fraction: "." + (fraction.group(1) + "000000")[:6], iso)
    iso = re.sub(r"([+-]\d\d)(\d\d)?$", lambda zone: f"{zone[1]}:{zone[2] or '00'}", iso) if ":" in iso else iso
    try:
        return _milliseconds(datetime.fromisoformat(iso))
    except ValueError:
        raise RowError(field, "not a time", shown(text)) from None


def _float(value: Any) -> float | None:
    # Python reads "1_000" as a thousand; in a data file it is a typing error.
    if isinstance(value, str) and "_" in value:
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return None


def _milliseconds(moment: datetime) -> int:
    return round((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp() * 1000)


def _numeric_time(field: str, found: float, unit: TimeUnit) -> int:
    if not math.isfinite(found):
        raise RowError(field, "not a time", shown(found))
    if unit == "auto":
        size = abs(found)
        unit = "s" if size < 1e11 else "ms" if size < 1e14 else "us" if size < 1e17 else "ns"
    milliseconds = round(found * _MILLISECONDS[unit])
    if abs(milliseconds) > LARGEST_WHOLE:
        raise RowError(field, "not a time", shown(found))
    return milliseconds
