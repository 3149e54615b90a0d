"""Work beside traffic, in threads to which the system gives what the threads that answer requests leave."""

import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")

# More than the process has. Beside threads that want all processors, one that is so much nicer gets a thirtieth of one.
NICER = 15
# A busy server's next version shall not wait for ever: what is left after this long is done by a thread that is nice.
PATIENCE_SECONDS = 120.0


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
    """Does work that takes long, step by step, in an idle thread, and when that has taken too long in a nice one.

    An idle thread runs where no other wants the processor and is put aside at once when one does; a nice one, with
    its small share, is left to run for some milliseconds each time, and requests that wait for these take twice as
    long. Threads that a step starts inherit its priority.
    """

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patient_until = time.monotonic() + patience_seconds
        self._idle, self._nice = _thread(_be_idle), _thread(_be_nice)

    def run(self, step: Callable[[], Result], /) -> Result:
        """Do a step and return or raise what it does."""
        patient = time.monotonic() < self._patient_until
        return (self._idle if patient else self._nice).submit(step).result()

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, *error: object) -> None:
        self._idle.shutdown()
        self._nice.shutdown()


def _thread(initializer: Callable[[], Any]) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="background", initializer=initializer)


def _be_nice() -> None:
    # On Linux each thread has a niceness of its own.
    os.nice(NICER)


def _be_idle() -> None:
    # Only Linux has this, and a sandbox may forbid it; then it is no more than nice.
    _be_nice()
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
