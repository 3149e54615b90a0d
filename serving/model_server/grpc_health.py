"""The standard gRPC health service (grpc.health.v1.Health), without a package of its own."""

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = 0, 1, 2, 3
SERVICES = ("", "ModelService", "PredictionService")


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
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """In the event loop: tell every client that the server is going away."""
        self._stopping.set()

    def handler(self) -> grpc.GenericRpcHandler:
        """What answers health calls on a server in an event loop."""
        read, write = self._request.FromString, self._response.SerializeToString
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(self.check, read, write),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, read, write),
        }
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)

    def _status(self) -> Any:
        return self._response(status=NOT_SERVING if self._stopping.is_set() else SERVING)

    async def check(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """The status now."""
        if request.service not in SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "")
        return self._status()

    async def watch(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        """The status now, and again when it changes."""
        known, stopping = request.service in SERVICES, self._stopping.is_set()
        yield self._status() if known else self._response(status=SERVICE_UNKNOWN)
        if known and stopping:
            return
        await self._stopping.wait()
        if known:
            yield self._status()
