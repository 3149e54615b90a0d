"""Progress of the job that runs in this process: rows read, texts encoded, and how long the rest may take.

Engines that run elsewhere count nothing here; then only the time is said.
"""

import time

from tfrs_shop.output import duration


class Progress:
    """Counts of the running job; workers of an engine in this process add to them."""

    def __init__(self) -> None:
        self.rows = self.texts = self.encoded = 0
        self.encoding_since = 0.0

    def begin_encoding(self) -> None:
        """Take note of when the encoder was ready."""
        self.encoding_since = self.encoding_since or time.monotonic()

    def line(self, seconds: float) -> str:
        """Return how far the job is after `seconds`, for people."""
        parts = [f"  ... Beam is working, {duration(seconds)} so far"]
        if self.rows:
            parts.append(f"{self.rows:,} rows read")
        if self.texts and self.encoded < self.texts:
            line = f"{self.encoded:,} of {self.texts:,} texts encoded"
            if self.encoded:
                pace = (time.monotonic() - self.encoding_since) / self.encoded
                line += f", about {duration(pace * (self.texts - self.encoded))} left"
            parts.append(line)
        return "; ".join(parts)


NOW = Progress()


def begin() -> None:
    """Count from nothing."""
    NOW.__init__()  # type: ignore[misc]


def found_text(text: str) -> str:
    """Count one text that is to be encoded, and return it."""
    NOW.texts += 1
    return text
