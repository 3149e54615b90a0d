"""The one error that is meant for the user's eyes."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What the user gave cannot be used; the message says what, where, and how to mend it.

    Commands print the message as one line on stderr and exit with code 2, without a traceback.
    """


def suggest(given: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known name nearest to `given`, or ``""``."""
    near = difflib.get_close_matches(given, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
