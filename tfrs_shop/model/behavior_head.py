"""The behaviour head: which event type and category come next, and whether a purchase follows in the session."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras

from tfrs_shop.catalogue import Catalogue
from tfrs_shop.config import BehaviorConfig
from tfrs_shop.dataset import ShopData
from tfrs_shop.model.behavior_events import BehaviorEvents
from tfrs_shop.model.layers import present

DROPOUT = 0.2
QUERY_WIDTH, CATEGORY_WIDTH, PURCHASE_UNITS = 16, 32, 16
IMPOSSIBLE = -1e9
RARELY = -2.0  # logit of the chance of a purchase before anything is learnt
PURCHASE = b"purchase"
# Of the squares of the purchase's weights. Its answer is one for a whole session, so that there are far fewer of them
# than positions to learn it from.
PURCHASE_DECAY = 3e-4
# The same of the type's own weights, which are learnt from every position.
TYPE_DECAY = 1e-4
# Events of the shop's usual types that are counted in with those that follow the events of a category.
SHRINKAGE = 100.0
# Adam moves a weight by its learning rate a step at most, and a linear model has far to go: so much faster it goes.
WIDE_RATE = 10.0


@dataclasses.dataclass(frozen=True)
class BehaviorTasks:
    """What can be learnt of a shop's data.

    Attributes:
        target_types: ``[event types + 1]`` bool, which types can come next.
        leaf: ``[products + 1]`` int32, the innermost category of each product, 0 for none.
        type_share: ``[event types + 1]`` float32, share of each in all events.
        category_share: ``[categories + 1]`` float32, share of the training events of each; half an event more for all
            that a product has.
        event_type, category, purchase: whether there is something to tell apart.
    """

    target_types: np.ndarray
    leaf: np.ndarray
    type_share: np.ndarray
    category_share: np.ndarray
    event_type: bool
    category: bool
    purchase: bool

    def __bool__(self) -> bool:
        """Whether there is anything to learn."""
        return self.event_type or self.category or self.purchase


def behavior_tasks(data: ShopData) -> BehaviorTasks:
    """Return what can be learnt of `data`."""
    leaf = leaf_categories(data.catalogue)
    size = len(data.values["category"]) + 1
    counts = np.bincount(leaf, data.catalogue.train_count + 0.5, size)
    counts[0] = 0.0
    kinds = [data.manifest.counts["event_types"].get(value.decode(), 0) for value in data.values["event_type"]]
    features = {feature.name for feature in data.manifest.features["examples"]}
    return BehaviorTasks(
        target_types=data.target_types,
        leaf=leaf,
        type_share=np.array([0, *kinds], np.float32) / max(sum(kinds), 1),
        category_share=(counts / max(counts.sum(), 1.0)).astype(np.float32),
        event_type=int(data.target_types.sum()) > 1,
        category=int((counts > 0).sum()) > 1,
        purchase=PURCHASE in data.values["event_type"] and "history_purchase_follows" in features,
    )


def leaf_categories(catalogue: Catalogue) -> np.ndarray:
    """Return ``[products + 1]`` int32: the vocabulary index of each product's innermost category, 0 for none."""
    depth = np.count_nonzero(catalogue.category, axis=1)
    innermost = catalogue.category[np.arange(len(depth)), np.maximum(depth - 1, 0)]
    return np.where(depth > 0, innermost, 0).astype(np.int32)


class Behavior(NamedTuple):
    """What the head says at some positions ``[...]`` of histories.

    Attributes:
        event_type: ``[..., event types]`` logits of the next event's type; a type that is no target has none.
        purchase: ``[...]`` logit that a purchase follows in the session.
        topic: ``[..., width]`` what the next category is likely to be, apart from the history's.
        repeats: ``[..., history]`` log of the chance that each event's category is the next, if one of them is.
        repeat: ``[...]`` logit that one of them is.
    """

    event_type: tf.Tensor
    purchase: tf.Tensor
    topic: tf.Tensor
    repeats: tf.Tensor
    repeat: tf.Tensor

    def at(self, chosen: tf.Tensor) -> "Behavior":
        """Return what is said at the positions where ``chosen`` ``[batch, history]`` is true, ``[positions, ...]``."""
        return Behavior(*(tf.boolean_mask(part, chosen) for part in self))

    def last(self) -> "Behavior":
        """Return what is said at the last position, ``[batch, ...]``."""
        return Behavior(*(part[:, -1] for part in self))


