"""The signatures of a bundle: what TensorFlow Serving is asked, apart from the model that answers.

TensorFlow Serving's REST interface wants every input of a signature in every request, so a door that needs only a
user id has only ``user_id`` as its input, and filters have doors of their own. Histories are lists of equal length,
padded with "". What is not on sale at the time of the request is answered by none of them. Where fewer products than
k may be answered, the rest of an answer is product id "", title "" and score 0.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData, left_padded, lookup_table
from tfrs_shop.lookup import LineTable, named
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.product_filter import Limits, clock
from tfrs_shop.retrieval import Retrieval
from tfrs_shop.stored_users import StoredUsers, bought_types

_STRINGS = tf.TensorSpec([None], tf.string)
_LISTS = tf.TensorSpec([None, None], tf.string)
_NUMBERS = tf.TensorSpec([None], tf.float32)
_FILTER = (
    named(_LISTS, "exclude_product_id"),
    named(_STRINGS, "category"),
    named(_NUMBERS, "price_min"),
    named(_NUMBERS, "price_max"),
    named(tf.TensorSpec([None], tf.bool), "exclude_seen"),
    named(tf.TensorSpec([None], tf.int64), "now"),
)

Answer = dict[str, tf.Tensor]


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
    """Answers every signature from one set of vectors.

    Args:
        model: trained; its query tower and ranking head are kept.
        data: whose products and users are served.
        vectors: ``[products + 1, width]`` of the whole catalogue, padding row first.
        serving: what the answers are like.
        assets: files of the product ids and the user ids, one a line.
    """

    def __init__(self, model: ShopModel, data: ShopData, vectors: np.ndarray, serving: Serving, assets: dict[str, str]):
        super().__init__(name="shop")
        self.length = model.config.towers.max_history
        self.normalize = model.config.towers.normalize
        self.exclude = serving.exclude
        self.query_tower, self.ranking_head = model.query_tower, model.ranking_head
        # Where nobody rates, or the head is untrained, there is no rating to answer with.
        rates = "event_rating" in data.manifest.statistics and model.config.ranking.weight > 0
        self.rating_head = model.rating_head if rates else None
        self.repeats = model.repeats if model.config.towers.repeats else None
        self.users = StoredUsers(data, self.length, assets["users"])
        reserve = {"none": 0, "bought": self.users.longest_bought, "seen": self.users.longest_seen}[serving.exclude]
        self.retrieval = Retrieval(model, data, vectors, serving.k, reserve)
        self.vectors, self.filter = self.retrieval.vectors, self.retrieval.filter
        self.product_ids = tf.Variable(data.catalogue.product_id.astype(np.bytes_), trainable=False, name="product_id")
        self.titles = tf.Variable(data.catalogue.title.tolist(), trainable=False, name="title", dtype=tf.string)
        self.product_table = LineTable(assets["products"])
        self.event_types = lookup_table(data.values["event_type"])
        self.bought = tf.constant(bought_types(data), tf.int32)
        self.query_vectors = tf.Variable(data.query_vectors, trainable=False, name="query_vectors")
        self.id_rows = tf.Variable(data.catalogue.embedding, trainable=False, name="id_rows")
        if self.query_tower.behavior_text is not None:
            self.text_vectors = tf.Variable(data.catalogue.text_vector, trainable=False, name="text_vectors")

    def signatures(self) -> dict[str, Any]:
        """Return signature name to concrete function."""
        user, product = named(_STRINGS, "user_id"), named(_STRINGS, "product_id")
        history = (named(_LISTS, "history_product_id"), named(_LISTS, "history_event_type"))
        functions = {
            "recommend": self.recommend.get_concrete_function(user),
            "recommend_for_history": self.recommend_for_history.get_concrete_function(*history),
            "recommend_filtered": self.recommend_filtered.get_concrete_function(user, *_FILTER),
            "recommend_for_history_filtered": self.recommend_for_history_filtered.get_concrete_function(
                *history, *_FILTER
            ),
            "similar": self.similar.get_concrete_function(product),
            "rank": self.rank.get_concrete_function(user, named(_LISTS, "candidate_product_id")),
        }
        return {"serving_default": functions["recommend"], **functions}

    @tf.function
    def recommend(self, user_id: tf.Tensor) -> Answer:
        """Answer for stored users ``[batch]`` string; an unknown one gets what is popular, scored by share.

        Returns:
            ``product_id``, ``title`` ``[batch, k]`` string and ``score`` ``[batch, k]`` float32, best first: the
            chance that the product is the next one.
        """
        user = self.users.lookup(user_id)
        return self._recommend(self.users.rows(user), self.filter.no_limits(tf.shape(user)[0], self._own_of_user(user)))

    @tf.function
    def recommend_for_history(self, history_product_id: tf.Tensor, history_event_type: tf.Tensor) -> Answer:
        """Answer for fresh histories ``[batch, events]`` string, oldest first, padded with ""; nothing stored is read.

        An event of an unknown product is passed over; an event type that training did not know is read
        as the most frequent one, but never as a purchase.
        """
        rows, products, kinds = self._fresh(history_product_id, history_event_type)
        own = self._own_of_history(products, kinds)
        return self._recommend(rows, self.filter.no_limits(tf.shape(products)[0], own))

    @tf.function
    def recommend_filtered(
        self,
        user_id: tf.Tensor,
        exclude_product_id: tf.Tensor,
        category: tf.Tensor,
        price_min: tf.Tensor,
        price_max: tf.Tensor,
        exclude_seen: tf.Tensor,
        now: tf.Tensor,
    ) -> Answer:
        """Answer as `recommend` does, with what a request asks for.

        Args:
            user_id: ``[batch]`` string.
            exclude_product_id: ``[batch, products]`` string, padded with "".
            category: ``[batch]`` string, a category path or the start of one, "Makeup > Face"; "": any.
            price_min, price_max: ``[batch]`` float32, both inclusive; NaN or negative: no bound. A product without a
                price is in no range.
            exclude_seen: ``[batch]`` bool, leave out all products of the user's events, not only bought ones.
            now: ``[batch]`` int64, milliseconds since 1970, of which a product must be on sale; 0: now.
        """
        user = self.users.lookup(user_id)
        seen = self.users.seen.rows(user).to_tensor(0)
        limits = self._limits(self._own_of_user(user), exclude_product_id, category, price_min, price_max, now)
        return self._recommend(self.users.rows(user), _and_excluded(limits, seen, exclude_seen))

    @tf.function
    def recommend_for_history_filtered(
        self,
        history_product_id: tf.Tensor,
        history_event_type: tf.Tensor,
        exclude_product_id: tf.Tensor,
        category: tf.Tensor,
        price_min: tf.Tensor,
        price_max: tf.Tensor,
        exclude_seen: tf.Tensor,
        now: tf.Tensor,
    ) -> Answer:
        """Answer as `recommend_for_history` does, with the filter of `recommend_filtered`."""
        rows, products, kinds = self._fresh(history_product_id, history_event_type)
        own = self._own_of_history(products, kinds)
        limits = self._limits(own, exclude_product_id, category, price_min, price_max, now)
        return self._recommend(rows, _and_excluded(limits, products, exclude_seen))

    @tf.function
    def similar(self, product_id: tf.Tensor) -> Answer:
        """Answer with the products nearest to ``product_id`` ``[batch]``; an unknown one gets what is popular."""
        product = self._products_of(product_id)
        query = tf.math.l2_normalize(tf.gather(self.vectors, product), 1)
        limits = self.filter.no_limits(tf.shape(product)[0], product[:, None])
        return self._answer(*self.retrieval.similar(query, product > 0, limits))

    @tf.function
    def rank(self, user_id: tf.Tensor, candidate_product_id: tf.Tensor) -> Answer:
        """Put candidates ``[batch, candidates]`` in the order of the chance that the user does anything with them.

        Unknown or empty candidates come last, with score 0; those that are not on sale too, and with "" as their id.
        Where the shop has ratings, ``rating`` ``[batch, candidates]`` float32 is the one the user is expected to give.
        """
        products = self._products_of(candidate_product_id)
        on_sale = self.filter.on_sale(clock()[None], products)
        rows = self.users.rows(self.users.lookup(user_id))
        query = self._query(rows)
        shape = tf.shape(products)
        queries = tf.repeat(query, shape[1], axis=0)
        logits = self.ranking_head(queries, tf.reshape(tf.gather(self.vectors, products), [shape[0] * shape[1], -1]))
        chance = tf.reshape(tf.reduce_max(tf.sigmoid(logits), 1), shape)
        scores, order = tf.math.top_k(tf.where(on_sale, chance, 0.0), k=shape[1])
        candidates = tf.where((products > 0) & ~on_sale, "", candidate_product_id)
        answer = {
            "product_id": tf.gather(candidates, order, batch_dims=1),
            "score": scores,
            "title": tf.gather(self.titles, tf.gather(tf.where(on_sale, products, 0), order, batch_dims=1)),
        }
        if self.rating_head is not None:
            history = rows["history_product"]
            known = tf.cast(history > 0, tf.float32)[..., None]
            past = {"index": tf.gather(self.id_rows, history), "vector": tf.gather(self.vectors, history) * known}
            past["rating"] = rows["history_rating"]
            asked = {"index": tf.gather(self.id_rows, products), "vector": tf.gather(self.vectors, products)}
            answer["rating"] = tf.gather(self.rating_head(asked, past), order, batch_dims=1)
        return answer

    def query_of_users(self, user_id: tf.Tensor) -> tf.Tensor:
        """Return the query vectors ``[batch, width]`` that the index is asked for stored users."""
        return self._query(self.users.rows(self.users.lookup(user_id)))

    def _fresh(self, product_id: tf.Tensor, event_type: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """Return what the query tower reads of histories, and their products and known types, else 0."""
        products = self._products_of(product_id)
        kinds = tf.where(products > 0, tf.cast(self.event_types.lookup(event_type), tf.int32), 0)
        # A type that training did not know is read as the most frequent one, but is no purchase.
        read = tf.where(products > 0, tf.maximum(kinds, 1), 0)
        rows = {
            "history_product": left_padded(tf.ragged.boolean_mask(products, products > 0), self.length, 0),
            "history_event_type": left_padded(tf.ragged.boolean_mask(read, products > 0), self.length, 0),
            "profile": tf.zeros([tf.shape(products)[0], self.users.attributes], tf.int32),
        }
        rows["history_query"] = tf.zeros_like(rows["history_product"])
        return rows, products, kinds

    def _products_of(self, product_id: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.product_table.lookup(product_id), tf.int32)

    def _own_of_user(self, user: tf.Tensor) -> tf.Tensor:
        """Return the products ``[batch, products]`` that are always left out."""
        if self.exclude == "none":
            return tf.zeros([tf.shape(user)[0], 0], tf.int32)
        stored = self.users.seen if self.exclude == "seen" else self.users.bought
        return stored.rows(user).to_tensor(0)

    def _own_of_history(self, products: tf.Tensor, kinds: tf.Tensor) -> tf.Tensor:
        if self.exclude == "none":
            return tf.zeros_like(products)
        own = tf.reduce_any(kinds[..., None] == self.bought, -1)
        return products if self.exclude == "seen" else tf.where(own, products, 0)

    def _limits(
        self,
        own: tf.Tensor,
        exclude_product_id: tf.Tensor,
        category: tf.Tensor,
        price_min: tf.Tensor,
        price_max: tf.Tensor,
        now: tf.Tensor,
    ) -> Limits:
        return Limits(
            excluded=tf.concat([own, self._products_of(exclude_product_id)], 1),
            category=self.filter.category_of(category),
            price_min=price_min,
            price_max=price_max,
            now=tf.where(now > 0, now, clock()),
        )

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

    def _recommend(self, rows: dict[str, tf.Tensor], limits: Limits) -> Answer:
        known = rows["history_event_type"][:, -1] > 0
        history = rows["history_product"]
        repeats = self.repeats(history, rows["history_event_type"])[:, -1] if self.repeats is not None else None
        return self._answer(*self.retrieval.next_products(self._query(rows), history, repeats, known, limits))

    def _answer(self, scores: tf.Tensor, products: tf.Tensor) -> Answer:
        return {
            "product_id": tf.gather(self.product_ids, products),
            "score": scores,
            "title": tf.gather(self.titles, products),
        }


def _and_excluded(limits: Limits, products: tf.Tensor, wanted: tf.Tensor) -> Limits:
    """Return `limits` that exclude ``products`` ``[batch, products]`` too, in the rows where ``wanted`` ``[batch]``."""
    return limits._replace(excluded=tf.concat([limits.excluded, tf.where(wanted[:, None], products, 0)], 1))
