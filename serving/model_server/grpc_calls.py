"""What a gRPC call is to the server: a request message in, an answer message or a ServingError out."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message  # type: ignore[import-untyped]
from tensorflow_serving.apis import model_pb2

from serving.model_server.status import Code, ServingError, from_exception

logger = logging.getLogger(__name__)

# Takes the answer, or the error in its place, from any thread.
Done = Callable[[Message | ServingError], None]
Answer = TypeVar("Answer")


class Call(NamedTuple):
    """A method of a service.

    `answer` may take its time. `begin`, where there is one, returns at once: True when it has taken a request whose
    answer comes later, False where that is left to `answer`.
    """

    request: type[Message]
    answer: Callable[[Any], Message]
    begin: Callable[[Any, Done], bool] | None = None


def answered(answer: Callable[[], Answer]) -> Answer:
    """The answer; what is raised in its place becomes a ServingError."""
    try:
        return answer()
    except Exception as error:
        known = from_exception(error)
        if known.code is Code.INTERNAL and not isinstance(error, ServingError):
            logger.exception("A gRPC call failed")
        raise known from None


def chosen_version(spec: model_pb2.ModelSpec) -> tuple[str, int | None, str | None]:
    """Name, version and label of a model spec."""
    choice = spec.WhichOneof("version_choice")
    return (
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )
