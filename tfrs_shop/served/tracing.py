"""How a bundle is traced: each function once, though SavedModel would trace again whatever it finds on a module."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2
from tensorflow.python.eager import context

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Plain(Generic[Value]):
    """A Keras layer or a ``tf.function`` in a plain object: SavedModel would trace every one that it finds once more.

    Who holds a layer holds its ``weights`` as well, which the bundle must have. A function that several signatures
    call is held so to be traced once.
    """

    value: Value


def traced(method: Callable[..., dict[str, tf.Tensor]], *inputs: tf.TensorSpec) -> Any:
    """Return the concrete function of a question's method.

    Methods are not decorated: SavedModel would trace every ``tf.function`` that it finds on a module once more.
    Servers do not look at the rank of what they feed, and some operations end the process when they get a scalar in
    place of a vector; so the graph refuses another rank before anything reads it.
    """

    @functools.wraps(method)
    def checked(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        return method(*(tf.ensure_shape(value, spec.shape) for value, spec in zip(given, inputs, strict=True)))

    return tf.function(checked, autograph=False).get_concrete_function(*inputs)


@contextlib.contextmanager
def one_optimizer_round() -> Iterator[None]:
    """Have graphs that are traced here optimized in one round, not in two, wherever the bundle is loaded.

    The second round takes a sixth of a server's warm-up and finds next to nothing. A function call carries its
    optimizer's settings in its node; no public API sets them.
    """
    own = context.context()
    before, config = own.function_call_options, own.config
    config.graph_options.rewrite_options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    own.function_call_options = context.FunctionCallOptions(config_proto=config)
    try:
        yield
    finally:
        own.function_call_options = before
