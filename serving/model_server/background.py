"""Work beside traffic, in threads to which the system gives what the threads that answer requests leave."""

import contextlib
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")

# More than the process has. Beside threads that want all processors, one that is so much nicer gets a thirtieth of one.
NICER = 15
# An idle thread that has not hashed 8 MB after so long, which takes some milliseconds, gets hardly any of a processor.
ROOM_SECONDS = 0.1
_PROBE = bytes(8 << 20)


class Run(Protocol):
    """Does a step of some work and returns or raises what it does."""

    def __call__(self, step: Callable[[], Result], /) -> Result:
        """Do it."""


def at_once(step: Callable[[], Result]) -> Result:
    """Do a step in the caller's thread: where there is no traffic."""
    return step()


def in_background(work: Callable[[], Result]) -> Result:
    """Do `work` in a thread of low priority, which threads that it starts inherit; return or raise what it does."""
    with _thread(_be_nice) as thread:
        return thread.submit(work).result()


class Background:
    """Does work that takes long, step by step, in an idle thread where the processors have room, else in a nice one.

    An idle thread runs where no other wants the processor and is put aside at once when one does; a nice one, with its
    small share, is left to run for some milliseconds each time, and requests that wait for these take twice as long.
    But where the processors are never free, only the nice one ever gets there. Threads that a step starts inherit its
    priority.
    """

    def __init__(self) -> None:
        self._idle, self._nice = _thread(_be_idle), _thread(_be_nice)
        self._probe: Future[bytes] | None = None

    def run(self, step: Callable[[], Result], /) -> Result:
        """Do a step and return or raise what it does."""
        return (self._idle if self.has_room() else self._nice).submit(step).result()

    def has_room(self) -> bool:
        """Whether an idle thread gets on."""
        if self._probe is None or self._probe.done():
            self._probe = self._idle.submit(_little_work)
        return bool(wait([self._probe], ROOM_SECONDS).done)

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, *error: object) -> None:
        self._idle.shutdown(wait=False, cancel_futures=True)
        self._nice.shutdown()


def _little_work() -> bytes:
    # Hashing lets go of the interpreter's lock.
    return hashlib.sha256(_PROBE).digest()


def _thread(initializer: Callable[[], Any]) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="background", initializer=initializer)


def _be_nice() -> None:
    # On Linux each thread has a niceness of its own.
    os.nice(NICER)


def _be_idle() -> None:
    # A sandbox may forbid it; then it is no more than nice.
    _be_nice()
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
