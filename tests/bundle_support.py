"""Helpers of the bundle tests: ask a signature, and what the model is given for a user."""

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

LENGTH = 10  # `max_history` of the small settings


@contextlib.contextmanager
def only_questions(*names: str) -> Iterator[None]:
    """Let exports be asked the questions of these modules' names alone: all of them take most of an export's time."""
    import tfrs_shop.export
    from tfrs_shop.served.questions import Questions

    class Some(Questions):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.all = [question for question in self.all if question.name in names]
            if "search" not in names:
                del self.search_ranking

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfrs_shop.export, "Questions", Some)
        yield


def ask(signatures, name: str, **inputs) -> dict[str, np.ndarray]:
    """Return the answer of a signature of a loaded bundle."""
    answer = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
    return {key: value.numpy() for key, value in answer.items()}


def user_row(data, place: int) -> dict[str, tf.Tensor]:
    """Return a batch of one row for the model: the stored user at `place`, put together without graph code."""
    users = data.users()

    def indices(name: str, vocabulary: str) -> list[int]:
        values = data.values[vocabulary]
        found = [values.index(value) + 1 if value else 0 for value in users[name][place]][-LENGTH:]
        return [0] * (LENGTH - len(found)) + found

    def lefted(name: str, missing: float, dtype: tf.DType) -> tf.Tensor:
        found = list(users[name][place])[-LENGTH:]
        return tf.constant([[missing] * (LENGTH - len(found)) + found], dtype)

    usual = [data.values["product_id"].index(value) + 1 for value in users["usual_product_id"][place]]
    weights = np.array(users["usual_weight"][place], np.float32) * (1 + data.catalogue.train_count[usual]) ** 0.25
    return {
        "usual_product": tf.constant([usual], tf.int32),
        "usual_share": tf.constant([weights / weights.sum() if usual else weights], tf.float32),
        "history_product": tf.constant([indices("history_product_id", "product_id")]),
        "history_event_type": tf.constant([indices("history_event_type", "event_type")]),
        "history_query": tf.constant([indices("history_query", "query")]),
        "history_timestamp": lefted("history_timestamp", -1, tf.int64),
        "history_rating": lefted("history_rating", float("nan"), tf.float32),
        "profile": tf.constant(
            [[data.values[f.vocabulary].index(users[f.name][place]) + 1 for f in data.profile]], tf.int32
        ),
    }
