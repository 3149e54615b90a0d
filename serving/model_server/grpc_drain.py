"""How gRPC calls end when the server goes away: running ones finish, and new ones are refused before the door is shut.

gRPC itself cancels a call that has reached the process, but not yet its handler, at the moment when a server stops. So
the server first refuses calls with UNAVAILABLE, which clients may send again elsewhere, until none has come for a
while; only then it stops.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

REFUSAL = "The server is going away; connect to another one and send the request again."
# No call for so long: the clients have gone.
QUIET_SECONDS = 0.3
# Clients that do not listen are not waited for.
MOST_SECONDS = 5.0
_TICK = 0.02
_HEALTH = "/grpc.health."


class Drain(grpc.ServerInterceptor):
    """Counts running calls, and from `refuse` on turns new ones away; the health service is left alone."""

    def __init__(self) -> None:
        self._changed = threading.Lock()
        self._refusing = False
        self._running = 0
        self._last = 0.0

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Return the handler of a call, counted."""
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None or handler_call_details.method.startswith(_HEALTH):
            return handler

        def counted(request: Any, context: grpc.ServicerContext) -> Any:
            if not self._begin():
                context.abort(grpc.StatusCode.UNAVAILABLE, REFUSAL)
            try:
                return handler.unary_unary(request, context)
            finally:
                self._end()

        return grpc.unary_unary_rpc_method_handler(counted, handler.request_deserializer, handler.response_serializer)

    def refuse(self) -> None:
        """Take no new calls."""
        with self._changed:
            self._refusing = True
            self._last = time.monotonic()

    def wait_until_quiet(self, seconds: float) -> None:
        """Wait at most `seconds` for running calls to end and for clients to stop asking."""
        start = time.monotonic()
        while (now := time.monotonic()) < start + seconds:
            with self._changed:
                quiet = now - self._last >= QUIET_SECONDS or now - start >= MOST_SECONDS
                if not self._running and quiet:
                    return
            time.sleep(_TICK)

    def _begin(self) -> bool:
        with self._changed:
            if self._refusing:
                self._last = time.monotonic()
                return False
            self._running += 1
            return True

    def _end(self) -> None:
        with self._changed:
            self._running -= 1