class BehaviorHead(tf_keras.layers.Layer):
    """Hidden layers over the events (`BehaviorEvents`), and an output for each question.

    Types and purchases are read from the events linearly too (wide and deep, Cheng et al., DLRS 2016), since much of
    what is rare is told by a count, and not from the categories or the query vector: by those the head learned by heart
    which session ended in a purchase. What the type reads of the category is counted, and not learnt: which types come
    after its events, shrunken towards all events' types; in training the type that is asked for is taken out of the
    count. The purchase has weights of its own, and reads counts only. The next category is read from all of it.

    The next category is one of the history's, or any: a mixture of a pointer to the events before and a softmax over
    the vocabulary (as pointer-sentinel, Merity et al., ICLR 2017, and RepeatNet, Ren et al., AAAI 2019), since most of
    what comes next was looked at before.

    Args:
        config: its size.
        tasks: of the data.
        history: the longest history, in events.
    """

    def __init__(self, config: BehaviorConfig, tasks: BehaviorTasks, history: int, **kwargs: object):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.tasks = tasks
        categories = len(tasks.category_share) - 1
        # In float32 whatever the policy: an inner layer would take its own from the policy.
        dense = functools.partial(tf_keras.layers.Dense, dtype="float32")
        self.events = BehaviorEvents(len(tasks.target_types) - 1, categories, name="events")
        self.query = dense(QUERY_WIDTH, name="query")
        self.hidden = [dense(config.units, tf.nn.gelu, name=f"hidden{place}") for place in range(2)]
        self.topic_hidden = [dense(config.units, tf.nn.gelu, name=f"topic_hidden{place}") for place in range(2)]
        self.dropout = tf_keras.layers.Dropout(DROPOUT, dtype="float32")
        # What is usual is where learning starts from.
        usual = np.log(np.clip(tasks.type_share[1:], 1e-4, 1.0))
        self.event_type = dense(len(usual), bias_initializer=tf.constant_initializer(usual), name="event_type")
        self.wide = dense(len(usual), use_bias=False, kernel_initializer="zeros", name="wide")
        self.purchase_hidden = dense(PURCHASE_UNITS, tf.nn.gelu, name="purchase_hidden")
        self.purchase = dense(1, bias_initializer=tf.constant_initializer(RARELY), name="purchase")
        self.purchase_wide = dense(1, use_bias=False, kernel_initializer="zeros", name="purchase_wide")
        self.after = tf.Variable(tf.zeros([categories + 1, len(usual)]), trainable=False, name="after")
        self.topic = dense(CATEGORY_WIDTH, name="topic")
        self.asked, self.key = dense(CATEGORY_WIDTH, name="asked"), dense(CATEGORY_WIDTH, name="key")
        self.repeat = dense(1, name="repeat")
        self.no_target = tf.constant(np.where(tasks.target_types[1:], 0.0, IMPOSSIBLE), tf.float32)
        small = tf_keras.initializers.TruncatedNormal(stddev=0.05)
        self.by_age = tf.Variable(-0.5 * tf.range(history, dtype=tf.float32), name="by_age")
        self.category = self.add_weight("category", [categories + 1, CATEGORY_WIDTH], tf.float32, small)
        share = tasks.category_share
        logs = np.where(share > 0, np.log(np.maximum(share, 1e-12)), IMPOSSIBLE).astype(np.float32)
        self.category_bias = tf.Variable(logs, name="category_bias")

    def count(self, category: np.ndarray, following: np.ndarray) -> None:
        """Count which types came after the events of each category.

        Args:
            category: ``[events]`` int, 0 for none.
            following: ``[events]`` int, the type of the next event; 0, where there is none, does not count.
        """
        known = following > 0
        counts = np.zeros(self.after.shape, np.float32)
        np.add.at(counts, (category[known], following[known] - 1), 1.0)
        self.after.assign_add(counts)

    def call(self, rows: dict[str, tf.Tensor], queries: tf.Tensor, training: bool | None = None) -> Behavior:
        """Return what is said at every position.

        Args:
            rows: as of `BehaviorEvents`.
            queries: ``[batch, history, width]`` float32 query vectors.
            training: whether dropout is on.
        """
        read = self.events(rows, training=training)
        events = read.events
        following = tf.where(rows["label"] > 0, rows["label_event_type"], 0) if training else None
        after = lift_after(self.after, rows["history_category"], following)
        behavior = self._state(self.hidden, tf.concat([read.behavior, after], 2), training)
        queries = self.query(self.dropout(tf.cast(queries, tf.float32), training=training))
        state = self._state(self.topic_hidden, tf.concat([read.behavior, read.topic, queries], 2), training)
        length = tf.shape(events)[1]
        place = tf.range(length)
        pointed = tf.matmul(self.asked(state), self.key(events), transpose_b=True) / CATEGORY_WIDTH**0.5
        pointed += tf.gather(self.by_age, tf.maximum(place[:, None] - place[None], 0))[None]
        known = (rows["history_category"] > 0)[:, None] & (place[:, None] >= place[None])[None]
        bought = self.dropout(self.purchase_hidden(read.plain), training=training)
        any_known = tf.reduce_any(known, 2)
        return Behavior(
            self.event_type(behavior) + WIDE_RATE * self.wide(tf.concat([read.plain, after], 2)) + self.no_target,
            (self.purchase(bought) + WIDE_RATE * self.purchase_wide(read.plain))[..., 0],
            self.topic(state),
            tf.nn.log_softmax(tf.where(known, pointed, IMPOSSIBLE)),
            tf.where(any_known, self.repeat(state)[..., 0], IMPOSSIBLE),
        )

    def _state(self, layers: list[tf_keras.layers.Layer], read: tf.Tensor, training: bool | None) -> tf.Tensor:
        for layer in layers:
            read = layer(self.dropout(read, training=training))
        return self.dropout(read, training=training)

    def category_log_chance(self, said: Behavior, history: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Return ``[positions]`` float32: the log of the chance of the category that came.

        Args:
            said: at ``[positions]``.
            history: ``[positions, history]`` int32 categories of the events.
            target: ``[positions]`` int32 categories.
        """
        found = tf.where(history == target[:, None], said.repeats, IMPOSSIBLE)
        # Not below this, or the gradient of what is not there would be no number.
        again = tf.math.log_sigmoid(said.repeat) + tf.maximum(tf.reduce_logsumexp(found, 1), -100.0)
        anew = tf.math.log_sigmoid(-said.repeat) + tf.gather(self._anew(said), target, batch_dims=1)
        return tf.reduce_logsumexp(tf.stack([again, anew], 1), 1)

    def category_chances(self, said: Behavior, history: tf.Tensor) -> tf.Tensor:
        """Return ``[rows, categories + 1]`` float32 chances of the next category; of category 0, "none", it is 0.

        Args:
            said: at ``[rows]``.
            history: ``[rows, history]`` int32 categories of the events.
        """
        anew = tf.exp(self._anew(said)) * tf.sigmoid(-said.repeat)[:, None]
        again = tf.where(history > 0, tf.exp(said.repeats), 0.0) * tf.sigmoid(said.repeat)[:, None]
        rows = tf.broadcast_to(tf.range(tf.shape(history)[0])[:, None], tf.shape(history))
        return tf.tensor_scatter_nd_add(anew, tf.stack([rows, history], 2), again)

    def _anew(self, said: Behavior) -> tf.Tensor:
        return tf.nn.log_softmax(tf.matmul(said.topic, self.category, transpose_b=True) + self.category_bias)

    @property
    def purchase_weights(self) -> list[tf.Variable]:
        """The weights that answer the question of the purchase, and no other."""
        return [*self.purchase_hidden.weights, *self.purchase.weights, *self.purchase_wide.weights]

    @property
    def calibrated_layers(self) -> dict[str, list[tf_keras.layers.Dense]]:
        """By task of `logits_and_labels`, the layers whose sum the logits are."""
        return {"event_type": [self.event_type, self.wide], "purchase": [self.purchase, self.purchase_wide]}

    def logits_and_labels(self, said: Behavior, rows: dict[str, tf.Tensor]) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """Return, by task, ``[positions, classes]`` logits and ``[positions]`` int32 of what came.

        A purchase has two classes: 0, with the logit 0, and 1.

        Args:
            said, rows: as of `entropies`.
        """
        found = {}
        if self.tasks.event_type:
            asked = rows["label"] > 0
            kinds = tf.maximum(tf.boolean_mask(rows["label_event_type"], asked) - 1, 0)
            found["event_type"] = (tf.boolean_mask(said.event_type, asked), kinds)
        if self.tasks.purchase:
            follows = rows["history_purchase_follows"]
            known = (follows >= 0) & (rows["history_event_type"] > 0)
            logits = tf.boolean_mask(said.purchase, known)
            happened = tf.cast(tf.boolean_mask(follows, known), tf.int32)
            found["purchase"] = (tf.stack([tf.zeros_like(logits), logits], 1), happened)
        return found

    def loss(self, said: Behavior, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        """Return the sum of the tasks' mean cross-entropies, and what large weights of purchase and type cost.

        Args:
            said, rows: as of `entropies`.
        """
        means = [_mean(found) for found in self.entropies(said, rows).values()]
        purchase = self.purchase_hidden.kernel, self.purchase.kernel, WIDE_RATE * self.purchase_wide.kernel
        kind = *(layer.kernel for layer in self.hidden), self.event_type.kernel, WIDE_RATE * self.wide.kernel
        return tf.add_n(means) + PURCHASE_DECAY * _squares(purchase) + TYPE_DECAY * _squares(kind)

    def entropies(self, said: Behavior, rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return, by task, the cross-entropies of the positions that tell something of it, ``[positions]`` float32.

        Args:
            said: at all positions of ``rows``.
            rows: as of ``ShopData.training_windows``, with ``history_category`` and ``label_category``
                ``[batch, history]`` int32.
        """
        found = {
            task: tf.nn.sparse_softmax_cross_entropy_with_logits(happened, logits)
            for task, (logits, happened) in self.logits_and_labels(said, rows).items()
        }
        if self.tasks.category:
            asked = rows["label_category"] > 0
            history = tf.repeat(rows["history_category"], tf.reduce_sum(tf.cast(asked, tf.int32), 1), axis=0)
            target = tf.boolean_mask(rows["label_category"], asked)
            found["category"] = -self.category_log_chance(said.at(asked), history, target)
        return found


def lift_after(counts: tf.Tensor, category: tf.Tensor, following: tf.Tensor | None = None) -> tf.Tensor:
    """Return ``[batch, history, event types]`` float32: the log of how much likelier each is after such a category.

    Of no category, and of one that is not counted, it is 0.

    Args:
        counts: ``[categories + 1, event types]`` float32, events of each type that came after one of each category.
        category: ``[batch, history]`` int32, 0 for none.
        following: ``[batch, history]`` int32, the types that came and are in the counts, to be taken out; 0 for none.
    """
    counts = tf.convert_to_tensor(counts)
    overall = tf.reduce_sum(counts, 0) + 1.0
    share = overall / tf.reduce_sum(overall)
    after = tf.gather(counts, category)
    if following is not None:
        after = tf.maximum(after - tf.one_hot(following - 1, counts.shape[1]), 0.0)
    of_category = (after + SHRINKAGE * share) / (tf.reduce_sum(after, 2, keepdims=True) + SHRINKAGE)
    return tf.math.log(of_category / share) * present(category, tf.float32)


def _squares(kernels: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.add_n([tf.reduce_sum(tf.square(kernel)) for kernel in kernels])


def _mean(losses: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(tf.size(losses), tf.float32))
