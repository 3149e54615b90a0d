"""The signatures of a bundle: what TensorFlow Serving is asked, apart from the model that answers.

TensorFlow Serving's REST interface wants every input of a signature in every request, so a door that needs only a
user id has only ``user_id`` as its input. Histories are lists of equal length, padded with "".
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData, left_padded
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.transitions import TransitionScorer, mix

# Event types after which a product is the user's already.
BOUGHT = ("purchase", "review", "rating")
# Products of one history that can be left out of an answer, the newest: the index is asked for so many more.
MOST_EXCLUDED = 500
# Products whose scores are summed to turn a score into a chance; a larger catalogue is sampled.
CHANCE_SAMPLE = 16_384
_STRINGS = tf.TensorSpec([None], tf.string)
_LISTS = tf.TensorSpec([None, None], tf.string)


@dataclasses.dataclass(frozen=True)
class Serving:
    """What the answers are like.

    Attributes:
        k: products of an answer.
        exclude: which products of the history are left out: ``bought``, ``seen`` or ``none``.
    """

    k: int
    exclude: str


class ShopSignatures(tf.Module):
    """Answers ``recommend``, ``recommend_for_history``, ``similar`` and ``rank`` from one set of vectors.

    Args:
        model: trained; its query tower and ranking head are kept.
        data: whose products and users are served.
        vectors: ``[products + 1, width]`` of the whole catalogue, padding row first.
        index: over the same vectors without the padding row.
        serving: what the answers are like.
        assets: files of the product ids and the user ids, one a line.
    """

    def __init__(
        self,
        model: ShopModel,
        data: ShopData,
        vectors: np.ndarray,
        index: Any,
        serving: Serving,
        assets: dict[str, str],
    ):
        super().__init__(name="shop")
        config = model.config.towers
        self.length = config.max_history
        self.temperature = model.temperature
        self.normalize = config.normalize
        self.k = min(serving.k, data.catalogue.size)
        self.exclude = serving.exclude
        self.query_tower, self.ranking_head, self.index = model.query_tower, model.ranking_head, index
        # Where nobody rates there is no rating to answer with.
        self.rating_head = model.rating_head if "event_rating" in data.manifest.statistics else None
        self.vectors = tf.Variable(vectors, trainable=False, name="vectors")
        self.transition_weight = model.transition_weight
        transitions = model.config.transitions
        self.transitions = TransitionScorer(data.transitions, transitions.events, transitions.decay)
        # All products, up to a number that is scored in no time; of more a sample stands for the rest.
        self.sample = tf.constant(_spread_sample(data.catalogue.size, CHANCE_SAMPLE), tf.int32)
        self.product_ids = tf.Variable(data.catalogue.product_id.astype(np.bytes_), trainable=False, name="product_id")
        self.titles = tf.Variable(data.catalogue.title.tolist(), trainable=False, name="title", dtype=tf.string)
        self.product_table = _line_table(assets["products"])
        self.event_types = lookup = _constant_table(data.values["event_type"])
        bought = lookup.lookup(tf.constant(BOUGHT)).numpy()
        self.bought = tf.constant(bought[bought > 0], tf.int32)
        self._keep_users(data, assets["users"])
        popular = np.argsort(-data.catalogue.train_count[1:], kind="stable") + 1
        counts = data.catalogue.train_count.astype(np.float64)
        self.most = min(data.catalogue.size, self.k + self.longest_exclusion)
        self.products = tf.constant(data.catalogue.size, tf.float32)
        self.popular = tf.constant(popular[: self.most], tf.int32)
        share = counts[popular[: self.most]] / max(counts.sum(), 1.0)
        self.popular_scores = tf.constant(share, tf.float32)

    @property
    def longest_exclusion(self) -> int:
        """The most products that one history can take out of an answer."""
        return 0 if self.exclude == "none" else self.longest_seen

    def _keep_users(self, data: ShopData, asset: str) -> None:
        users = data.users()
        products = {value: place for place, value in enumerate(data.values["product_id"], 1)}
        kinds = {value: place for place, value in enumerate(data.values["event_type"], 1)}
        queries = {value: place for place, value in enumerate(data.values["query"], 1)}
        bought = set(self.bought.numpy().tolist())
        rows: dict[str, list[list[Any]]] = {"products": [], "types": [], "queries": [], "times": [], "excluded": []}
        for ids, types, asked, times, older in zip(
            users["history_product_id"],
            users["history_event_type"],
            users["history_query"],
            users["history_timestamp"],
            users["older_product_id"],
            strict=True,
        ):
            row = [products.get(value, 0) for value in ids]
            kind = [kinds.get(value, 0) for value in types]
            rows["products"].append(row[-self.length :])
            rows["types"].append(kind[-self.length :])
            rows["queries"].append([queries.get(value, 0) for value in asked][-self.length :])
            rows["times"].append(times[-self.length :])
            seen = self.exclude == "seen"
            known = [p for p, t in zip(row, kind, strict=True) if p and (seen or t in bought)][::-1]
            known += [products.get(value, 0) for value in reversed(older)] if seen else []
            rows["excluded"].append(list(dict.fromkeys(known))[:MOST_EXCLUDED] if self.exclude != "none" else [])
        self.user_table = _line_table(asset)
        # Row 0 is for unknown users.
        self.user_products = _Lists([[], *rows["products"]])
        self.user_types = _Lists([[], *rows["types"]])
        self.user_queries = _Lists([[], *rows["queries"]])
        self.user_times = _Lists([[], *rows["times"]], np.int64)
        self.user_excluded = _Lists([[], *rows["excluded"]])
        self.user_ratings = _Lists([[], *(row[-self.length :] for row in users["history_rating"])], np.float32)
        self.longest_seen = max([self.length, *map(len, rows["excluded"])])
        self.query_vectors = tf.Variable(data.query_vectors, trainable=False, name="query_vectors")
        if self.query_tower.behavior_text is not None:
            self.text_vectors = tf.Variable(data.catalogue.text_vector, trainable=False, name="text_vectors")
        self.profiles = tf.Variable(tf.pad(data.profile_codes(users), [[1, 0], [0, 0]]), trainable=False)

    def signatures(self) -> dict[str, Any]:
        """Return signature name to concrete function."""
        functions: dict[str, Any] = {
            "recommend": self.recommend.get_concrete_function(_named(_STRINGS, "user_id")),
            "recommend_for_history": self.recommend_for_history.get_concrete_function(
                _named(_LISTS, "history_product_id"), _named(_LISTS, "history_event_type")
            ),
            "similar": self.similar.get_concrete_function(_named(_STRINGS, "product_id")),
            "rank": self.rank.get_concrete_function(
                _named(_STRINGS, "user_id"), _named(_LISTS, "candidate_product_id")
            ),
        }
        return {"serving_default": functions["recommend"], **functions}

    @tf.function
    def recommend(self, user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answer for stored users ``[batch]`` string; an unknown one gets what is popular, scored by share.

        Returns:
            ``product_id``, ``title`` ``[batch, k]`` string and ``score`` ``[batch, k]`` float32, best first: the
            chance that the product is the next one.
        """
        user = self.user_table.lookup(user_id)
        rows = self._stored(user)
        return self._recommend(rows, self.user_excluded.rows(user).to_tensor(0))

    @tf.function
    def recommend_for_history(
        self, history_product_id: tf.Tensor, history_event_type: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Answer for fresh histories ``[batch, events]`` string, oldest first, padded with ""; nothing stored is read.

        An event of an unknown product is passed over; an event type that training did not know counts as a view.
        """
        products = tf.cast(self.product_table.lookup(history_product_id), tf.int32)
        kinds = tf.cast(self.event_types.lookup(history_event_type), tf.int32)
        kinds = tf.where(products > 0, tf.maximum(kinds, 1), 0)
        known = tf.ragged.boolean_mask(products, products > 0)
        types = tf.ragged.boolean_mask(kinds, products > 0)
        width = tf.shape(self.profiles)[1]
        rows = {
            "history_product": left_padded(known, self.length, 0),
            "history_event_type": left_padded(types, self.length, 0),
            "profile": tf.zeros([tf.shape(products)[0], width], tf.int32),
        }
        rows["history_query"] = tf.zeros_like(rows["history_product"])
        if self.exclude == "none":
            excluded = tf.zeros_like(products[:, :0])
        elif self.exclude == "seen":
            excluded = products
        else:
            own = tf.reduce_any(kinds[..., None] == self.bought, -1)
            excluded = tf.where(own, products, 0)
        # No more than the index was asked to have in reserve.
        return self._recommend(rows, excluded[:, -self.longest_seen :])

    @tf.function
    def similar(self, product_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answer with the products nearest to ``product_id`` ``[batch]``; an unknown one gets what is popular."""
        product = tf.cast(self.product_table.lookup(product_id), tf.int32)
        scores, found = self._nearest(tf.math.l2_normalize(tf.gather(self.vectors, product), 1))
        scores, found = self._or_popular(product > 0, scores, found)
        return self._answer(scores, found, product[:, None])

    @tf.function
    def rank(self, user_id: tf.Tensor, candidate_product_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """Put candidates ``[batch, candidates]`` in the order of the chance that the user does anything with them.

        Unknown or empty candidates come last, with score 0. Where the shop has ratings, ``rating``
        ``[batch, candidates]`` float32 is the one that the user is expected to give.
        """
        user = self.user_table.lookup(user_id)
        products = tf.cast(self.product_table.lookup(candidate_product_id), tf.int32)
        rows = self._stored(user)
        query = self._query(rows)
        shape = tf.shape(products)
        queries = tf.repeat(query, shape[1], axis=0)
        logits = self.ranking_head(queries, tf.reshape(tf.gather(self.vectors, products), [shape[0] * shape[1], -1]))
        chance = tf.reshape(tf.reduce_max(tf.sigmoid(logits), 1), shape)
        scores, order = tf.math.top_k(tf.where(products > 0, chance, 0.0), k=shape[1])
        answer = {
            "product_id": tf.gather(candidate_product_id, order, batch_dims=1),
            "score": scores,
            "title": tf.gather(self.titles, tf.gather(products, order, batch_dims=1)),
        }
        if self.rating_head is not None:
            history = rows["history_product"]
            known = tf.cast(history > 0, tf.float32)[..., None]
            past = {"index": history, "vector": tf.gather(self.vectors, history) * known}
            past["rating"] = rows["history_rating"]
            asked = {"index": products, "vector": tf.gather(self.vectors, products)}
            answer["rating"] = tf.gather(self.rating_head(asked, past), order, batch_dims=1)
        return answer

    def _stored(self, user: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "history_product": left_padded(self.user_products.rows(user), self.length, 0),
            "history_event_type": left_padded(self.user_types.rows(user), self.length, 0),
            "history_query": left_padded(self.user_queries.rows(user), self.length, 0),
            "history_timestamp": left_padded(self.user_times.rows(user), self.length, -1),
            "history_rating": left_padded(self.user_ratings.rows(user), self.length, float("nan")),
            "profile": tf.gather(self.profiles, user),
        }

    def _query(self, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        history = rows["history_product"]
        known = tf.cast(history > 0, tf.float32)[..., None]
        inputs = {
            "product_vectors": tf.gather(self.vectors, history) * known,
            "event_type": rows["history_event_type"],
            "query_vectors": tf.gather(self.query_vectors, rows["history_query"]),
            "profile": rows["profile"],
        }
        if "history_timestamp" in rows:
            inputs["timestamp"] = rows["history_timestamp"]
        if self.query_tower.behavior_text is not None:
            titles = tf.gather(self.text_vectors, history)
            inputs["text_vectors"] = tf.where(history[..., None] > 0, titles, inputs["query_vectors"])
        query = self.query_tower(inputs, training=False)[:, -1]
        return tf.math.l2_normalize(query, 1) if self.normalize else query

    def _recommend(self, rows: dict[str, tf.Tensor], excluded: tf.Tensor) -> dict[str, tf.Tensor]:
        scores, found = self._chances(self._query(rows), rows["history_product"])
        scores, found = self._or_popular(rows["history_event_type"][:, -1] > 0, scores, found)
        return self._answer(scores, found, excluded)

    def _chances(self, query: tf.Tensor, history: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the chances of the likeliest products to be the next, best first, and the products, ``[batch, most]``.

        Candidates are the nearest products and what the transition graph leads to; see `tfrs_shop.transitions.mix`.
        """
        scores, found = self._nearest(query)
        logits = scores / self.temperature
        log_total = self._log_total(query, logits)
        if not self.transition_weight:
            return tf.exp(logits - log_total), found
        neighbors, weights = self.transitions.edges(history)
        neighbor, weight = neighbors.to_tensor(0), weights.to_tensor(0.0)
        total = tf.reduce_sum(weight, 1, keepdims=True)
        # Only the first of several edges to one product, and none to a product that is near anyway, is a candidate.
        same = neighbor[:, :, None] == neighbor[:, None, :]
        earlier = tf.reduce_any(tf.linalg.band_part(same, -1, 0) & ~tf.eye(tf.shape(neighbor)[1], dtype=tf.bool), 2)
        near = tf.reduce_any(neighbor[:, :, None] == found[:, None, :], 2)
        extra = tf.where(earlier | near, 0, neighbor)
        products = tf.concat([found, extra], 1)
        extra_logits = tf.einsum("bd,bnd->bn", query, tf.gather(self.vectors, extra)) / self.temperature
        log_chance = tf.concat([logits, extra_logits], 1) - log_total
        leads = tf.cast(products[:, :, None] == neighbor[:, None, :], tf.float32)
        follows = tf.math.divide_no_nan(tf.einsum("bcn,bn->bc", leads, weight), total)
        mixed = tf.where(products > 0, tf.exp(mix(log_chance, follows, self.transition_weight)), -1.0)
        best, order = tf.math.top_k(mixed, self.most)
        return best, tf.gather(products, order, batch_dims=1)

    def _log_total(self, query: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, 1]``: the log of the sum of all products' exponentiated scores.

        The nearest products are summed, and for the others, which the index does not score, the sample stands.
        """
        others = tf.matmul(query, tf.gather(self.vectors, self.sample), transpose_b=True) / self.temperature
        # The product at the edge must not be counted twice where two ways to multiply round differently.
        is_near = others >= logits[:, -1:] - 1e-4
        count = tf.reduce_sum(tf.cast(~is_near, tf.float32), 1, keepdims=True)
        rest = tf.reduce_logsumexp(tf.where(is_near, -1e9, others), 1, keepdims=True)
        rest += tf.math.log(tf.maximum(self.products - self.most, 1e-9) / tf.maximum(count, 1.0))
        return tf.reduce_logsumexp(tf.concat([logits, rest], 1), 1, keepdims=True)

    def _nearest(self, queries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scores, found = self.index(queries, k=self.most)
        # ScaNN's op does not say what shape its answer has.
        return tf.ensure_shape(scores, [None, self.most]), tf.ensure_shape(found, [None, self.most])

    def _or_popular(self, known: tf.Tensor, scores: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return (
            tf.where(known[:, None], scores, self.popular_scores),
            tf.where(known[:, None], found, self.popular),
        )

    def _answer(self, scores: tf.Tensor, found: tf.Tensor, excluded: tf.Tensor) -> dict[str, tf.Tensor]:
        out = tf.reduce_any(found[:, :, None] == excluded[:, None, :], 2)
        # In order already: a stable sort by "left out or not" keeps it.
        order = tf.argsort(tf.cast(out, tf.int32), axis=1, stable=True)[:, : self.k]
        found = tf.gather(found, order, batch_dims=1)
        return {
            "product_id": tf.gather(self.product_ids, found),
            "score": tf.gather(scores, order, batch_dims=1),
            "title": tf.gather(self.titles, found),
        }


class _Lists(tf.Module):
    """Rows of numbers of any length, kept flat."""

    def __init__(self, rows: list[list[Any]], dtype: type[np.generic] = np.int32):
        super().__init__()
        lengths = np.array([len(row) for row in rows], np.int64)
        flat = np.concatenate([np.asarray(row, dtype) for row in rows]) if lengths.sum() else np.zeros(1, dtype)
        self.values = tf.Variable(flat, trainable=False)
        self.starts = tf.Variable(np.concatenate([[0], np.cumsum(lengths)]), trainable=False, dtype=tf.int64)

    def rows(self, index: tf.Tensor) -> tf.RaggedTensor:
        """Return the rows at ``index`` ``[batch]`` int64 as a ragged tensor."""
        first, last = tf.gather(self.starts, index), tf.gather(self.starts, index + 1)
        places = tf.ragged.range(first, last)
        return tf.gather(self.values, places)


def _spread_sample(products: int, most: int) -> np.ndarray:
    """Return `most` product indices, or all: evenly spread, and as indices are by popularity so is their popularity."""
    return np.unique(np.linspace(1, products, min(products, most)).round().astype(np.int32))


def _line_table(path: str) -> Any:
    """Return a table from a line of the file to its number, from 1; 0 for what is not there."""
    initializer = tf.lookup.TextFileInitializer(
        path, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    return _FromOne(tf.lookup.StaticHashTable(initializer, -1))


class _FromOne(tf.Module):
    """A table whose numbers start at 1, so that 0 is free for "unknown"."""

    def __init__(self, table: tf.lookup.StaticHashTable):
        super().__init__()
        self.table = table

    def lookup(self, keys: tf.Tensor) -> tf.Tensor:
        """Return ``[...]`` int64."""
        return self.table.lookup(keys) + 1


def _constant_table(values: list[bytes]) -> tf.lookup.StaticHashTable:
    keys, numbers = tf.constant([b"", *values]), tf.range(len(values) + 1, dtype=tf.int64)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, numbers), 0)


def _named(spec: tf.TensorSpec, name: str) -> tf.TensorSpec:
    return tf.TensorSpec(spec.shape, spec.dtype, name)
