"""Calls from any thread into an event loop, which is woken once for all that wait."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any


class LoopCalls:
    """Runs functions in an event loop, in the order in which they were passed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._woken = False

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """From any thread: have the loop call `function`."""
        self._waiting.append((function, arguments))
        if not self._woken:
            self._woken = True
            # A loop that has stopped has sent its clients away already.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._woken = False
        while self._waiting:
            function, arguments = self._waiting.popleft()
            function(*arguments)
