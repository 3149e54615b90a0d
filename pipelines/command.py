"""A job as a command: what goes wrong is one sentence, and an exit code."""

import logging
import os
import sys
from collections.abc import Callable

from tfrs_shop.errors import UserError


def exit_code(job: Callable[[Callable[[str], None]], object]) -> int:
    """Run `job`, which is given what prints a line, and return the exit code: 0; 2: a user's error; 130: stopped."""
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        job(lambda line: print(line, flush=True))
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; nothing was written.", file=sys.stderr)
        return 130
    return 0
