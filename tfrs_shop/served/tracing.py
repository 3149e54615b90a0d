"""How a bundle is traced: each function once, though SavedModel would trace again whatever it finds on a module."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import tensorflow as tf

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
