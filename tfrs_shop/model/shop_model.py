"""The model: query tower, product tower, retrieval and ranking, trained with plain ``compile`` and ``fit``."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tfrs_shop.catalogue import BUCKETED, bucket_edges, word_counts
from tfrs_shop.config import Config
from tfrs_shop.dataset import ShopData
from tfrs_shop.edges import EdgeScorer, mix
from tfrs_shop.errors import UserError
from tfrs_shop.habits import usual_of
from tfrs_shop.likeness import Likeness, likeness_vectors
from tfrs_shop.model.behavior_head import Behavior, BehaviorHead, behavior_tasks
from tfrs_shop.model.intent_head import IntentHead
from tfrs_shop.model.product_tower import ProductTower
from tfrs_shop.model.query_tower import QueryTower
from tfrs_shop.model.ranking_head import RankingHead, TaskWeights
from tfrs_shop.model.ranks import ranks_of
from tfrs_shop.model.rating_head import RatingHead
from tfrs_shop.model.repeats import RepeatBias, added_at, latest, without_repeats
from tfrs_shop.model.retrieval_loss import Past, Positions, RetrievalLoss
from tfrs_shop.model.search_tower import SearchWeights
from tfrs_shop.model.text_tuning import TunedText

FULL_SOFTMAX_LIMIT = 50_000
VALIDATION_CUTOFFS = (1, 10)


class ShopModel(tfrs.Model):
    """Two towers over one catalogue, with a retrieval task and a ranking task.

    Rows come from ``ShopData.training_windows``, where each position of a history asks for the product that
    followed, and from ``ShopData.evaluation_batches``, where the last position does.

    >>> model = ShopModel(data, Config())                                                # doctest: +SKIP
    >>> model.compile(tf_keras.optimizers.Adam(1e-3))                                    # doctest: +SKIP
    >>> model.fit(data.training_windows(20).shuffle(10_000).batch(128), epochs=5)   # doctest: +SKIP

    Args:
        data: the data directory whose catalogue and vocabularies the model is for.
        config: sizes, losses, regularisation.

    Raises:
        UserError: XLA is asked for with a loss that it cannot compile.
    """

    def __init__(self, data: ShopData, config: Config):
        super().__init__()
        self.config = config
        catalogue, values = data.catalogue, data.values
        self.products = catalogue.size
        # In a plain object, so that Keras does not save the catalogue with the weights.
        self._tables = _Tables(data, config)
        self.transition_weight = config.transitions.weight or 0.0
        self.likeness_weight = (config.likeness.weight or 0.0) if self.likeness is not None else 0.0
        self.habit_weight = config.habits.weight or 0.0
        # What was learnt from search events; trained apart, and kept in a file of its own.
        self.search: SearchWeights | None = None
        self.text = TunedText(data, config.text, name="text") if config.text.tuning != "frozen" else None
        self.product_tower = ProductTower(
            config.towers,
            products=catalogue.embeddings,
            words=word_counts(catalogue.words, len(values["words"])),
            categories=len(values["category"]),
            brands=len(values["brand"]),
            bucket_sizes=[len(bucket_edges(data.manifest, name)) + 2 for name in BUCKETED],
            text_mean=catalogue.text_mean,
            dense_words=config.training.xla,
            name="product_tower",
        )
        self.query_tower = QueryTower(
            config.towers,
            event_types=len(values["event_type"]),
            text_mean=catalogue.text_mean,
            queries=len(values["query"]),
            profile_sizes=data.profile_sizes,
            name="query_tower",
        )
        if config.towers.repeats:
            self.repeats = RepeatBias(config.towers.max_history, len(values["event_type"]), name="repeats")
        ranking = config.ranking
        # A layer of no outputs brings oneDNN down, so that a shop without events has one that is never trained.
        kinds = max(1, len(values["event_type"]))
        rating_mean = data.manifest.statistics.get("event_rating", {}).get("mean", 0.0)
        self.ranking_head = RankingHead(ranking, kinds, name="ranking_head")
        self.rating_head = RatingHead(
            ranking, catalogue.embeddings, config.towers.max_history, rating_mean, name="rating_head"
        )
        self.task_weights = TaskWeights([ranking.behavior_weight] * kinds + [ranking.rating_weight], name="tasks")
        tasks = behavior_tasks(data)
        self.behavior_head = None
        if config.behavior.steps and tasks:
            self.behavior_head = BehaviorHead(config.behavior, tasks, config.towers.max_history, name="behavior_head")
            # It is trained apart, when the towers are done.
            self.behavior_head.trainable = False
        self.leaf_category = tf.constant(tasks.leaf)
        self.intent_head = IntentHead(len(values["category"]), name="intent_head") if tasks.category else None
        if config.training.xla and not self.full_softmax:
            raise UserError(
                "training.xla: only the full softmax can be compiled, and this catalogue or these settings have "
                "another loss; give retrieval.loss full_softmax, or leave xla off."
            )
        self.retrieval_loss = RetrievalLoss(
            config.retrieval, catalogue.train_count, self.full_softmax, self.temperature, config.towers.width
        )
        self.mean_loss = tf_keras.metrics.Mean(name="loss")
        self.validation = {
            name: tf_keras.metrics.Mean(name=name)
            for cutoff in VALIDATION_CUTOFFS
            for name in (f"recall@{cutoff}", f"ndcg@{cutoff}")
        }

    @property
    def temperature(self) -> float:
        """What the scores are divided by."""
        return self.config.retrieval.temperature if self.config.towers.normalize else 1.0

    @property
    def likeness(self) -> Likeness | None:
        """How like products are to a history; None where they have no texts."""
        return self._tables.likeness

    @property
    def full_softmax(self) -> bool:
        """Whether the retrieval loss is over all products."""
        loss, small = self.config.retrieval.loss, self.products <= FULL_SOFTMAX_LIMIT
        return loss == "full_softmax" or (loss == "auto" and small and self.text is None)

    def product_vectors(self, features: dict[str, tf.Tensor] | None = None, training: bool = False) -> tf.Tensor:
        """Return ``[products, width]`` float32, unit length where scores are cosines.

        Args:
            features: what the product tower reads; the whole catalogue, padding row included, if not given.
            training: whether dropout is on.
        """
        if features is None:
            features = self._tables.features
            if self.text is not None:
                features = features | {"text_vector": tf.convert_to_tensor(self.text.vectors)}
        vectors = self.product_tower(features, training=training)
        return tf.math.l2_normalize(vectors, 1) if self.config.towers.normalize else vectors

    def query_vectors(
        self, rows: dict[str, tf.Tensor], history_vectors: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Return ``[batch, history, width]`` float32 query vectors, unit length where scores are cosines.

        Args:
            rows: ``history_product``, ``history_event_type``, ``history_query`` ``[batch, history]``, ``profile``
                ``[batch, attributes]``, and ``history_timestamp`` ``[batch, history]`` where times are known.
            history_vectors: ``[batch, history, width]`` product vectors of the history, zeros for searches.
            training: whether dropout is on.
        """
        inputs = {
            "product_vectors": history_vectors,
            "event_type": rows["history_event_type"],
            "profile": rows["profile"],
        }
        if "history_timestamp" in rows:
            inputs["timestamp"] = rows["history_timestamp"]
        if self.query_tower.query_adapter is not None or self.query_tower.behavior_text is not None:
            searched = rows.get("history_query_vector")
            if searched is None:
                searched = tf.gather(self._tables.queries, rows["history_query"])
            inputs["query_vectors"] = searched
            titles = tf.gather(self._tables.features["text_vector"], rows["history_product"])
            inputs["text_vectors"] = tf.where(rows["history_product"][..., None] > 0, titles, searched)
        vectors = self.query_tower(inputs, training=training)
        return tf.math.l2_normalize(vectors, 2) if self.config.towers.normalize else vectors

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return the mean retrieval loss of all labelled positions, plus the weighted ranking losses.

        On one of several replicas in training it is divided by their number, as the optimizer sums their gradients.
        """
        label = inputs["label"]
        history = inputs["history_product"]
        asked = label > 0
        vectors, rows_of, targets = self._needed_vectors(history, tf.boolean_mask(label, asked), training)
        known = tf.cast(history > 0, tf.float32)[..., None]
        history_vectors = tf.gather(vectors, rows_of(history)) * known
        queries = self.query_vectors(inputs, history_vectors, training)
        past = self._past(inputs, queries, history_vectors, asked)
        queries = tf.boolean_mask(queries, asked)
        positions = Positions(queries, targets, label, past)
        loss = self.retrieval_loss(
            positions, vectors, lambda products: self._vectors_of(products, training), self.product_vectors
        )
        if self.config.ranking.weight:
            products = tf.gather(vectors, targets)
            loss += self.config.ranking.weight * self._ranking_loss(
                inputs, queries, products, history_vectors, training
            )
        return loss / _replicas() if training else loss

    @tf.autograph.experimental.do_not_convert
    def train_step(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Take one step, and return the mean loss of the epoch so far."""
        self.mean_loss.update_state(super().train_step(inputs)["loss"] * _replicas())
        return {"loss": self.mean_loss.result()}

    @tf.autograph.experimental.do_not_convert
    def test_step(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Rank all products for the last position of each row by the model alone; seen products stay in."""
        ranks = ranks_of(self.scores(self.product_vectors(), inputs), inputs)
        found = tf.cast(ranks, tf.float32)
        for cutoff in VALIDATION_CUTOFFS:
            hit = tf.cast(ranks < cutoff, tf.float32)
            self.validation[f"recall@{cutoff}"].update_state(hit)
            self.validation[f"ndcg@{cutoff}"].update_state(hit * np.log(2.0) / tf.math.log(found + 2.0))
        return {name: metric.result() for name, metric in self.validation.items()}

    def target_ranks(self, vectors: tf.Tensor, rows: dict[str, tf.Tensor], exclude_seen: bool = False) -> tf.Tensor:
        """Return ``[batch]`` int32: how many products stand before the target of each row; ties stand before it.

        Args:
            vectors: ``[products + 1, width]`` of the whole catalogue.
            rows: as of ``ShopData.evaluation_batches``.
            exclude_seen: take the products of the user's earlier events out of the ranking first.
        """
        return ranks_of(self.final_scores(vectors, rows), rows, exclude_seen)

    def final_scores(
        self, vectors: tf.Tensor, rows: dict[str, tf.Tensor], queries: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Return ``[batch, products + 1]`` float32: the log of each product's chance to be the next, as it is served.

        It is the model's softmax, mixed with the transition graph and with the user's habits where they have a weight;
        -inf for no product. Where the ``last_queries`` are known already they may be given.
        """
        log_chance, follows = self.parts_of_scores(vectors, rows, queries)
        if self.transition_weight:
            log_chance = mix(log_chance, follows, self.transition_weight)
        if self.habit_weight:
            usual = usual_of(rows)
            log_chance = usual.mixed(log_chance, usual.of_all(self.products), self.habit_weight)
        return log_chance

    def parts_of_scores(
        self, vectors: tf.Tensor, rows: dict[str, tf.Tensor], queries: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the model's log-softmax, moved by likeness, and the graph's scores, both ``[batch, products + 1]``."""
        logits = self.scores(vectors, rows, queries)[:, 1:] / self.temperature
        if self.likeness_weight:
            assert self.likeness is not None
            logits += self.likeness_weight * self.likeness.of_all(rows["history_product"])[:, 1:]
        log_chance = tf.pad(tf.nn.log_softmax(logits), [[0, 0], [1, 0]], constant_values=-np.inf)
        follows = self._tables.transitions.scores(rows["history_product"], self.products)
        if self.config.towers.repeats:
            follows = without_repeats(rows["history_product"], self.last_repeats(rows) / self.temperature, follows)
        return log_chance, follows

    def scores(self, vectors: tf.Tensor, rows: dict[str, tf.Tensor], queries: tf.Tensor | None = None) -> tf.Tensor:
        """Return ``[batch, products + 1]`` float32: the query vector of the last position times each product vector.

        Those of the history's products are moved by what is learned of repeats.
        """
        queries = self.last_queries(vectors, rows) if queries is None else queries
        scores = tf.matmul(queries, vectors, transpose_b=True)
        return (
            added_at(rows["history_product"], self.last_repeats(rows), scores) if self.config.towers.repeats else scores
        )

    def last_repeats(self, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        """Return ``[batch, history]`` float32: what is added to the scores of the history's products in the end."""
        bias: tf.Tensor = self.repeats(rows["history_product"], rows["history_event_type"])[:, -1]
        return bias

    def id_rows(self, products: tf.Tensor) -> tf.Tensor:
        """Return the rows of `products` in embeddings by id, 0 for a product that the model was not trained on."""
        return tf.gather(self._tables.features["index"], products)

    def last_queries(self, vectors: tf.Tensor, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        """Return ``[batch, width]`` float32: the query vector after the last event of each row."""
        return self.all_queries(vectors, rows)[:, -1]

    def all_queries(self, vectors: tf.Tensor, rows: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return ``[batch, history, width]`` as `query_vectors` does, given the ``vectors`` of the whole catalogue."""
        history = rows["history_product"]
        known = tf.cast(history > 0, tf.float32)[..., None]
        return self.query_vectors(rows, tf.gather(vectors, history) * known, training)

    def _needed_vectors(self, history: tf.Tensor, label: tf.Tensor, training: bool) -> tuple[tf.Tensor, Any, tf.Tensor]:
        """Return product vectors, a function from product index to their rows, and the rows of the labels."""
        if self.full_softmax:
            return self.product_vectors(training=training), lambda index: index, label
        vectors, place = self._vectors_of(tf.concat([label, tf.reshape(history, [-1])], 0), training)
        count = tf.size(label)
        rows = tf.reshape(place[count:], tf.shape(history))
        return vectors, lambda _: rows, place[:count]

    def _vectors_of(self, products: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the vectors of the distinct `products`, and the row of each of `products` in them."""
        distinct, place = tf.unique(products)
        features = {name: tf.gather(table, distinct) for name, table in self._tables.features.items()}
        if self.text is not None:
            features["text_vector"] = self.text(distinct, training=training)
        return self.product_vectors(features, training=training), place

    def _past(
        self, inputs: dict[str, tf.Tensor], queries: tf.Tensor, history_vectors: tf.Tensor, asked: tf.Tensor
    ) -> Past | None:
        """Return what came before each labelled position, where repeats are learned; `queries` are of all positions."""
        if not self.config.towers.repeats:
            return None
        history = inputs["history_product"]
        bias = self.repeats(history, inputs["history_event_type"])
        scores = tf.matmul(queries, history_vectors, transpose_b=True) + bias
        return Past(
            products=tf.boolean_mask(tf.broadcast_to(history[:, None], tf.shape(bias)), asked),
            bias=tf.boolean_mask(bias, asked),
            latest=tf.boolean_mask(latest(history), asked),
            scores=tf.boolean_mask(scores, asked),
        )

    def behavior(self, rows: dict[str, tf.Tensor], queries: tf.Tensor) -> Behavior:
        """Return what the behaviour head says at every position, given the query vectors there."""
        assert self.behavior_head is not None
        return self.behavior_head(self.with_categories(rows), queries, training=False)

    def with_categories(self, rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return `rows` with the innermost categories, ``history_category`` and ``label_category``, of the products."""
        return rows | {
            f"{name}_category": tf.gather(self.leaf_category, rows[product])
            for name, product in (("history", "history_product"), ("label", "label"))
            if product in rows
        }

    def _ranking_loss(
        self,
        inputs: dict[str, tf.Tensor],
        queries: tf.Tensor,
        products: tf.Tensor,
        history_vectors: tf.Tensor,
        training: bool,
    ) -> tf.Tensor:
        """Return the weighted sum of the behaviours' and the rating's mean losses.

        ``queries`` and ``products`` ``[asked, width]`` are of the labelled positions only.
        """
        if not self.config.ranking.shared_gradient:
            queries, products = tf.stop_gradient(queries), tf.stop_gradient(products)
            history_vectors = tf.stop_gradient(history_vectors)
        label = inputs["label"]
        # A product that another position asked for, mostly another user's, stands for one that was not chosen.
        others = tf.gather(products, tf.random.shuffle(tf.range(tf.shape(products)[0])))
        not_chosen = self.ranking_head(queries, others)
        chosen = self.ranking_head(queries, products)
        happened = tf.one_hot(tf.boolean_mask(inputs["label_event_type"], label > 0) - 1, tf.shape(chosen)[1])
        entropy = tf.nn.sigmoid_cross_entropy_with_logits
        behaviors = tf.reduce_mean(entropy(happened, chosen) + entropy(tf.zeros_like(chosen), not_chosen), 0)
        shape = tf.shape(history_vectors)
        expected = self.rating_head(
            {
                "index": self.id_rows(label),
                "vector": tf.scatter_nd(tf.cast(tf.where(label > 0), tf.int32), products, shape),
                "rating": inputs["label_rating"],
            },
            {
                "index": self.id_rows(inputs["history_product"]),
                "vector": history_vectors,
                "rating": inputs["history_rating"],
            },
            each_position=True,
            training=training,
        )
        rated = (label > 0) & ~tf.math.is_nan(inputs["label_rating"])
        squared = tf.where(rated, tf.square(tf.where(rated, inputs["label_rating"], 0.0) - expected), 0.0)
        count = tf.reduce_sum(tf.cast(rated, tf.float32))
        rating = tf.math.divide_no_nan(tf.reduce_sum(squared), count)
        # Half of the squared error, as of a normal distribution's likelihood.
        return self.task_weights(tf.concat([behaviors, [rating / 2.0]], 0))


def _replicas() -> int:
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


class _Tables:
    """The catalogue's, the queries' and the transition graph's numbers, as tensors."""

    def __init__(self, data: ShopData, config: Config):
        catalogue = data.catalogue
        self.features = {name: tf.constant(value) for name, value in catalogue.features().items()}
        self.queries = tf.constant(data.query_vectors)
        self.transitions = EdgeScorer(data.transitions, config.transitions.events, config.transitions.decay)
        vectors = likeness_vectors(catalogue.text_vector)
        # A variable may not be empty: several workers would crash over it.
        self.likeness = Likeness(vectors) if vectors.shape[1] else None
