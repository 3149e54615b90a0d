"""Deadlines of requests that all have the same time: they pass in the order in which they began, by one timer."""

import asyncio
from typing import Protocol


class Timed(Protocol):
    """What has a deadline; told apart by identity."""

    def time_out(self) -> None:
        """The deadline has passed."""


class Deadlines:
    """Calls `time_out` of what began `seconds` ago and has not ended; used in the event loop alone.

    A timer for each request is a good part of what the server does for it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._running: dict[Timed, float] = {}
        self._armed = False

    def begin(self, timed: Timed) -> None:
        """Give it its time."""
        due = self._running[timed] = self._loop.time() + self._seconds
        if not self._armed:
            self._armed = True
            self._loop.call_at(due, self._pass)

    def end(self, timed: Timed) -> None:
        """It has ended, in time or not."""
        self._running.pop(timed, None)

    def _pass(self) -> None:
        late = []
        for timed, due in self._running.items():
            if due > self._loop.time():
                self._loop.call_at(due, self._pass)
                break
            late.append(timed)
        else:
            self._armed = False
        for timed in late:
            self.end(timed)
        for timed in late:
            timed.time_out()
