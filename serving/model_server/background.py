"""Work beside traffic: in a thread to which the system gives what the threads that answer requests leave."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

# More than the process has. Beside threads that want all processors, one that is so much nicer gets a thirtieth of one.
NICER = 15


def in_background(work: Callable[[], Result]) -> Result:
    """Do `work` in a thread of low priority, which threads that it starts inherit; return or raise what it does."""
    # On Linux each thread has a niceness of its own.
    with ThreadPoolExecutor(1, thread_name_prefix="background", initializer=os.nice, initargs=(NICER,)) as pool:
        return pool.submit(work).result()
