"""The partitioned index: approximate search in plain TensorFlow operations, which stock TensorFlow Serving has.

Vectors lie sorted by partition, in blocks of one size, so that a search has static shapes and few operations: score
the blocks' centres, gather the blocks of the best ones, score their vectors with one matrix product, take the top k.
Spherical k-means makes the partitions (Dhillon and Modha 2001); one that does not fit into a block is halved, along
the line between the means of its two sides, until it does.
"""

from typing import Literal

import numpy as np
import tensorflow as tf

from tfrs_shop.table_rows import table_rows

Storage = Literal["float32", "bfloat16", "int8"]
STORAGES: tuple[Storage, ...] = ("float32", "bfloat16", "int8")
# A search scores at least so many vectors: fewer save no time, and a few queries say little of how many are needed.
LEAST_SCORED = 2048
SMALLEST_BLOCK, LARGEST_BLOCK = 16, 256
# Of a vector that fills up a block: below every score, and finite.
_EMPTY = float(np.finfo(np.float32).min)
_CHUNK = 16_384


class PartitionedIndex(tf.Module):
    """Finds the vectors with the largest inner products with a query, among the blocks nearest to it.

    A batch is answered query by query: its answers are those of its queries alone.

    Args:
        vectors: ``[vectors, width]`` float32; an answer names row i as i + 1.
        storage: of the vectors: ``float32``; or ``bfloat16`` or ``int8`` (with a scale for each vector) for a half or
            a quarter of the memory, at a loss of recall.
        block: vectors of a block; by default it grows with the root of the number of vectors.
        seed: of the partitions.
    """

    def __init__(
        self, vectors: np.ndarray, *, storage: Storage = "float32", block: int | None = None, seed: int = 0
    ) -> None:
        super().__init__(name="partitioned")
        self.block = block or block_size(len(vectors))
        self.size = len(vectors)
        members = partition(vectors, self.block, seed)
        rows = np.zeros([len(members), self.block], np.int32)
        for place, member in enumerate(members):
            rows[place, : len(member)] = member + 1
        # The fewest vectors that 1, 2, ... blocks hold.
        self._fewest = np.cumsum(np.sort([len(member) for member in members]))
        blocks = np.where(rows[..., None] > 0, vectors[np.maximum(rows - 1, 0)], np.float32(0))
        self.rows = tf.Variable(rows, trainable=False, name="rows")
        self.centres = tf.Variable(_centres(vectors, members), trainable=False, name="centres")
        self.scales = None
        if storage == "int8":
            scales = np.maximum(np.abs(blocks).max(-1), np.float32(1e-30)) / np.float32(127)
            blocks = np.rint(blocks / scales[..., None])
            self.scales = tf.Variable(scales, trainable=False, name="scales")
        self.blocks = tf.Variable(tf.cast(blocks, storage), trainable=False, name="blocks")
        self.probes = self.at_least(min(self.size, LEAST_SCORED))

    def __call__(self, queries: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the scores ``[batch, k]`` float32, best first, and ids ``[batch, k]`` int32 for ``[batch, width]``."""
        return self.search(queries, k, self.probes)

    @tf.function(autograph=False, reduce_retracing=True)
    def search(self, queries: tf.Tensor, k: int, probes: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Search the `probes` nearest blocks, or as many more as surely hold `k` vectors.

        Raises:
            ValueError: `k` is more than there are vectors.
        """
        probes = max(probes, self.at_least(k))
        # Gathering costs as much as scoring: most of the blocks take longer to gather than all to score.
        whole = 2 * probes > len(self._fewest)

        def one(query: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            nearest = None
            if not whole:
                nearest = tf.math.top_k(tf.linalg.matvec(self.centres, query), k=probes, sorted=False).indices

            def of(variable: tf.Variable) -> tf.Tensor:
                """Return what the searched blocks have in `variable`, ``[blocks * block, ...]``."""
                taken = tf.convert_to_tensor(variable) if nearest is None else table_rows(variable, nearest)
                return tf.reshape(taken, [-1, *variable.shape[2:]])

            rows = of(self.rows)
            scores = tf.linalg.matvec(tf.cast(of(self.blocks), tf.float32), query)
            if self.scales is not None:
                scores *= of(self.scales)
            best = tf.math.top_k(tf.where(rows > 0, scores, _EMPTY), k=k)
            return best.values, tf.gather(rows, best.indices)

        kinds = (tf.TensorSpec([k], tf.float32), tf.TensorSpec([k], tf.int32))
        return tf.map_fn(one, queries, fn_output_signature=kinds)

    def at_least(self, count: int) -> int:
        """Return how many blocks surely hold `count` vectors, whichever blocks they are."""
        if not 1 <= count <= self.size:
            raise ValueError(f"k={count}: must be from 1 to the number of vectors, {self.size}.")
        return int(np.searchsorted(self._fewest, count)) + 1

    def tune(self, queries: np.ndarray, wanted: np.ndarray, recall: float) -> None:
        """Set `probes` to the fewest blocks that hold a share `recall` of what should be found.

        Args:
            queries: ``[queries, width]`` float32.
            wanted: ``[queries, k]`` int32, the ids of the exact answers.
            recall: from 0 to 1.
        """
        block_of = np.zeros(self.size + 1, np.int32)
        rows = self.rows.numpy()
        block_of[rows] = np.arange(len(rows), dtype=np.int32)[:, None]
        nearness = queries @ self.centres.numpy().T
        # The place of each wanted vector's block, from 0, in the order in which blocks are searched.
        places = [
            np.count_nonzero(row[None, :] > row[block_of[ids]][:, None], axis=1)
            for row, ids in zip(nearness, wanted, strict=True)
        ]
        needed = np.sort(np.concatenate(places))[int(np.ceil(recall * wanted.size)) - 1] + 1
        self.probes = max(int(needed), self.at_least(min(self.size, LEAST_SCORED)))


def block_size(vectors: int) -> int:
    """Return a power of two, about a sixth of the root of the number of vectors: 16 up to 18,000, 128 at 500,000."""
    return int(np.clip(2 ** round(np.log2(max(vectors, 1) ** 0.5 / 6)), SMALLEST_BLOCK, LARGEST_BLOCK))


def partition(vectors: np.ndarray, block: int, seed: int) -> list[np.ndarray]:
    """Return the row numbers of each block: every row ``[vectors, width]`` in one block, at most `block` rows in each.

    Args:
        vectors: ``[vectors, width]`` float32.
        block: the most rows of a block.
        seed: of the first centres.
    """
    random = np.random.default_rng(seed)
    units = _unit(vectors)
    clusters = -(-len(units) // (2 * block))
    nearest = _nearest(units, _spherical_k_means(units, clusters, random))
    order = np.argsort(nearest, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(nearest, minlength=clusters))[:-1])
    return [half for part in parts if len(part) for half in _halved(units, part, block, random)]


def _spherical_k_means(units: np.ndarray, clusters: int, random: np.random.Generator, rounds: int = 8) -> np.ndarray:
    """Return centres ``[clusters, width]`` of length 1, from at most 64 vectors a cluster."""
    sample = units[random.choice(len(units), min(len(units), 64 * clusters), replace=False)]
    centres = sample[random.choice(len(sample), clusters, replace=False)]
    for _ in range(rounds):
        nearest = _nearest(sample, centres)
        sums = np.zeros_like(centres)
        order = np.argsort(nearest, kind="stable")
        present, starts = np.unique(nearest[order], return_index=True)
        sums[present] = np.add.reduceat(sample[order], starts, axis=0)
        # A centre that no vector is nearest to starts again elsewhere.
        lost = np.linalg.norm(sums, axis=1) == 0
        sums[lost] = sample[random.choice(len(sample), int(lost.sum()))]
        centres = _unit(sums)
    return centres


def _halved(units: np.ndarray, part: np.ndarray, block: int, random: np.random.Generator) -> list[np.ndarray]:
    """Return row numbers `part` in pieces of at most `block`, of nearly one size, each of near vectors."""
    pieces = -(-len(part) // block)
    if pieces == 1:
        return [part]
    vectors = units[part]
    one, other = random.choice(len(vectors), 2, replace=False)
    line = vectors[one] - vectors[other]
    for _ in range(4):
        along = vectors @ line
        side = along > np.median(along)
        if not side.any():
            break
        line = vectors[side].mean(0) - vectors[~side].mean(0)
    cut = len(part) * (pieces // 2) // pieces
    order = np.argpartition(vectors @ line, cut)
    return _halved(units, part[order[:cut]], block, random) + _halved(units, part[order[cut:]], block, random)


def _centres(vectors: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
    """Return ``[blocks, width]`` float32: the direction of the members' mean, as long as the members are typically."""
    directions = _unit(np.stack([_unit(vectors[member]).mean(0) for member in members]))
    lengths = [np.sqrt(np.square(vectors[member]).sum(1).mean()) for member in members]
    return (directions * np.array(lengths)[:, None]).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)


def _nearest(units: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return ``[vectors]`` int32: the number of the centre with the largest inner product."""
    centres = tf.constant(centres)
    chunks = [units[start : start + _CHUNK] for start in range(0, len(units), _CHUNK)]
    return np.concatenate([_best_centre(tf.constant(chunk), centres).numpy() for chunk in chunks])


@tf.function(autograph=False, reduce_retracing=True)
def _best_centre(units: tf.Tensor, centres: tf.Tensor) -> tf.Tensor:
    return tf.argmax(tf.matmul(units, centres, transpose_b=True), axis=1, output_type=tf.int32)
