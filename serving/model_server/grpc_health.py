"""The standard gRPC health service (grpc.health.v1.Health), without a package of its own."""

import functools
import threading
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = 0, 1, 2, 3
SERVICES = ("", "ModelService", "PredictionService")
# A watcher keeps a thread for as long as it watches.
_MAX_WATCHERS = 4
_WATCH_SECONDS = 1.0


@functools.cache
def _messages() -> tuple[Any, Any]:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="shop_health.proto", package="grpc.health.v1", syntax="proto3")
    request = file.message_type.add(name="HealthCheckRequest")
    request.field.add(name="service", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    response = file.message_type.add(name="HealthCheckResponse")
    statuses = response.enum_type.add(name="ServingStatus")
    for number, name in enumerate(("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")):
        statuses.value.add(name=name, number=number)
    response.field.add(
        name="status",
        number=1,
        type=field.TYPE_ENUM,
        type_name=".grpc.health.v1.HealthCheckResponse.ServingStatus",
        label=field.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("grpc.health.v1.HealthCheckRequest", "grpc.health.v1.HealthCheckResponse")
    first, second = (message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in names)
    return first, second


class HealthService:
    """Says whether this server takes requests: SERVING until `stop`, then NOT_SERVING."""

    def __init__(self) -> None:
        self._request, self._response = _messages()
        self._changed = threading.Condition()
        self._status = SERVING
        self._watchers = 0

    def stop(self) -> None:
        """Tell every client that the server is going away."""
        with self._changed:
            self._status = NOT_SERVING
            self._changed.notify_all()

    def add_to(self, server: grpc.Server) -> None:
        """Answer health calls on `server`."""
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(
                self._check, self._request.FromString, self._response.SerializeToString
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                self._watch, self._request.FromString, self._response.SerializeToString
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))

    def _check(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.service not in SERVICES:
            context.abort(grpc.StatusCode.NOT_FOUND, "")
        return self._response(status=self._status)

    def _watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with self._changed:
            if self._watchers >= _MAX_WATCHERS:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many watchers")
            self._watchers += 1
        try:
            told = None
            while context.is_active():
                status = self._status if request.service in SERVICES else SERVICE_UNKNOWN
                if status != told:
                    told = status
                    yield self._response(status=status)
                if told == NOT_SERVING:
                    return
                with self._changed:
                    if self._status == status or status == SERVICE_UNKNOWN:
                        self._changed.wait(_WATCH_SECONDS)
        finally:
            with self._changed:
                self._watchers -= 1
