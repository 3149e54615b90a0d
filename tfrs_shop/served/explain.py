"""Explanation: which parts of a history and of a product make the product's score, by integrated gradients.

The score is the logarithm of the product's chance to be the next, but for what all products have in common. It is
compared with a baseline: the same places in a history, with nothing known of what was there nor of the user, and the
catalogue's average product. From the baseline to the request all inputs of the two towers move at once, on a straight
line, and each part's share is what the score rises along the line for that part's sake (Sundararajan et al., ICML
2017): the shares sum to the difference. What is added to the score after the towers, for repeats and by the transition
graph, has shares of its own.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_shop.habits import usual_of
from tfrs_shop.model.layers import centred
from tfrs_shop.served.lookup import named
from tfrs_shop.served.question import LISTS, STRINGS, Requests, Samples
from tfrs_shop.served.retrieval import added
from tfrs_shop.served.shop import Answer, ServedShop
from tfrs_shop.served.tracing import Plain, traced

# Points on the line. Near its start a little of an event changes much, as the layers' norms see only directions: the
# points are denser there.
POINTS, DENSITY = 64, 3
# Rows of `read_rows` that are of a user, and not of each event.
PER_USER = ("profile", "usual_product", "usual_share")
OF_QUERY = ("history", "behavior_text", "profile", "likeness", "repeats", "transitions", "habits")


class Explain(tf.Module):
    """Why a product has the score that it has."""

    answers_for_ever = True

    def __init__(self, shop: ServedShop):
        super().__init__(name="explain")
        self.shop, self.once = shop, Plain(tf.function(self.explained, autograph=False))
        self.names = tf.constant([*OF_QUERY, *shop.product_parts.names])

    def signatures(self) -> dict[str, Any]:
        """Return the signatures ``explain`` and ``explain_for_history``."""
        history = named(LISTS, "history_product_id"), named(LISTS, "history_event_type")
        product = named(STRINGS, "product_id")
        return {
            "explain": traced(self.explain, named(STRINGS, "user_id"), product),
            "explain_for_history": traced(self.explain_for_history, *history, product),
        }

    def requests(self, samples: Samples) -> Requests:
        """Yield a request for one user, and one for a history."""
        product = tf.constant(samples.products[:1])
        yield "explain", {"user_id": tf.constant(samples.users[:1]), "product_id": product}
        yield "explain_for_history", {**samples.history, "product_id": product}

    def explain(self, user_id: tf.Tensor, product_id: tf.Tensor) -> Answer:
        """Explain the score of a product for stored users.

        Args:
            user_id, product_id: ``[batch]`` string.

        Returns:
            ``score`` and ``baseline`` ``[batch]`` float32; ``part`` ``[batch, parts]`` string, what the score is made
            of, and ``share`` float32, what each adds, which sum to score - baseline; and what the parts of the query
            (but for the profile and habits) are made of, ``because_product_id``, ``because_title`` ``[batch, events]``
            string and ``because_share`` float32, the events of the history, those that add most first, "" for no more.
            An event that is a search has its query as the title. All is 0 where the product is unknown or there is no
            history.
        """
        answer: Answer = self.once.value(read_rows(self.shop.stored(user_id)[0]), self.shop.products_of(product_id))[0]
        return answer

    def explain_for_history(
        self, history_product_id: tf.Tensor, history_event_type: tf.Tensor, product_id: tf.Tensor
    ) -> Answer:
        """Explain the score of a product after fresh histories ``[batch, events]`` string, as `explain` does."""
        rows, _, _ = self.shop.fresh(history_product_id, history_event_type)
        answer: Answer = self.once.value(read_rows(rows), self.shop.products_of(product_id))[0]
        return answer

    def explained(self, rows: dict[str, tf.Tensor], product: tf.Tensor) -> tuple[Answer, tf.Tensor]:
        """Return the explanation of the scores of ``product`` ``[batch]`` int32 after `rows`, and the texts' slopes.

        Those are ``[batch, events, text width]`` float32, the mean gradient along the line: times the centred text
        vector of an event they are its share.
        """
        ends, events, text, profile, parts, slopes = self._integrated(rows, product)
        after = after_the_towers(self.shop, rows, product[:, None], ends[:, -1:])
        added_by_event, habits = after.by_event[:, 0], after.habits[:, 0]
        sums = [tf.reduce_sum(share, 1) for share in (events, text)] + [profile]
        sums += [tf.reduce_sum(share[:, 0], 1) for share in (after.likeness, after.repeats, after.transitions)]
        sums.append(habits)
        known = tf.cast((product > 0) & (rows["history_event_type"][:, -1] > 0), tf.float32)
        share = tf.concat([tf.stack(sums, 1), parts], 1) * known[:, None]
        because = (events + text + added_by_event) * known[:, None]
        answer = {
            "score": known * (ends[:, -1] + tf.reduce_sum(added_by_event, 1) + habits),
            "baseline": known * ends[:, 0],
            "part": tf.tile(self.names[None], [tf.shape(product)[0], 1]),
            "share": share,
            **self._because(rows, because),
        }
        return answer, slopes * known[:, None, None]

    def _because(self, rows: dict[str, tf.Tensor], because: tf.Tensor) -> Answer:
        kinds = tf.where((because != 0.0), rows["history_event_type"], 0)
        length = tf.shape(because)[1]
        _, order = tf.math.top_k(tf.where(kinds > 0, because, -np.inf), length)
        products, queries, shares = (
            tf.gather(values, order, batch_dims=1)
            for values in (rows["history_product"], rows["history_query"], because)
        )
        shown = tf.gather(kinds, order, batch_dims=1) > 0
        products, queries = tf.where(shown, products, 0), tf.where(shown, queries, 0)
        return {
            "because_product_id": tf.gather(self.shop.product_ids, products),
            "because_title": self.shop.event_titles(products, queries),
            "because_share": shares,
        }

    def _integrated(self, rows: dict[str, tf.Tensor], product: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Return the scores along the line ``[batch, points]``, the shares, and the mean gradient of the texts.

        The shares are of the events and of their texts ``[batch, events]``, of the profile ``[batch]``, and of the
        product's parts ``[batch, parts]``.
        """
        shop, tower, made_of = self.shop, self.shop.layers.query_tower, self.shop.product_parts
        inputs = shop.query_inputs(rows)
        moved = [
            tf.cast(tower.event_vectors(inputs), tf.float32),
            tf.zeros([tf.shape(product)[0], 1, 1]),
            tf.cast(tower.profile_vector(inputs["profile"]), tf.float32),
            made_of.of(product) - made_of.mean,
        ]
        if tower.behavior_text is not None:
            moved[1] = centred(inputs["text_vectors"], tower.text_mean)
        places, weights = points()
        count = len(places)

        def along(values: tf.Tensor) -> tf.Tensor:
            at = tf.reshape(tf.constant(places, tf.float32), [1, count, *[1] * (len(values.shape) - 1)])
            moving = values[:, None] * at
            return tf.reshape(moving, tf.concat([[-1], tf.shape(values)[1:]], 0))

        line = [along(values) for values in moved]
        read: dict[str, tf.Tensor] = {name: tf.repeat(inputs[name], count, 0) for name in ("event_type", "timestamp")}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(line)
            events, text, profile, parts = line
            events, profile = (tf.cast(values, tower.compute_dtype) for values in (events, profile))
            behavior_text = text if tower.behavior_text is not None else None
            query = tower.read(read, events, profile, behavior_text, training=False, last=True)
            vectors = made_of.vectors(made_of.mean + parts)
            scores = tf.reduce_sum(shop.last_query(query) * vectors, 1) / shop.retrieval.temperature
        gradients = tape.gradient(scores, line, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        slopes = []
        for values, gradient in zip(moved, gradients, strict=True):
            gradient = tf.reshape(gradient, tf.concat([[-1, count], tf.shape(values)[1:]], 0))
            slopes.append(tf.einsum("bp...,p->b...", gradient, tf.constant(weights, tf.float32)))
        shares = [tf.reduce_sum(slope * values, -1) for slope, values in zip(slopes, moved, strict=True)]
        text_share = shares[1] + tf.zeros_like(shares[0])
        return tf.reshape(scores, [-1, count]), shares[0], text_share, shares[2], shares[3], slopes[1]


def read_rows(rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return what the model reads of `rows`, stored or fresh, by the same names: times may be unknown."""
    unknown = -tf.ones_like(rows["history_product"], tf.int64)
    names = ("history_product", "history_event_type", "history_query", *PER_USER)
    known = {name: rows[name] for name in names if name in rows}
    return {**known, "history_timestamp": rows.get("history_timestamp", unknown)}


def points() -> tuple[np.ndarray, np.ndarray]:
    """Return places on the line from 0 to 1, both ends included, and their weights in the integral, ``[points]``.

    Gauss and Legendre's, of the line's DENSITY-th root. The ends have no weight.
    """
    nodes, weights = np.polynomial.legendre.leggauss(POINTS)
    nodes, weights = (nodes + 1.0) / 2.0, weights / 2.0
    places, weights = nodes**DENSITY, weights * DENSITY * nodes ** (DENSITY - 1)
    return np.concatenate([[0.0], places, [1.0]]), np.concatenate([[0.0], weights, [0.0]])


class AfterTheTowers(NamedTuple):
    """What is added to the logarithms of the chances after the towers.

    Attributes:
        likeness: ``[batch, products, events]`` float32, of which all is the likest event's.
        repeats: the same for repeats.
        transitions: the same by the transition graph.
        habits: ``[batch, products]`` float32, by habits, which are of more than the history's events.
    """

    likeness: tf.Tensor
    repeats: tf.Tensor
    transitions: tf.Tensor
    habits: tf.Tensor

    @property
    def by_event(self) -> tf.Tensor:
        """What each event adds, ``[batch, products, events]``."""
        return self.likeness + self.repeats + self.transitions


def after_the_towers(
    shop: ServedShop, rows: dict[str, tf.Tensor], products: tf.Tensor, scores: tf.Tensor
) -> AfterTheTowers:
    """Return what is added to the logarithms of the chances after the towers.

    Args:
        shop: whose likeness, repeats, transition graph and habits count.
        rows: of ``shop.fresh`` or ``shop.stored``.
        products: ``[batch, products]`` int32.
        scores: ``[batch, products]`` float32, the towers' for them.
    """
    history, retrieval = rows["history_product"], shop.retrieval
    repeats = (
        shop.layers.repeats(history, rows["history_event_type"])[:, -1] if shop.layers.repeats is not None else None
    )
    near = retrieval.scored(shop.query(rows), history, repeats)
    same = (products[:, :, None] == history[:, None]) & (history > 0)[:, None]
    by_repeat = tf.where(same, near.bias[:, None], 0.0)
    by_likeness = by_transition = tf.zeros_like(by_repeat)
    if retrieval.likeness is not None:
        cosines = retrieval.likeness.each(products, history)
        likest = tf.one_hot(tf.argmax(cosines, 2), tf.shape(cosines)[2])
        length = tf.shape(history)[1]
        newest = tf.pad(retrieval.likeness_weight * likest * tf.maximum(cosines, 0.0), [[0, 0], [0, 0], [length, 0]])
        by_likeness = newest[:, :, -length:]
    chance = tf.exp(scores + tf.reduce_sum(by_likeness + by_repeat, 2) - near.log_total)
    if retrieval.transition_weight:
        follows = _follows(shop, history, products, near.bias)
        total, weight = tf.reduce_sum(follows, 2), retrieval.transition_weight
        gain = _gained(chance, total, weight)
        by_transition = gain[..., None] * tf.math.divide_no_nan(follows, total[..., None])
        chance = (1.0 - weight) * chance + weight * total
    by_habit = tf.zeros_like(chance)
    if shop.users.habits:
        by_habit = _gained(chance, usual_of(rows).of(products), retrieval.habit_weight)
    return AfterTheTowers(by_likeness, by_repeat, by_transition, by_habit)


def _gained(chance: tf.Tensor, share: tf.Tensor, weight: float) -> tf.Tensor:
    """Return log((1 - weight) chance + weight share) - log(chance), but for log(1 - weight), common to all."""
    return tf.math.log1p(weight / (1.0 - weight) * share / tf.maximum(chance, 1e-30))


def _follows(shop: ServedShop, history: tf.Tensor, products: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Return ``[batch, products, events]`` float32: the transition graph's scores, by the event that they come from."""
    graph, length = shop.retrieval.transitions, tf.shape(history)[1]
    events = tf.minimum(graph.events, length)
    newest = history[:, -events:]
    neighbor, weight = graph.edges(tf.reshape(newest, [-1, 1])).padded()
    shape = tf.concat([tf.shape(newest), [tf.shape(neighbor)[1]]], 0)
    neighbor, weight = tf.reshape(neighbor, shape), tf.reshape(weight, shape)
    weight *= tf.pow(graph.decay, tf.cast(tf.range(events)[::-1], tf.float32))[None, :, None]
    flat = tf.reshape(neighbor, [tf.shape(history)[0], -1])
    weight *= tf.reshape(tf.exp(tf.minimum(added(flat, history, bias), 0.0)), tf.shape(weight))
    leads = tf.cast((products[:, :, None, None] == neighbor[:, None]) & (products > 0)[:, :, None, None], tf.float32)
    follows = tf.reduce_sum(leads * weight[:, None], 3)
    follows = tf.math.divide_no_nan(follows, tf.reduce_sum(weight, [1, 2])[:, None, None])
    return tf.pad(follows, [[0, 0], [0, 0], [length - events, 0]])
