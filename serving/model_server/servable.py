"""One loaded version of a model: its TensorFlow session and the signatures that can be called on it."""

import contextlib
import ctypes
import gc
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.model_server.json_values import Array
from serving.model_server.status import Code, ServingError, from_exception, invalid

_MAX_CALLABLES = 256


# Takes the fetched tensors, or the error in their place.
Done = Callable[[list[Array] | ServingError], None]


class Batcher(Protocol):
    """Runs requests together with others that arrive at the same time."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """As `Servable.run_alone`, with the same answer."""

    def submit(self, feeds: Mapping[str, Array], fetches: Sequence[str], done: "Done") -> bool:
        """As `run`, but return at once and call `done` later; False where the request cannot be part of a batch."""


class Servable:
    """A SavedModel in a session of its own, run without shape checks, as TensorFlow Serving runs it.

    Safe to call from several threads. `acquire` and `release` count the requests that still need it; `close` waits
    for the last of them.
    """

    def __init__(
        self, name: str, version: int, session: tf.compat.v1.Session, meta_graph: meta_graph_pb2.MetaGraphDef
    ) -> None:
        self.name = name
        self.version = version
        self.signatures: dict[str, meta_graph_pb2.SignatureDef] = dict(meta_graph.signature_def)
        self.input_types = {
            key: {alias: signature.inputs[alias].dtype for alias in sorted(signature.inputs)}
            for key, signature in self.signatures.items()
        }
        self.batcher: Batcher | None = None
        self._session: tf.compat.v1.Session | None = session
        self._callables: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}
        self._making = threading.Lock()
        self._idle = threading.Condition()
        self._users = 0
        self._closing = False

    def run(self, signature_name: str, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Feed the named inputs of a signature and return the named outputs, errors with TensorFlow's codes."""
        signature = self.signatures[signature_name]
        fed = {signature.inputs[alias].name: array for alias, array in feeds.items()}
        fetched = self.run_tensors(fed, [signature.outputs[alias].name for alias in outputs])
        return dict(zip(outputs, fetched, strict=True))

    def run_tensors(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """Feed and fetch by the names of tensors, together with other requests where batching is on."""
        if self.batcher is not None:
            return self.batcher.run(feeds, fetches)
        return self.run_alone(feeds, fetches)

    def run_alone(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """Feed and fetch by the names of tensors, in one run of the session."""
        names = tuple(sorted(feeds))
        try:
            run = self._callable(names, tuple(fetches))
            return list(run(*[feeds[name] for name in names]))
        except tf.errors.OpError as error:
            raise from_exception(error) from None
        except UnicodeDecodeError as error:
            # TensorFlow's binding fails on a message that is not UTF-8, and its code is lost: an op repeats bytes of
            # the input only to say what is wrong with them.
            raise invalid(error.object.decode("utf-8", "surrogateescape")) from None

    def _callable(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Any:
        found = self._callables.get((feeds, fetches))
        if found is not None:
            return found
        with self._making:
            found = self._callables.get((feeds, fetches))
            if found is None:
                if self._session is None:
                    raise ServingError(Code.UNAVAILABLE, f"Version {self.version} of {self.name} is unloaded")
                options = config_pb2.CallableOptions()
                options.feed.extend(feeds)
                options.fetch.extend(fetches)
                found = self._session._make_callable_from_options(options)
                if len(self._callables) >= _MAX_CALLABLES:
                    # Every subset of outputs asked for over gRPC has its own; the oldest makes room.
                    self._callables.pop(next(iter(self._callables)))
                self._callables[(feeds, fetches)] = found
            return found

    def acquire(self) -> bool:
        """Count one more request; False once the servable is on its way out."""
        with self._idle:
            if self._closing:
                return False
            self._users += 1
            return True

    def release(self) -> None:
        """The end of what `acquire` began."""
        with self._idle:
            self._users -= 1
            if self._users == 0:
                self._idle.notify_all()

    def close(self) -> None:
        """Refuse new requests, wait for the running ones, then give the memory back."""
        with self._idle:
            self._closing = True
            self._idle.wait_for(lambda: self._users == 0)
        with self._making:
            session, self._session = self._session, None
            self._callables.clear()
        if session is not None:
            session.close()
        del session
        release_memory()


def open_saved_model(name: str, version: int, path: Path, config: config_pb2.ConfigProto, tags: list[str]) -> Servable:
    """Load a SavedModel of TensorFlow 1 or 2 into a new session; variables and tables are ready when it returns."""
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=config)
    try:
        with graph.as_default():
            meta_graph = tf.compat.v1.saved_model.loader.load(session, tags, str(path))
    except BaseException:
        session.close()
        raise
    return Servable(name, version, session, meta_graph)


def release_memory() -> None:
    """Collect what an unloaded model leaves behind, and hand free pages back to the system where libc can."""
    gc.collect()
    # Only glibc has malloc_trim; elsewhere the allocator keeps its pages.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
