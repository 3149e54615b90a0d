"""The shop as a bundle holds it: product vectors, index, users, and what the model reads of a user or a history.

Every question of ``tfrs_shop.served.questions`` is answered from one of it, so that nothing is in a bundle twice.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData, lookup_table
from tfrs_shop.habits import usual_of
from tfrs_shop.model.query_tower import QueryTower
from tfrs_shop.model.ranking_head import RankingHead
from tfrs_shop.model.rating_head import RatingHead
from tfrs_shop.model.repeats import RepeatBias
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.served.lookup import LineTable
from tfrs_shop.served.product_filter import Limits
from tfrs_shop.served.product_groups import ProductGroups
from tfrs_shop.served.product_parts import ProductParts
from tfrs_shop.served.retrieval import Retrieval
from tfrs_shop.served.stored_users import StoredUsers, bought_types
from tfrs_shop.served.text_search import TextSearch, text_encoder
from tfrs_shop.served.tracing import Plain
from tfrs_shop.table_rows import table_rows

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


@dataclasses.dataclass(frozen=True)
class Layers:
    """The layers of the model that answers are made with.

    In a plain object: SavedModel would trace every Keras layer that it finds once more, for a Keras that loads it.
    """

    query_tower: QueryTower
    ranking_head: RankingHead
    rating_head: RatingHead | None
    repeats: RepeatBias | None

    def weights(self) -> list[tf.Variable]:
        """Return the weights of all of them, which the bundle must hold."""
        layers = (self.query_tower, self.ranking_head, self.rating_head, self.repeats)
        return [weight for layer in layers if layer is not None for weight in layer.weights]


class ServedShop(tf.Module):
    """What all questions are answered from: one set of vectors, one index, one list of users.

    Args:
        model: trained; its query tower and its heads are kept.
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
        # Where nobody rates, or the head is untrained, there is no rating to answer with.
        rates = "event_rating" in data.manifest.statistics and model.config.ranking.weight > 0
        self.layers = Layers(
            query_tower=model.query_tower,
            ranking_head=model.ranking_head,
            rating_head=model.rating_head if rates else None,
            repeats=model.repeats if model.config.towers.repeats else None,
        )
        self.weights = self.layers.weights()
        self.users = StoredUsers(data, self.length, assets["users"], model.habit_weight > 0)
        reserve = {"none": 0, "bought": self.users.longest_bought, "seen": self.users.longest_seen}[serving.exclude]
        self.retrieval = Retrieval(model, data, vectors, serving.k, reserve)
        self.vectors, self.filter = self.retrieval.vectors, self.retrieval.filter
        self.product_ids = tf.Variable(data.catalogue.product_id.astype(np.bytes_), trainable=False, name="product_id")
        self.titles = tf.Variable(data.catalogue.title.tolist(), trainable=False, name="title", dtype=tf.string)
        self.categories = ProductGroups(data.catalogue.category_name)
        self.brands = ProductGroups(data.catalogue.brand_name)
        self.product_table = LineTable(assets["products"])
        self.event_types = lookup_table(data.values["event_type"])
        self.event_type_names = tf.constant(data.values["event_type"], tf.string)
        # A shop without events has no type; its histories are then as if empty.
        self.least_type = min(1, len(data.values["event_type"]))
        self.bought = tf.constant(bought_types(data), tf.int32)
        self.query_vectors = tf.Variable(data.query_vectors, trainable=False, name="query_vectors")
        self.query_texts = tf.constant([b"", *data.values["query"]])
        self.id_rows = tf.Variable(data.catalogue.embedding, trainable=False, name="id_rows")
        # A data directory of an older version has no lexicon, and its bundle no search.
        self.text_search = None
        if data.lexicon is not None:
            self.text_search = TextSearch(data, data.lexicon, text_encoder(data), model.search, model.intent_head)
        if model.query_tower.behavior_text is not None:
            self.text_vectors = tf.Variable(data.catalogue.text_vector, trainable=False, name="text_vectors")
        # What the titles of a history are read as is what the products are made of, unless the encoder was trained on.
        titles = getattr(self, "text_vectors", None) if model.text is None else None
        self.product_parts = ProductParts(model, data, titles)
        self.stored_once = Plain(tf.function(self.users.rows, autograph=False))
        self.read_once = Plain(tf.function(self._read, autograph=False, reduce_retracing=True))
        self.next_once = Plain(tf.function(self.retrieval.next_products, autograph=False, reduce_retracing=True))

    def fresh(self, product_id: tf.Tensor, event_type: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """Return what the model reads of histories that a request gives, and their products and known types.

        An event of an unknown product is passed over; an event type that training did not know is read as the most
        frequent one, but never as a purchase.

        Args:
            product_id, event_type: ``[batch, events]`` string, oldest first, padded with "".

        Returns:
            ``history_product``, ``history_event_type``, ``history_query`` ``[batch, length]`` int32 (left-padded with
            0) and ``profile``; then the products and the types ``[batch, events]`` int32, 0 for unknown ones.
        """
        products = self.products_of(product_id)
        kinds = tf.where(products > 0, tf.cast(self.event_types.lookup(event_type), tf.int32), 0)
        # A type that training did not know is read as the most frequent one, but is no purchase.
        read = tf.where(products > 0, tf.maximum(kinds, self.least_type), 0)
        newest = known_last(products, self.length)
        rows = {
            "history_product": tf.gather(tf.pad(products, [[0, 0], [1, 0]]), newest, batch_dims=1),
            "history_event_type": tf.gather(tf.pad(read, [[0, 0], [1, 0]]), newest, batch_dims=1),
            "profile": tf.zeros([tf.shape(products)[0], self.users.attributes], tf.int32),
        }
        rows["history_query"] = tf.zeros_like(rows["history_product"])
        if self.users.habits:
            # Whether a session begins after it is not known.
            nothing = tf.zeros([tf.shape(products)[0], 0])
            rows |= {"usual_product": tf.cast(nothing, tf.int32), "usual_share": nothing}
        return rows, products, kinds

    def stored(self, user_id: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Return what the model reads of stored users ``[batch]`` string, as `fresh` does, and their numbers."""
        user = self.users.lookup(user_id)
        return self.stored_once.value(user), user

    def products_of(self, product_id: tf.Tensor) -> tf.Tensor:
        """Return the numbers of products, int32, 0 for an unknown one."""
        return tf.cast(self.product_table.lookup(product_id), tf.int32)

    def own_of_user(self, user: tf.Tensor) -> tf.Tensor:
        """Return the products ``[batch, products]`` that are always left out for users ``[batch]``."""
        if self.exclude == "none":
            return tf.zeros([tf.shape(user)[0], 0], tf.int32)
        stored = self.users.seen if self.exclude == "seen" else self.users.bought
        return stored.rows(user)

    def own_of_history(self, products: tf.Tensor, kinds: tf.Tensor) -> tf.Tensor:
        """Return the products ``[batch, products]`` that are always left out after the histories of `fresh`."""
        if self.exclude == "none":
            return tf.zeros_like(products)
        own = tf.reduce_any(kinds[..., None] == self.bought, -1)
        return products if self.exclude == "seen" else tf.where(own, products, 0)

    def query(self, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        """Return the query vectors ``[batch, width]`` after the last event of each row."""
        return self.last_query(self.read_once.value(rows, last=True))

    def last_query(self, read: tf.Tensor) -> tf.Tensor:
        """Return the query vectors ``[batch, width]`` of what the query tower gives."""
        return tf.math.l2_normalize(read[:, -1], 1) if self.normalize else read[:, -1]

    def queries(self, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        """Return the query vectors ``[batch, history, width]`` after each event of each row."""
        read = self.read_once.value(rows, last=False)
        return tf.math.l2_normalize(read, 2) if self.normalize else read

    def query_inputs(self, rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return what the query tower reads of `rows`."""
        history = rows["history_product"]
        known = tf.cast(history > 0, tf.float32)[..., None]
        inputs = {
            "product_vectors": table_rows(self.vectors, history) * known,
            "event_type": _of_unknown_shape(rows["history_event_type"]),
            "query_vectors": tf.gather(self.query_vectors, rows["history_query"]),
            "profile": rows["profile"],
        }
        if "history_timestamp" in rows:
            inputs["timestamp"] = rows["history_timestamp"]
        if self.layers.query_tower.behavior_text is not None:
            titles = tf.gather(self.text_vectors, history)
            inputs["text_vectors"] = tf.where(history[..., None] > 0, titles, inputs["query_vectors"])
        return inputs

    def _read(self, rows: dict[str, tf.Tensor], *, last: bool) -> tf.Tensor:
        return self.layers.query_tower(self.query_inputs(rows), training=False, last=last)

    def ratings(self, rows: dict[str, tf.Tensor], products: tf.Tensor) -> tf.Tensor:
        """Return the ratings ``[batch, products]`` float32 that are expected of users for ``products``."""
        history = rows["history_product"]
        known = tf.cast(history > 0, tf.float32)[..., None]
        past = {"index": tf.gather(self.id_rows, history), "vector": table_rows(self.vectors, history) * known}
        past["rating"] = rows["history_rating"]
        asked = {"index": tf.gather(self.id_rows, products), "vector": table_rows(self.vectors, products)}
        assert self.layers.rating_head is not None
        return self.layers.rating_head(asked, past)

    def next_products(
        self,
        rows: dict[str, tf.Tensor],
        limits: Limits,
        *,
        count: int | None = None,
        besides: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the chances and the likeliest allowed products to be the next, ``[batch, k]``, best first.

        `count` and `besides` are those of ``Retrieval.next_products``.
        """
        known = rows["history_event_type"][:, -1] > 0
        history = rows["history_product"]
        layer = self.layers.repeats
        repeats = layer(history, rows["history_event_type"])[:, -1] if layer is not None else None
        usual = usual_of(rows) if self.users.habits else None
        return self.next_once.value(
            self.query(rows), history, repeats, known, limits, usual=usual, count=count, besides=besides
        )

    def event_titles(self, products: tf.Tensor, queries: tf.Tensor) -> tf.Tensor:
        """Return the titles of events by their products and queries, int32, 0 for none: of a search it is its query."""
        return tf.where(products > 0, tf.gather(self.titles, products), tf.gather(self.query_texts, queries))

    def answer(self, scores: tf.Tensor, products: tf.Tensor) -> Answer:
        """Return the ids, scores and titles of products ``[batch, k]``, 0 for "no more"."""
        return {
            "product_id": tf.gather(self.product_ids, products),
            "score": scores,
            "title": tf.gather(self.titles, products),
        }


def _of_unknown_shape(values: tf.Tensor) -> tf.Tensor:
    """Return ``values`` ``[batch, history]`` without their shape.

    Where TensorFlow's optimizer finds that more than two sums of the query tower have one shape, it adds them at once,
    which gains nothing, then looks at what memory the sum needs, and warns on stderr of each softmax on its way.
    """
    return tf.compat.v1.placeholder_with_default(values, [None, None])


def known_last(products: tf.Tensor, length: int) -> tf.Tensor:
    """Return ``[batch, length]`` int32: where the newest known of ``products`` ``[batch, events]`` are, from 1.

    They are in their order, oldest first, with 0 on the left for "no more".
    """
    events = tf.shape(products)[1]
    known = tf.cast(products > 0, tf.int32)
    # Of equals the first comes first, so this is all unknown ones, then all known ones, each in their order.
    order = tf.math.top_k(1 - known, events).indices
    places = tf.where(tf.gather(known, order, batch_dims=1) > 0, order + 1, 0)
    # What follows is traced once for stored histories and these, which takes shapes that are known alike.
    return tf.ensure_shape(tf.pad(places, [[0, 0], [length, 0]])[:, -length:], [None, length])
