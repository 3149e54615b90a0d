"""Accuracy against diversity: the candidates of a split's examples, and lists made of them by any method."""

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.edges import EdgeScorer
from tfrs_shop.metrics.lists import group_diversity, leaf_category, vector_diversity
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.served.diversity import category_quota, dpp, explore_sample, explore_walk, mmr, nearest
from tfrs_shop.served.random_numbers import uniform
from tfrs_shop.served.random_walk import STEPS, WALKS, RandomWalk

POOL, K, BATCH = 200, 10, 64
SEED = 1


class Pools:
    """The candidates of a split's examples: found once, then chosen from by every method and strength.

    Args:
        model: whose scores count.
        data: the split's.
        split: its name.
        most: about so many examples, whole batches evenly spread; 0: all.
    """

    def __init__(self, model: ShopModel, data: ShopData, split: str, most: int):
        self.data = data
        self.pool, self.k = min(POOL, data.catalogue.size), min(K, data.catalogue.size)
        vectors = model.product_vectors()
        texts = data.catalogue.text_vector
        # By what they are alike, as ``RecommendDiverse`` sees it.
        self.vectors = tf.math.l2_normalize(tf.constant(texts) if texts.shape[1] else vectors, 1)
        self.category = tf.constant(leaf_category(data.catalogue.category), tf.int32)
        settings = model.config.transitions
        walk = RandomWalk(EdgeScorer(data.transitions, settings.events, settings.decay))

        @tf.function(autograph=False, reduce_retracing=True)
        def pools(rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            chance = tf.exp(model.final_scores(vectors, rows))
            count = tf.shape(chance)[0]
            seen = rows["seen_product"]
            places = tf.stack([tf.repeat(tf.range(count), tf.shape(seen)[1]), tf.reshape(seen, [-1])], 1)
            chance = tf.tensor_scatter_nd_update(chance, places, tf.fill([tf.size(seen)], -1.0))
            numbers = uniform(tf.range(count, dtype=tf.int64) + SEED, WALKS * (STEPS + 1))
            visited = walk.visited(rows["history_product"], tf.reshape(numbers, [-1, WALKS, STEPS + 1]))
            places = tf.stack([tf.repeat(tf.range(count), tf.shape(visited)[1]), tf.reshape(visited, [-1])], 1)
            visits = tf.tensor_scatter_nd_add(tf.zeros_like(chance), places, tf.ones([tf.size(visited)]))
            plain, products = tf.math.top_k(chance, self.pool)
            past = rows["history_product"]
            _, walked = tf.math.top_k(tf.where((visits > 0) & (chance >= 0), chance + 2.0, chance), self.pool)
            return {
                "label": rows["label"],
                "chance": plain,
                "product": products,
                "near": nearest(tf.gather(self.vectors, products), tf.gather(self.vectors, past), past > 0),
                "walked": walked,
                "walked_chance": tf.gather(chance, walked, batch_dims=1),
                "visits": tf.gather(visits, walked, batch_dims=1),
            }

        total = data.manifest.counts["examples"][split]
        batches = data.evaluation_batches(split, model.config.towers.max_history, BATCH)
        step = max(1, total // most) if most else 1
        parts = [pools(rows) for rows in batches.shard(step, 0)]
        self.columns = {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}
        self.size = len(self.columns["label"])
        self.choose = tf.function(self._choose, autograph=False, reduce_retracing=True)

    def lists(self, method: str, strength: float) -> np.ndarray:
        """Return ``[examples, k]`` int32 products."""
        found = []
        for start in range(0, self.size, BATCH):
            part = {name: tf.constant(values[start : start + BATCH]) for name, values in self.columns.items()}
            found.append(self.choose(method, part, tf.constant(strength)).numpy())
        return np.concatenate(found)

    def _choose(self, method: str, part: dict[str, tf.Tensor], strength: tf.Tensor) -> tf.Tensor:
        name = "walked" if method == "explore_walk" else "product"
        chance, products = part["walked_chance" if name == "walked" else "chance"], part[name]
        left, strengths = chance >= 0.0, tf.fill([tf.shape(products)[0]], strength)
        if method in ("mmr", "dpp"):
            vectors = tf.gather(self.vectors, products)
            likeness = tf.matmul(vectors, vectors, transpose_b=True)
            places = (mmr if method == "mmr" else dpp)(chance, part["near"], likeness, left, strengths, self.k)
        elif method == "category_quota":
            places = category_quota(tf.gather(self.category, products), left, strengths, self.k)
        elif method == "explore_walk":
            places = explore_walk(chance, part["visits"], left, strengths, self.k)
        else:
            numbers = tf.random.stateless_uniform(tf.shape(products), [SEED, 0])
            places = explore_sample(chance, numbers, left, strengths, self.k)
        return tf.where(places >= 0, tf.gather(products, tf.maximum(places, 0), batch_dims=1), 0)

    def measured(self, method: str, strength: float) -> dict[str, float]:
        """Return NDCG@10 and the two diversities of the lists."""
        lists = self.lists(method, strength) if strength else self.columns["product"][:, : self.k]
        catalogue = self.data.catalogue
        hit = lists == self.columns["label"][:, None]
        ndcg = float((hit / np.log2(np.arange(2, self.k + 2))).sum(1).mean())
        found = {
            "ndcg@10": ndcg,
            "category": group_diversity(lists, leaf_category(catalogue.category)),
            "embedding": vector_diversity(lists, self.vectors.numpy()),
        }
        return {"strength": strength, **{name: value or 0.0 for name, value in found.items()}}
