"""One loaded version of a model: its TensorFlow session and the signatures that can be called on it."""

import contextlib
import ctypes
import functools
import gc
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.saved_model import loader_impl

from serving.model_server.json_values import Array
from serving.model_server.status import Code, ServingError, from_exception, invalid

# Nodes of functions that are imported while requests wait.
_NODES_AT_ONCE = 500
# Kinds of runs, by what is fed and fetched, whose executors a session keeps for good; as many more come and go.
_MOST_KINDS = 256

# Takes the fetched tensors, or the error in their place.
Done = Callable[[list[Array] | ServingError], None]
_Kind = tuple[tuple[str, ...], tuple[str, ...]]


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
        self.input_names = {
            key: {alias: signature.inputs[alias].name for alias in self.input_types[key]}
            for key, signature in self.signatures.items()
        }
        self.output_names = {
            key: {alias: signature.outputs[alias].name for alias in sorted(signature.outputs)}
            for key, signature in self.signatures.items()
        }
        self.batcher: Batcher | None = None
        # While it is set, a run takes no thread but its caller's, whose priority is then the run's.
        self.in_callers_thread = False
        self._session: tf.compat.v1.Session | None = session
        self._tensors: dict[str, Any] = {}
        self._kept: set[_Kind] = set()
        self._callable = functools.lru_cache(_MOST_KINDS)(_make_callable)
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
        session = self._session
        if session is None:
            raise ServingError(Code.UNAVAILABLE, f"Version {self.version} of {self.name} is unloaded")
        try:
            return list(self._run(session, feeds, fetches))
        except tf.errors.OpError as error:
            raise from_exception(error) from None
        except UnicodeDecodeError as error:
            # TensorFlow's binding fails on a message that is not UTF-8, and its code is lost: an op repeats bytes of
            # the input only to say what is wrong with them.
            raise invalid(error.object.decode("utf-8", "surrogateescape")) from None

    def _run(self, session: tf.compat.v1.Session, feeds: Mapping[str, Array], fetches: Sequence[str]) -> Any:
        kind = (tuple(sorted(feeds)), tuple(fetches))
        if kind not in self._kept and not self._keep(session, kind):
            return self._callable(session, kind)(*[feeds[name] for name in kind[0]])
        fed = {self._tensors[name]: array for name, array in feeds.items()}
        options = _in_callers_thread() if self.in_callers_thread else None
        run = pywrap_tf_session.TF_SessionRun_wrapper
        return run(session._session, options, fed, [self._tensors[name] for name in fetches], [], None)

    def _keep(self, session: tf.compat.v1.Session, kind: _Kind) -> bool:
        """Whether the session keeps executors for such runs for good: over gRPC every subset of outputs is a kind."""
        with self._making:
            if len(self._kept) >= _MOST_KINDS:
                return False
            try:
                for name in itertools.chain(*kind):
                    self._tensors[name] = session.graph.get_tensor_by_name(name)._as_tf_output()
            except (KeyError, ValueError):
                return False  # TensorFlow says what is wrong with the name.
            self._kept.add(kind)
            return True

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
            self._callable.cache_clear()
        if session is not None:
            session.close()
        del session
        release_memory()


def _make_callable(session: tf.compat.v1.Session, kind: _Kind) -> Any:
    return session._make_callable_from_options(config_pb2.CallableOptions(feed=kind[0], fetch=kind[1]))


def open_saved_model(name: str, version: int, path: Path, config: config_pb2.ConfigProto, tags: list[str]) -> Servable:
    """Load a SavedModel of TensorFlow 1 or 2 into a new session; variables and tables are ready when it returns."""
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=config)
    try:
        loader = loader_impl.SavedModelLoader(str(path))
        meta_graph = loader.get_meta_graph_def_from_tags(tags)
        with graph.as_default():
            functions = _import_functions(meta_graph.graph_def)
            saver, _ = loader.load_graph(graph, tags)
            loader.restore_variables(session, saver)
            loader.run_init_ops(session, tags)
        # A model without variables ran nothing yet that would hand the graph on.
        session._extend_graph()
        _forget_functions(graph, functions)
    except BaseException:
        session.close()
        raise
    return Servable(name, version, session, meta_graph)


def _import_functions(graph_def: graph_pb2.GraphDef) -> list[str]:
    """Move the functions of `graph_def` into the default graph, some at a time, ahead of the rest; return their names.

    TensorFlow's binding keeps the interpreter's lock while it imports, and nothing is answered meanwhile: for a bundle
    that was more than a second, half of it spent on shapes inside the functions, which nobody asks for.
    """
    for node in graph_def.node:
        if "f" in node.attr:
            node.attr["_disable_call_shape_inference"].b = True
    part, nodes = graph_pb2.GraphDef(versions=graph_def.versions), 0
    for function in graph_def.library.function:
        part.library.function.append(function)
        nodes += len(function.node_def)
        if nodes >= _NODES_AT_ONCE:
            tf.import_graph_def(part, name="")
            part, nodes = graph_pb2.GraphDef(versions=graph_def.versions), 0
    tf.import_graph_def(part, name="")
    names = [function.signature.name for function in graph_def.library.function]
    del graph_def.library.function[:]
    return names


def _forget_functions(graph: tf.Graph, names: list[str]) -> None:
    """Take functions out of a graph whose session has its own: the memory, and a pause when the graph is deleted."""
    with graph._c_graph.get() as own:
        for name in names:
            pywrap_tf_session.TF_GraphRemoveFunction(own, name)


@functools.cache
def _in_callers_thread() -> Any:
    return pywrap_tf_session.TF_NewBufferFromString(config_pb2.RunOptions(inter_op_thread_pool=-1).SerializeToString())


def release_memory() -> None:
    """Collect what an unloaded model leaves behind, and hand free pages back to the system where libc can."""
    gc.collect()
    # Only glibc has malloc_trim; elsewhere the allocator keeps its pages.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
