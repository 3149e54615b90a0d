"""One pass over a split: the rank of each target, the list that is recommended, and what the ranking head says.

All of it comes out of the same scores, and no more of them are in memory than a batch times the products.
"""

import collections
import dataclasses
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData, read_records
from tfrs_shop.errors import UserError
from tfrs_shop.metrics.pairs import sampled_negatives
from tfrs_shop.model.ranks import ranks_of
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.output import Pace, Say

LIST_LENGTH = 100
NEGATIVES_SEED = 17
# Groups that products are dealt into to find the best few: more of them let fewer others pass, and take longer.
GROUPS_PER_PLACE = 4
# Batches whose lists are made while the next ones are scored, and threads that make them.
WAITING, THREADS = 4, 2


@dataclasses.dataclass(frozen=True)
class Ranked:
    """What a model made of each example of a split, in the split's order.

    Attributes:
        user_id: ``[examples]`` bytes.
        label: ``[examples]`` int32, the target.
        history_length: ``[examples]`` int64, earlier events with a product.
        ranks: ``[examples]`` int64, products before the target, equal scores included.
        lists: ``[examples, k]`` int32, the best products, best first, k = 100 or all there are; 0 where none is left.
            Where seen products are excluded, all of them are, even a target.
        chosen, sampled: ``[examples]`` float32, logits of the target's behaviour for the target and for a sampled
            product; none (``[0]``) where the ranking head was not trained or there is no other product.
        rating: ``[examples]`` float32, NaN where there is none.
        predicted_rating: ``[examples]`` float32; none where the ranking head was not trained.
    """

    user_id: np.ndarray
    label: np.ndarray
    history_length: np.ndarray
    ranks: np.ndarray
    lists: np.ndarray
    chosen: np.ndarray
    sampled: np.ndarray
    rating: np.ndarray
    predicted_rating: np.ndarray


def rank_split(
    model: ShopModel, data: ShopData, split: str, exclude_seen: bool, say: Say = lambda line: None
) -> Ranked:
    """Rank all products for each example of `split`; `say` takes a line of progress.

    Raises:
        UserError: the split has no examples.
    """
    return SplitRanker(model, data, split, exclude_seen).rank(say)


