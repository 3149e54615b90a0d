"""Counting with combiners: exact and free of order, so that every engine gives the same numbers.

Sums are kept in whole millionths and quantiles come from a histogram with fixed bins, because sums of floats and
sketches depend on the order in which workers' parts are merged.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

_BINS_PER_DOUBLING = 8
QUANTILES = 16

TallyKey = tuple[str, str]


@beam.typehints.with_output_types(tuple[TallyKey, int])
class Tally(beam.DoFn):
    """Counts the keys of its elements, and yields ``(key, count)`` once for a bundle of elements.

    A key is ``(group, name)``, such as ``("rows", "events read")``; there must be few of them.

    Args:
        keys: from an element to the keys under which it counts.
    """

    def __init__(self, keys: Callable[[Any], Iterable[TallyKey]]):
        self.keys = keys

    def start_bundle(self) -> None:
        """Start from nothing: what a bundle that failed has counted is not counted."""
        self.counts: Counter[TallyKey] = Counter()

    def process(self, element: Any) -> None:
        """Count one element."""
        self.counts.update(self.keys(element))

    def finish_bundle(self) -> Iterator[Any]:
        """Yield the counts."""
        for pair in self.counts.items():
            yield GlobalWindows.windowed_value(pair)


class NumberStatistics(beam.CombineFn):
    """Combines numbers into ``{count, mean, std, min, max, quantiles}``; quantiles are the 15 inner 16-quantiles."""

    def create_accumulator(self) -> tuple[int, int, int, float, float, dict[int, int]]:
        """Return (count, sum, sum of squares, minimum, maximum, histogram)."""
        return 0, 0, 0, math.inf, -math.inf, {}

    def add_input(self, accumulator: Any, element: float) -> Any:
        """Add one number."""
        count, total, squares, low, high, bins = accumulator
        whole = round(element * 1_000_000)
        place = _bin(element)
        bins[place] = bins.get(place, 0) + 1
        return count + 1, total + whole, squares + whole * whole, min(low, element), max(high, element), bins

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        """Add up the parts."""
        count, total, squares, low, high = 0, 0, 0, math.inf, -math.inf
        bins: Counter[int] = Counter()
        for part in accumulators:
            count, total, squares = count + part[0], total + part[1], squares + part[2]
            low, high = min(low, part[3]), max(high, part[4])
            bins.update(part[5])
        return count, total, squares, low, high, dict(bins)

    def extract_output(self, accumulator: Any) -> dict[str, Any]:
        """Return the statistics."""
        count, total, squares, low, high, bins = accumulator
        if not count:
            return {"count": 0}
        variance = (squares * count - total * total) / (count * count)
        return {
            "count": count,
            "mean": total / count / 1e6,
            "std": math.sqrt(max(variance, 0.0)) / 1e6,
            "min": low,
            "max": high,
            "quantiles": _quantiles(bins, count, low, high),
        }


def bucket(number: float) -> str:
    """Return the name of the bucket of `number`: buckets are fixed and about a fifth wide, above 1 in magnitude.

    >>> bucket(34), bucket(36), bucket(45), bucket(-0.05)
    ('31..37.1', '31..37.1', '44.3..52.8', '-0.189..0')
    """
    place = _bin(number) // 2
    low = (2.0 ** (abs(place) * 2 / _BINS_PER_DOUBLING) - 1.0) * (1 if place >= 0 else -1)
    high = _upper_edge(2 * place + 1)
    return f"{low + 0.0:.3g}..{high + 0.0:.3g}"


def _bin(number: float) -> int:
    """Return the histogram bin: logarithmic, 8 bins a doubling, below 1 in magnitude linear around 0."""
    place = int(math.log2(1.0 + abs(number)) * _BINS_PER_DOUBLING)
    return place if number >= 0 else -place - 1


def _upper_edge(place: int) -> float:
    if place < 0:
        return -(2.0 ** ((-place - 1) / _BINS_PER_DOUBLING) - 1.0)
    return 2.0 ** ((place + 1) / _BINS_PER_DOUBLING) - 1.0


def _quantiles(bins: dict[int, int], count: int, low: float, high: float) -> list[float]:
    edges: list[float] = []
    seen = 0
    wanted = [count * part / QUANTILES for part in range(1, QUANTILES)]
    for place in sorted(bins):
        seen += bins[place]
        while len(edges) < len(wanted) and seen >= wanted[len(edges)]:
            edges.append(min(max(_upper_edge(place), low), high))
    return edges


class HourCounts(beam.CombineFn):
    """Counts times (milliseconds since 1970) by the hour; twenty years are 175,000 numbers."""

    def create_accumulator(self) -> dict[int, int]:
        """Return no hours."""
        return {}

    def add_input(self, accumulator: dict[int, int], element: int) -> dict[int, int]:
        """Count one time."""
        hour = element // 3_600_000
        accumulator[hour] = accumulator.get(hour, 0) + 1
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[int, int]]) -> dict[int, int]:
        """Add up the parts."""
        total: Counter[int] = Counter()
        for part in accumulators:
            total.update(part)
        return dict(total)

    def extract_output(self, accumulator: dict[int, int]) -> dict[int, int]:
        """Return hour to count."""
        return accumulator


def time_cuts(hours: dict[int, int], validation_share: float, test_share: float) -> tuple[int, int]:
    """Return the times (ms) where validation and test start, so that they hold about the given shares of events.

    Cuts fall on whole hours, and a split holds no more than its share; where one hour holds more than that, it is for
    the split before, and the later one may be empty.
    """
    total = sum(hours.values())
    cuts: list[int] = []
    for share in (validation_share + test_share, test_share):
        left = total
        cut = max(hours, default=-1) + 1
        for hour in sorted(hours):
            if left <= total * share:
                cut = hour
                break
            left -= hours[hour]
        cuts.append(cut * 3_600_000)
    return cuts[0], cuts[1]
