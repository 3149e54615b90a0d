"""The two-tower model of TFRS' basic-retrieval tutorial, written after its text: what people start from.

A user tower and a product tower, each a StringLookup and an Embedding; the in-batch softmax of ``tfrs.tasks.Retrieval``
over batches of 8,192 pairs; Adagrad with 0.1; ``FactorizedTopK`` over ``candidates.batch(128).map(tower)``.
(https://www.tensorflow.org/recommenders/examples/basic_retrieval)
"""

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from benchmarks.ranks import Scorer, rank_targets, shown_metrics
from tfrs_shop.dataset import ShopData, read_records

WIDTH = 64
BATCH = 8192
EPOCHS = 100
PATIENCE = 5
SEED = 17


class TwoTower(tfrs.Model):
    """Both towers know ids and nothing else.

    Args:
        users: ids of the users of the training split.
        products: ids of all products.
        width: of the embeddings.
        metrics_in_training: also rank all products in each training step, which is what the tutorial's code does
            (``compute_metrics`` is left at its default).
    """

    def __init__(self, users: list[bytes], products: list[bytes], width: int = WIDTH, metrics_in_training: bool = True):
        super().__init__()
        self.metrics_in_training = metrics_in_training
        self.user_tower, self.product_tower = _tower(users, width), _tower(products, width)
        candidates = tf.data.Dataset.from_tensor_slices(products).batch(128).map(self.product_tower)
        self.task = tfrs.tasks.Retrieval(metrics=tfrs.metrics.FactorizedTopK(candidates=candidates))

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return the in-batch softmax loss of pairs ``user_id``, ``product_id``, both ``[batch]`` string."""
        return self.task(
            self.user_tower(inputs["user_id"]),
            self.product_tower(inputs["product_id"]),
            compute_metrics=self.metrics_in_training or not training,
        )


def _tower(ids: list[bytes], width: int) -> tf_keras.Model:
    return tf_keras.Sequential(
        [
            tf_keras.layers.StringLookup(vocabulary=[value.decode() for value in ids], mask_token=None),
            # One more for ids that are not known.
            tf_keras.layers.Embedding(len(ids) + 1, width),
        ]
    )


def training_pairs(data: ShopData) -> dict[str, np.ndarray]:
    """Return ``user_id`` and ``product_id`` of all training events with a product, ``[events]`` bytes."""
    users, products = [], []
    for batch in read_records(data.directory, data.manifest, "train"):
        columns = (batch["user_id"].numpy(), batch["history_product_id"].to_list(), batch["history_offset"].numpy())
        for user, history, offset, target in zip(*columns, batch["target_product_id"].numpy(), strict=True):
            # A user's next window begins with the event that the one before ended with.
            found = [product for product in [*history[bool(offset) :], target] if product]
            users += [user] * len(found)
            products += found
    return {"user_id": np.array(users), "product_id": np.array(products)}


def pair_batches(pairs: dict[str, np.ndarray], seed: int = SEED) -> tf.data.Dataset:
    """Return batches of `pairs` as the tutorial makes them: shuffled once, batched, cached."""
    rows = tf.data.Dataset.from_tensor_slices(pairs)
    return rows.shuffle(100_000, seed=seed, reshuffle_each_iteration=False).batch(BATCH).cache()


def tutorial_two_tower(data: ShopData, epochs: int = EPOCHS) -> Scorer:
    """Train until the validation NDCG@10 gets no better, and return the scorer of the best epoch.

    The metrics are left out of the training steps; they change nothing but the time.
    """
    tf_keras.utils.set_random_seed(SEED)
    pairs = training_pairs(data)
    model = TwoTower(sorted(set(pairs["user_id"].tolist())), data.values["product_id"], metrics_in_training=False)
    model.compile(tf_keras.optimizers.Adagrad(0.1))
    batches = pair_batches(pairs)
    best, best_epoch, weights = -1.0, 0, []
    for epoch in range(1, epochs + 1):
        model.fit(batches, verbose=0)
        reached = shown_metrics(rank_targets(data, scorer_of(model, data), 1, "validation"))["all"]["ndcg@10"]
        if reached > best:
            best, best_epoch, weights = reached, epoch, model.get_weights()
        elif epoch - best_epoch >= PATIENCE:
            break
    model.set_weights(weights)
    print(f"Tutorial two-tower: best of {epoch} epochs is {best_epoch}, validation ndcg@10 {best:.4f}.", flush=True)
    return scorer_of(model, data)


def scorer_of(model: TwoTower, data: ShopData) -> Scorer:
    """Return what scores all products for the users of a batch, in the catalogue's order."""
    vectors = model.product_tower(tf.constant(data.values["product_id"]))
    vectors = tf.pad(vectors, [[1, 0], [0, 0]])
    return lambda rows: tf.matmul(model.user_tower(rows["user_id"]), vectors, transpose_b=True)
