"""Work beside traffic: in a thread to which the system gives what the threads that answer requests leave."""

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

# Beside threads that want all processors, one at this niceness gets about a tenth of one.
NICENESS = 15


def in_background(work: Callable[[], Result]) -> Result:
    """Do `work` in a thread of low priority, which threads that it starts inherit; return or raise what it does."""
    with ThreadPoolExecutor(1, thread_name_prefix="background", initializer=_yield_to_others) as pool:
        return pool.submit(work).result()


def _yield_to_others() -> None:
    # Only Linux has a priority for each thread; elsewhere this would be the process's.
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