class SplitRanker:
    """Ranks all products for each example of a split, as often as it is asked; it is traced once.

    Args:
        model: whose scores count; it may be trained on between two rankings.
        data: the split's.
        split: its name.
        exclude_seen: take the products of the user's earlier events out of the ranking first.

    Raises:
        UserError: the split has no examples.
    """

    def __init__(self, model: ShopModel, data: ShopData, split: str, exclude_seen: bool):
        check_split(data, split)
        self.model, self.exclude_seen = model, exclude_seen
        self.length = min(LIST_LENGTH, data.catalogue.size)
        self.judge_pairs = model.config.ranking.weight > 0 and data.catalogue.size > 1
        self.targets = data.manifest.counts["examples"][split]
        self.train_count = data.catalogue.train_count
        self.batches = data.evaluation_batches(split, model.config.towers.max_history).cache()
        # Whatever the size of the last batch and the longest history of each.
        width = tf.TensorSpec([None, model.config.towers.width], tf.float32)
        signature = [width, self.batches.element_spec, tf.TensorSpec([None], tf.int32)]
        self._compiled = tf.function(self._answers, autograph=False, input_signature=signature)

    def rank(self, say: Say = lambda line: None) -> Ranked:
        """Return what the model makes of the split now; `say` takes a line of progress."""
        vectors = self.model.product_vectors()
        random = np.random.default_rng(NEGATIVES_SEED)
        columns: dict[str, list[np.ndarray]] = {field.name: [] for field in dataclasses.fields(Ranked)}
        waiting: collections.deque[Future[np.ndarray]] = collections.deque()
        pace = Pace("targets ranked", self.targets, say)
        # NumPy's partition lets go of Python's lock, so that TensorFlow scores the next batch meanwhile.
        with ThreadPoolExecutor(THREADS) as threads:
            for rows in self.batches:
                pace(sum(map(len, columns["ranks"])))
                others = rows["label"]
                if self.judge_pairs:
                    others = sampled_negatives(others.numpy(), self.train_count, random)
                found = dict(self._compiled(vectors, rows, tf.cast(others, tf.int32)))
                seen = rows["seen_product"].numpy() if self.exclude_seen else None
                waiting.append(threads.submit(best_products, np.asarray(found.pop("scores")), seen, self.length))
                if len(waiting) > WAITING:
                    columns["lists"].append(waiting.popleft().result())
                for name, value in found.items():
                    columns[name].append(value.numpy())
            columns["lists"] += [lists.result() for lists in waiting]
        empty = np.zeros(0, np.float32)
        whole = {name: np.concatenate(parts) if parts else empty for name, parts in columns.items()}
        whole["ranks"] = whole["ranks"].astype(np.int64)
        return Ranked(**whole)

    def _answers(self, vectors: tf.Tensor, rows: dict[str, tf.Tensor], others: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the scores ``[batch, products + 1]`` of one batch, and the columns of `Ranked` but for the lists."""
        model = self.model
        queries = model.last_queries(vectors, rows)
        # A softmax alone changes no order.
        mixed = max(model.likeness_weight, model.transition_weight, model.habit_weight) > 0
        scores = (model.final_scores if mixed else model.scores)(vectors, rows, queries)
        found = {
            "scores": scores,
            "ranks": ranks_of(scores, rows, self.exclude_seen),
            "user_id": rows["user_id"],
            "label": rows["label"],
            "rating": rows["label_rating"],
            "history_length": tf.math.count_nonzero(rows["seen_product"], 1),
        }
        if self.judge_pairs:
            kind = rows["label_event_type"] - 1
            history, products = rows["history_product"], tf.gather(vectors, rows["label"])
            chosen, sampled = (
                model.ranking_head(queries, products),
                model.ranking_head(queries, tf.gather(vectors, others)),
            )
            found["chosen"] = tf.gather(chosen, kind, batch_dims=1)
            found["sampled"] = tf.gather(sampled, kind, batch_dims=1)
            known = tf.cast(history > 0, tf.float32)[..., None]
            found["predicted_rating"] = model.rating_head(
                {"index": model.id_rows(rows["label"])[:, None], "vector": products[:, None]},
                {
                    "index": model.id_rows(history),
                    "vector": tf.gather(vectors, history) * known,
                    "rating": rows["history_rating"],
                },
            )[:, 0]
        return found


def best_products(scores: np.ndarray, seen: np.ndarray | None, length: int) -> np.ndarray:
    """Return ``[batch, length]`` int32: the products with the highest scores, best first; 0 where none is left.

    Of equals the first product comes first. In NumPy, and without sorting what cannot be among the best, which is
    several times as fast as ``top_k``.

    Args:
        scores: ``[batch, products + 1]`` float32; those of product 0, "none", do not count.
        seen: ``[batch, seen]`` int32 products to leave out, 0 padded.
        length: how many, at most all products.
    """
    if seen is not None:
        scores = scores.copy()
        np.put_along_axis(scores, seen, -np.inf, 1)
    products = scores[:, 1:]
    reached = products >= _lower_bounds(products, length)[:, None]
    rows, places = np.divmod(np.flatnonzero(reached), products.shape[1])
    counts = np.bincount(rows, minlength=len(products))
    # The candidates of each row side by side, filled up with what comes after all of them.
    column = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = max(length, int(counts.max(initial=0)))
    values = np.full((len(products), width), -np.inf, np.float32)
    found = np.zeros((len(products), width), np.int32)
    values[rows, column] = products[rows, places]
    found[rows, column] = places + 1
    order = np.argsort(-values, 1, kind="stable")[:, :length]
    best = np.take_along_axis(found, order, 1)
    return np.where(np.take_along_axis(values, order, 1) > -np.inf, best, 0).astype(np.int32)


def _lower_bounds(scores: np.ndarray, length: int) -> np.ndarray:
    """Return ``[batch]``: what at least `length` of a row's scores reach, and few more.

    They are dealt into groups. As many groups have a largest score that reaches the one returned, each another product.
    """
    groups = min(GROUPS_PER_PLACE * length, scores.shape[1])
    deals = scores.shape[1] // groups
    largest = scores[:, : deals * groups].reshape(len(scores), deals, groups).max(1)
    bounds: np.ndarray = np.partition(largest, -length, 1)[:, -length]
    return bounds


def training_users(data: ShopData) -> set[bytes]:
    """Return the ids of the users who have a training example."""
    examples = data.manifest.features["examples"]
    only_ids = tuple(feature for feature in examples if feature.name == "user_id")
    manifest = dataclasses.replace(data.manifest, features={"examples": only_ids})
    users: set[bytes] = set()
    for batch in read_records(data.directory, manifest, "train").as_numpy_iterator():
        users.update(batch["user_id"].tolist())
    return users


def check_split(data: ShopData, split: str) -> None:
    """Raise ``UserError`` unless `split` is one of `data` that has examples."""
    if split not in data.manifest.counts["examples"]:
        raise UserError(f"--split {split}: is none of train, validation, test.")
    if not data.manifest.counts["examples"][split]:
        raise UserError(f"{data.directory}: has no {split} examples.")
