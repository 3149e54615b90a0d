"""Deadlines pass in order, only for what has not ended, and hold on to nothing that has."""

import gc
import weakref
from collections.abc import Callable

import pytest

from serving.model_server.deadlines import Deadlines


class Loop:
    """An event loop's clock and timers, in which time passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, call: Callable[[], None]) -> None:
        self.timers.append((due, call))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timers and min(due for due, _ in self.timers) <= end:
            self.now, call = timer = min(self.timers, key=lambda timer: timer[0])
            self.timers.remove(timer)
            call()
        self.now = end


class Waiting:
    def __init__(self, name: str, late: list[str]) -> None:
        self.name, self.late = name, late

    def time_out(self) -> None:
        self.late.append(self.name)


@pytest.fixture
def loop():
    return Loop()


def test_what_has_not_ended_is_late_in_the_order_in_which_it_began(loop):
    late: list[str] = []
    deadlines = Deadlines(loop, 10.0)
    first, second, third = (Waiting(name, late) for name in ("first", "second", "third"))
    for waiting in (first, second, third):
        deadlines.begin(waiting)
    deadlines.end(second)
    loop.advance(9.9)
    assert late == []
    loop.advance(0.1)
    assert late == ["first", "third"]
    deadlines.end(first)  # It was late, and has ended now.
    loop.advance(100.0)
    assert late == ["first", "third"]


def test_each_has_its_own_time_and_there_is_one_timer_for_all(loop):
    late: list[str] = []
    deadlines = Deadlines(loop, 10.0)
    for number in range(5):
        deadlines.begin(Waiting(str(number), late))
        loop.advance(1.0)
    assert len(loop.timers) == 1
    loop.advance(5.0)
    assert late == ["0"]
    loop.advance(2.5)
    assert late == ["0", "1", "2"]


def test_a_deadline_passes_also_after_a_time_without_any(loop):
    late: list[str] = []
    deadlines = Deadlines(loop, 10.0)
    ended = Waiting("ended", late)
    deadlines.begin(ended)
    deadlines.end(ended)
    loop.advance(25.0)
    assert loop.timers == []
    deadlines.begin(Waiting("late", late))
    loop.advance(10.0)
    assert late == ["late"]


def test_what_has_ended_in_time_is_not_kept_until_its_deadline(loop):
    deadlines = Deadlines(loop, 10.0)
    waiting = Waiting("it", [])
    gone = weakref.ref(waiting)
    deadlines.begin(waiting)
    deadlines.end(waiting)
    del waiting
    gc.collect()
    assert gone() is None
