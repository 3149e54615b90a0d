"""How gRPC calls end when the server goes away: running ones finish, and new ones are refused before the door is shut.

gRPC itself cancels a call that has reached the process, but not yet its handler, at the moment when a server stops. So
the server first refuses calls with UNAVAILABLE, which clients may send again elsewhere, until none has come for a
while; only then it stops.
"""

import asyncio
import time

REFUSAL = "The server is going away; connect to another one and send the request again."
# No call for so long: the clients have gone.
QUIET_SECONDS = 0.3
# Clients that do not listen are not waited for.
MOST_SECONDS = 5.0
_TICK = 0.02


class Drain:
    """Counts the calls that are ``running``, and from `refuse` on turns new ones away; used in the event loop alone."""

    def __init__(self) -> None:
        self._refusing = False
        self.running = 0
        self._last = 0.0

    def begin(self) -> bool:
        """Count a call, which must `end`; False where it is to be refused."""
        if self._refusing:
            self._last = time.monotonic()
            return False
        self.running += 1
        return True

    def end(self) -> None:
        """The end of what `begin` began."""
        self.running -= 1

    def refuse(self) -> None:
        """Take no new calls."""
        self._refusing = True
        self._last = time.monotonic()

    async def wait_until_quiet(self, seconds: float) -> None:
        """Wait at most `seconds` for running calls to end and for clients to stop asking."""
        start = time.monotonic()
        while (now := time.monotonic()) < start + seconds:
            quiet = now - self._last >= QUIET_SECONDS or now - start >= MOST_SECONDS
            if not self.running and quiet:
                return
            await asyncio.sleep(_TICK)
