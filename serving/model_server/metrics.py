"""Counts and latencies under TensorFlow Serving's names, and the page that Prometheus scrapes."""

import bisect
import re
import threading
from collections.abc import Sequence

# Scale 10, power 1.8, 33 buckets: 10 microseconds to some 20 minutes.
_LATENCY_LIMITS = [10 * 1.8**power for power in range(33)]
_COUNT_LIMITS = [2.0**power for power in range(15)]
_MAX_SERIES = 1000
_OTHERS = "(others)"


class _Metric:
    def __init__(self, name: str, labels: Sequence[str]) -> None:
        self.name = re.sub(r"[^a-zA-Z0-9_]", ":", name)
        self._labels = labels
        self._lock = threading.Lock()

    def _key(self, values: tuple[str, ...], known: int, seen: bool) -> tuple[str, ...]:
        # Names come from clients, so the number of series has an end.
        return values if seen or known < _MAX_SERIES else (_OTHERS, *values[1:])

    def _text(self, values: tuple[str, ...]) -> str:
        pairs = zip(self._labels, values, strict=True)
        return ",".join(f'{re.sub("[^a-zA-Z0-9]", "_", label)}="{_escaped(value)}"' for label, value in pairs)


class Counter(_Metric):
    """A number that only grows, for each combination of label values."""

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        super().__init__(name, labels)
        self._values: dict[tuple[str, ...], int] = {}

    def add(self, *labels: str, by: int = 1) -> None:
        """Count `by` more under these label values."""
        with self._lock:
            key = self._key(labels, len(self._values), labels in self._values)
            self._values[key] = self._values.get(key, 0) + by

    def first(self) -> int:
        """The value of the first series, 0 where there is none."""
        with self._lock:
            return next(iter(self._values.values()), 0)

    def lines(self) -> list[str]:
        """The metric in Prometheus's text format."""
        with self._lock:
            values = sorted(self._values.items())
        return [f"# TYPE {self.name} counter", *(f"{self.name}{{{self._text(key)}}} {count}" for key, count in values)]


class Histogram(_Metric):
    """A distribution, for each combination of label values."""

    def __init__(self, name: str, labels: Sequence[str], limits: Sequence[float] = _LATENCY_LIMITS) -> None:
        super().__init__(name, labels)
        self._limits = limits
        self._buckets: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, value: float) -> None:
        """Take one value into the distribution under these label values."""
        index = bisect.bisect_right(self._limits, value)
        with self._lock:
            key = self._key(labels, len(self._buckets), labels in self._buckets)
            buckets = self._buckets.get(key)
            if buckets is None:
                buckets = self._buckets[key] = [0] * (len(self._limits) + 1)
            buckets[index] += 1
            self._sums[key] = self._sums.get(key, 0.0) + value

    def lines(self) -> list[str]:
        """The metric in Prometheus's text format."""
        with self._lock:
            series = [(key, list(buckets), self._sums[key]) for key, buckets in sorted(self._buckets.items())]
        lines = [f"# TYPE {self.name} histogram"]
        for key, buckets, total in series:
            labels = self._text(key)
            count = 0
            for limit, size in zip([*(f"{limit:g}" for limit in self._limits), "+Inf"], buckets, strict=True):
                count += size
                lines.append(f'{self.name}_bucket{{{labels},le="{limit}"}} {count}')
            lines.append(f"{self.name}_sum{{{labels}}} {total:g}")
            lines.append(f"{self.name}_count{{{labels}}} {count}")
        return lines


REQUEST_COUNT = Counter("/tensorflow/serving/request_count", ("model_name", "status"))
REQUEST_LATENCY = Histogram("/tensorflow/serving/request_latency", ("model_name", "API", "entrypoint"))
RUNTIME_LATENCY = Histogram("/tensorflow/serving/runtime_latency", ("model_name", "API", "runtime"))
EXAMPLE_COUNTS = Histogram("/tensorflow/serving/request_example_counts", ("model",), _COUNT_LIMITS)
EXAMPLE_COUNT_TOTAL = Counter("/tensorflow/serving/request_example_count_total", ("model",))
REQUEST_LOG_COUNT = Counter("/tensorflow/serving/request_log_count", ("model_name", "status_code"))
WARMUP_LATENCY = Histogram("/tensorflow/serving/model_warmup_latency", ("model_path", "status"))
WARMUP_RECORDS = Counter("/tensorflow/serving/model_warmup_records_read", ("model_path", "status"))
LOAD_ATTEMPTS = Counter("/tensorflow/cc/saved_model/load_attempt_count", ("model_path", "status"))
LOAD_LATENCY = Counter("/tensorflow/cc/saved_model/load_latency", ("model_path",))
BATCH_SIZES = Histogram("/tensorflow/serving/batching_session/batch_size", ("model_name",), _COUNT_LIMITS)
QUEUING_LATENCY = Histogram("/tensorflow/serving/batching_session/queuing_latency", ("model_name",))

_ALL: tuple[Counter | Histogram, ...] = (
    LOAD_ATTEMPTS,
    LOAD_LATENCY,
    BATCH_SIZES,
    QUEUING_LATENCY,
    WARMUP_LATENCY,
    WARMUP_RECORDS,
    REQUEST_COUNT,
    EXAMPLE_COUNT_TOTAL,
    EXAMPLE_COUNTS,
    REQUEST_LATENCY,
    RUNTIME_LATENCY,
    REQUEST_LOG_COUNT,
)


def page() -> bytes:
    """All metrics in Prometheus's text format."""
    return ("\n".join(line for metric in _ALL for line in metric.lines()) + "\n").encode("utf-8", "replace")


def counter_value(name: str) -> int:
    """The first value of a counter by its TensorFlow name, 0 where there is no such counter."""
    for metric in _ALL:
        if isinstance(metric, Counter) and metric.name == re.sub(r"[^a-zA-Z0-9_]", ":", name):
            return metric.first()
    return 0


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
