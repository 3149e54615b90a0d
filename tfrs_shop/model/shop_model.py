"""The model: query tower, product tower, retrieval and ranking, trained with plain ``compile`` and ``fit``."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tfrs_shop.catalogue import BUCKETED, bucket_edges
from tfrs_shop.config import Config
from tfrs_shop.dataset import ShopData
from tfrs_shop.model.product_tower import ProductTower
from tfrs_shop.model.query_tower import QueryTower
from tfrs_shop.model.ranking_head import RankingHead
from tfrs_shop.transitions import TransitionScorer, mix

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
    """

    def __init__(self, data: ShopData, config: Config):
        super().__init__()
        self.config = config
        catalogue, values = data.catalogue, data.values
        self.products = catalogue.size
        # In a plain object, so that Keras does not save the catalogue with the weights.
        self._tables = _Tables(data, config)
        self.transition_weight = config.transitions.weight or 0.0
        self.product_tower = ProductTower(
            config.towers,
            products=catalogue.embeddings,
            categories=len(values["category"]),
            brands=len(values["brand"]),
            bucket_sizes=[len(bucket_edges(data.manifest, name)) + 2 for name in BUCKETED],
            text_mean=catalogue.text_mean,
            name="product_tower",
        )
        self.query_tower = QueryTower(
            config.towers,
            event_types=len(values["event_type"]),
            text_width=catalogue.text_vector.shape[1] if values["query"] else 0,
            profile_sizes=[len(values[feature.vocabulary]) for feature in data.profile],
            name="query_tower",
        )
        rating_mean = data.manifest.statistics.get("event_rating", {}).get("mean", 0.0)
        self.ranking_head = RankingHead(config.ranking, len(values["event_type"]), rating_mean, name="ranking_head")
        self.retrieval_task = tfrs.tasks.Retrieval(
            temperature=self.temperature, remove_accidental_hits=config.retrieval.remove_accidental_hits
        )
        self.behavior_task = tfrs.tasks.Ranking(tf_keras.losses.BinaryCrossentropy(from_logits=True), name="behavior")
        self.rating_task = tfrs.tasks.Ranking(tf_keras.losses.MeanSquaredError(), name="rating")
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
    def full_softmax(self) -> bool:
        """Whether the retrieval loss is over all products."""
        loss = self.config.retrieval.loss
        return loss == "full_softmax" or (loss == "auto" and self.products <= FULL_SOFTMAX_LIMIT)

    def product_vectors(self, features: dict[str, tf.Tensor] | None = None, training: bool = False) -> tf.Tensor:
        """Return ``[products, width]`` float32, unit length where scores are cosines.

        Args:
            features: what the product tower reads; the whole catalogue, padding row included, if not given.
            training: whether dropout is on.
        """
        vectors = self.product_tower(self._tables.features if features is None else features, training=training)
        return tf.math.l2_normalize(vectors, 1) if self.config.towers.normalize else vectors

    def query_vectors(
        self, rows: dict[str, tf.Tensor], history_vectors: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Return ``[batch, history, width]`` float32 query vectors, unit length where scores are cosines.

        Args:
            rows: ``history_event_type``, ``history_query`` ``[batch, history]``, ``profile`` ``[batch, attributes]``.
            history_vectors: ``[batch, history, width]`` product vectors of the history, zeros for searches.
            training: whether dropout is on.
        """
        inputs = {
            "product_vectors": history_vectors,
            "event_type": rows["history_event_type"],
            "profile": rows["profile"],
        }
        if self.query_tower.query_adapter is not None:
            vectors = rows.get("history_query_vector")
            inputs["query_vectors"] = (
                tf.gather(self._tables.queries, rows["history_query"]) if vectors is None else vectors
            )
        vectors = self.query_tower(inputs, training=training)
        return tf.math.l2_normalize(vectors, 2) if self.config.towers.normalize else vectors

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return the mean retrieval loss of all labelled positions, plus the weighted ranking loss."""
        label = inputs["label"]
        history = inputs["history_product"]
        asked = label > 0
        vectors, rows_of, targets = self._needed_vectors(history, tf.boolean_mask(label, asked), training)
        known = tf.cast(history > 0, tf.float32)[..., None]
        queries = self.query_vectors(inputs, tf.gather(vectors, rows_of(history)) * known, training)
        queries = tf.boolean_mask(queries, asked)
        loss = self._retrieval_loss(queries, vectors, targets, tf.boolean_mask(label, asked))
        if self.config.ranking.weight:
            loss += self.config.ranking.weight * self._ranking_loss(
                queries,
                tf.gather(vectors, targets),
                tf.boolean_mask(inputs["label_event_type"], asked),
                tf.boolean_mask(inputs["label_rating"], asked),
            )
        return loss

    def train_step(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Take one step, and return the mean loss of the epoch so far."""
        self.mean_loss.update_state(super().train_step(inputs)["loss"])
        return {"loss": self.mean_loss.result()}

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

    def final_scores(self, vectors: tf.Tensor, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        """Return ``[batch, products + 1]`` float32: the log of each product's chance to be the next, as it is served.

        It is the model's softmax, mixed with the transition graph where that has a weight; -inf for no product.
        """
        log_chance, follows = self.parts_of_scores(vectors, rows)
        return mix(log_chance, follows, self.transition_weight) if self.transition_weight else log_chance

    def parts_of_scores(self, vectors: tf.Tensor, rows: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the model's log-softmax and the transition graph's scores, both ``[batch, products + 1]``."""
        logits = self.scores(vectors, rows)[:, 1:] / self.temperature
        log_chance = tf.pad(tf.nn.log_softmax(logits), [[0, 0], [1, 0]], constant_values=-np.inf)
        return log_chance, self._tables.transitions.scores(rows["history_product"], self.products)

    def scores(self, vectors: tf.Tensor, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        """Return ``[batch, products + 1]`` float32: the query vector of the last position times each product vector."""
        history = rows["history_product"]
        known = tf.cast(history > 0, tf.float32)[..., None]
        queries = self.query_vectors(rows, tf.gather(vectors, history) * known)[:, -1]
        return tf.matmul(queries, vectors, transpose_b=True)

    def _needed_vectors(self, history: tf.Tensor, label: tf.Tensor, training: bool) -> tuple[tf.Tensor, Any, tf.Tensor]:
        """Return product vectors, a function from product index to their rows, and the rows of the labels."""
        if self.full_softmax:
            return self.product_vectors(training=training), lambda index: index, label
        wanted = tf.concat([tf.reshape(history, [-1]), label], 0)
        distinct, place = tf.unique(wanted)
        features = {name: tf.gather(table, distinct) for name, table in self._tables.features.items()}
        count = tf.size(history)
        rows = tf.reshape(place[:count], tf.shape(history))
        return self.product_vectors(features, training=training), lambda _: rows, place[count:]

    def _retrieval_loss(
        self, queries: tf.Tensor, vectors: tf.Tensor, targets: tf.Tensor, label: tf.Tensor
    ) -> tf.Tensor:
        count = tf.cast(tf.maximum(tf.shape(queries)[0], 1), tf.float32)
        if self.full_softmax:
            logits = tf.matmul(queries, vectors[1:], transpose_b=True) / self.temperature
            smoothing = self.config.retrieval.label_smoothing
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(targets - 1, logits)
            if smoothing:
                uniform = tf.reduce_logsumexp(logits, 1) - tf.reduce_mean(logits, 1)
                loss = (1.0 - smoothing) * loss + smoothing * uniform
            return tf.reduce_sum(loss) / count
        retrieval = self.config.retrieval
        total = self.retrieval_task(
            queries,
            tf.gather(vectors, targets),
            candidate_sampling_probability=tf.gather(self._tables.probability, label) if retrieval.logq else None,
            candidate_ids=label if retrieval.remove_accidental_hits else None,
            compute_metrics=False,
        )
        return total / count

    def _ranking_loss(self, queries: tf.Tensor, products: tf.Tensor, kinds: tf.Tensor, ratings: tf.Tensor) -> tf.Tensor:
        if not self.config.ranking.shared_gradient:
            queries, products = tf.stop_gradient(queries), tf.stop_gradient(products)
        # A product that another position asked for, mostly another user's, stands for one that was not chosen.
        others = tf.gather(products, tf.random.shuffle(tf.range(tf.shape(products)[0])))
        logits, _ = self.ranking_head(queries, others)
        not_chosen = self.behavior_task(tf.zeros_like(logits), logits)
        logits, rating = self.ranking_head(queries, products)
        chosen = self.behavior_task(tf.one_hot(kinds - 1, tf.shape(logits)[1]), logits)
        rated = tf.cast(~tf.math.is_nan(ratings), tf.float32)
        clean = tf.where(rated > 0, ratings, tf.zeros_like(ratings))
        squared = self.rating_task(clean[:, None], rating[:, None], sample_weight=rated)
        return chosen + not_chosen + squared


def ranks_of(scores: tf.Tensor, rows: dict[str, tf.Tensor], exclude_seen: bool = False) -> tf.Tensor:
    """Return ``[batch]`` int32: how many products stand before the target of each row; ties stand before it.

    Args:
        scores: ``[batch, products + 1]``; those of product 0, "none", do not count.
        rows: with ``label`` ``[batch]`` and ``seen_product`` ``[batch, seen]``.
        exclude_seen: take the seen products out of the ranking first; a target that was seen is still asked for.
    """
    target = rows["label"]
    own = tf.gather(scores, target, batch_dims=1)
    ahead = tf.cast(scores >= own[:, None], tf.int32)
    ahead = tf.concat([tf.zeros_like(ahead[:, :1]), ahead[:, 1:]], 1)
    if exclude_seen:
        products = rows["seen_product"]
        number = tf.repeat(tf.range(tf.shape(products)[0]), tf.shape(products)[1])
        places = tf.stack([number, tf.reshape(products, [-1])], 1)
        seen = tf.tensor_scatter_nd_update(tf.zeros_like(ahead), places, tf.ones_like(number))
        ahead *= 1 - seen * (1 - tf.one_hot(target, tf.shape(scores)[1], dtype=tf.int32))
    return tf.reduce_sum(ahead, 1) - 1


class _Tables:
    """The catalogue's, the queries' and the transition graph's numbers, as tensors."""

    def __init__(self, data: ShopData, config: Config):
        catalogue = data.catalogue
        self.features = {name: tf.constant(value) for name, value in catalogue.features().items()}
        self.queries = tf.constant(data.query_vectors)
        self.transitions = TransitionScorer(data.transitions, config.transitions.events, config.transitions.decay)
        counts = np.maximum(catalogue.train_count.astype(np.float64), 0.5)
        self.probability = tf.constant(counts / counts[1:].sum(), tf.float32)
