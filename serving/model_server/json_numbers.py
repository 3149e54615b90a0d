"""Numbers of JSON text, read and written digit for digit as TensorFlow Serving does.

TensorFlow Serving reads numbers with RapidJSON 1.1.0 in its fast mode, whose doubles can differ from the correctly
rounded ones in the last place, and writes six significant digits where those read back equal.
"""

import math
import re
from array import array
from collections.abc import Iterable, Sequence

INT64_MIN, INT64_MAX, UINT64_MAX = -(2**63), 2**63 - 1, 2**64 - 1
_MAX_EXACT = 2**53 - 1
_ALMOST_MAX = 1.7976931348623157e307
_POWERS = [float(f"1e{n}") for n in range(309)]
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?)(\d+))?")


class NumberTooBigError(ValueError):
    """The token is larger than any double."""


def _scale(significand: float, power: int) -> float:
    """`significand` times ten to the `power`, rounded twice at most, as RapidJSON's normal precision does."""
    if power < -308:
        return _scale(significand / _POWERS[308], power + 308) if power + 308 >= -308 else 0.0
    return significand * _POWERS[power] if power >= 0 else significand / _POWERS[-power]


def _integer_digits(digits: str, limit: int) -> tuple[int, float | None, int]:
    """Read leading digits: the exact integer, or the double it overflows into, and the count of significant digits."""
    if len(digits) <= 20 and int(digits) <= limit:
        return int(digits), None, len(digits) - 1
    kept = 20 if len(digits) >= 20 and int(digits[:20]) <= limit else 19
    value = float(int(digits[:kept]))
    for digit in digits[kept:]:
        if value >= _ALMOST_MAX:
            raise NumberTooBigError
        value = value * 10 + int(digit)
    return 0, value, kept - 1


def _exponent(sign: str, digits: str, fraction_digits: int) -> int:
    """Read an exponent; positive ones are refused as soon as the number must exceed a double."""
    if sign == "-":
        return -int(digits.lstrip("0")[:9] or "0")
    value, most = int(digits[0]), 308 + fraction_digits
    for digit in digits[1:]:
        value = value * 10 + int(digit)
        if value > most:
            raise NumberTooBigError
    return value


def parse_number(token: str) -> int | float:
    """Return the int or double that RapidJSON 1.1.0 reads from a well-formed JSON number `token`."""
    matched = _NUMBER.fullmatch(token)
    if matched is None:
        raise ValueError(token)
    minus, whole, fraction, sign, exponent = matched.groups()
    exact, value, significant = _integer_digits(whole, 2**63 if minus else UINT64_MAX)
    if fraction is None and exponent is None and value is None:
        return -exact if minus else exact
    shift = 0
    rest = fraction or ""
    if value is None and fraction is not None:
        used = 0
        while used < len(rest) and exact <= _MAX_EXACT:
            exact = exact * 10 + int(rest[used])
            used += 1
            significant += exact != 0
        shift, rest = -used, rest[used:]
    value = float(exact) if value is None else value
    for digit in rest:
        if significant >= 17:
            break
        value = value * 10.0 + int(digit)
        shift -= 1
        significant += value > 0.0
    power = _exponent(sign, exponent, -shift) if exponent is not None else 0
    value = _scale(value, power + shift)
    return -value if minus else value


def format_floats(values: Sequence[float], single: bool) -> list[str]:
    """Write doubles as TensorFlow Serving does; `single` says that they came from float32.

    >>> format_floats([2.0, 0.1, 1e-05, 16777216.0, float("nan")], single=True)
    ['2.0', '0.1', '1e-05', '16777216.0', 'NaN']
    """
    given = tuple(values)
    short, whole = _written("%g", given), _written("%.9g" if single else "%.17g", given)
    read_back: Iterable[float] = map(float, short)
    if single:
        read_back = array("f", read_back)
    texts = [
        text if back == value else exact
        for text, back, value, exact in zip(short, read_back, given, whole, strict=True)
    ]
    return [text if "." in text or "e" in text else _without_point(text) for text in texts]


def _written(form: str, values: tuple[float, ...]) -> list[str]:
    """Each value in a form of ``%``, all in one step."""
    return (f"{form} " * len(values) % values).split()


def _without_point(text: str) -> str:
    if text == "nan":
        return "NaN"
    if text.endswith("inf"):
        return "-Infinity" if text[0] == "-" else "Infinity"
    return text + ".0"


def shortest_double(value: float) -> str:
    """Write a finite double in the fewest digits, laid out as RapidJSON's writer does (``1e30``, ``0.001``)."""
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if value == 0:
        return sign + "0.0"
    digits, _, power = repr(abs(value)).partition("e")
    whole, _, fraction = digits.partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(power or 0)
    significant = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(significant) if whole.strip("0") == "" else 0
    trimmed = significant.rstrip("0")
    if len(trimmed) <= point <= 21:
        return sign + trimmed + "0" * (point - len(trimmed)) + ".0"
    if 0 < point <= 21:
        return sign + trimmed[:point] + "." + trimmed[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + trimmed
    tail = "." + trimmed[1:] if len(trimmed) > 1 else ""
    return f"{sign}{trimmed[0]}{tail}e{point - 1}"
