"""The partitioned index: its answers against exact search in NumPy, its shape, and how it is saved."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrs_shop.errors import UserError
from tfrs_shop.index import build_index, recall_of
from tfrs_shop.partitioned_index import PartitionedIndex, block_size, partition

PARTITIONED = ("partitioned", "partitioned_bfloat16", "partitioned_int8")


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def clustered(count: int, clusters: int = 60, noise: float = 0.3) -> np.ndarray:
    """Unit vectors around a few centres, the first of which have many more than the last."""
    share = 1 / np.arange(1, clusters + 1)
    nearest = np.random.default_rng(1).choice(clusters, size=count, p=share / share.sum())
    return unit(normal(clusters, 32)[nearest] + noise * normal(count, 32, seed=2))


def exactly(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    scores = queries @ vectors.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), order + 1


def test_a_hand_made_catalogue_is_answered_in_the_order_of_inner_products() -> None:
    vectors = np.array([[1, 0], [0, 1], [2, 2], [-1, 0], [0.5, 0]], np.float32)
    # Inner products with [1, 0.1]: 1, 0.1, 2.2, -1, 0.5.
    scores, ids = PartitionedIndex(vectors)(tf.constant([[1.0, 0.1]]), k=5)
    assert ids.numpy().tolist() == [[3, 1, 5, 2, 4]]
    assert ids.dtype == tf.int32
    np.testing.assert_allclose(scores.numpy(), [[2.2, 1.0, 0.5, 0.1, -1.0]], rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 90),
    width=st.integers(1, 9),
    batch=st.integers(0, 3),
    block=st.integers(2, 8),
    seed=st.integers(0, 9),
    copies=st.booleans(),
    data=st.data(),
)
def test_all_blocks_searched_is_exact_search(count, width, batch, block, seed, copies, data) -> None:
    vectors = normal(count, width, seed=seed)
    if copies:
        vectors[count // 3 :] = vectors[0]
    queries = normal(batch, width, seed=seed + 100)
    k = data.draw(st.integers(1, count))
    index = PartitionedIndex(vectors, block=block, seed=seed)
    scores, ids = (answer.numpy() for answer in index(tf.constant(queries), k))
    assert scores.shape == ids.shape == (batch, k)
    np.testing.assert_allclose(scores, exactly(vectors, queries, k)[0], atol=1e-4)
    for row, found, query in zip(scores, ids, queries, strict=True):
        assert len(set(found.tolist())) == k
        np.testing.assert_allclose(vectors[found - 1] @ query, row, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(count=st.integers(20, 120), block=st.integers(2, 8), probes=st.integers(1, 40), data=st.data())
def test_however_few_blocks_are_searched_k_different_answers_come_back(count, block, probes, data) -> None:
    vectors, k = normal(count, 4), data.draw(st.integers(1, count))
    index = PartitionedIndex(vectors, block=block)
    scores, ids = (answer.numpy() for answer in index.search(tf.constant(normal(2, 4, seed=5)), k, probes))
    assert all(len(set(row) - {0}) == k for row in ids.tolist())
    assert np.isfinite(scores).all()
    assert (scores > -1e6).all()
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("k", [0, 6])
def test_more_answers_than_vectors_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k={k}: must be from 1 to the number of vectors, 5"):
        PartitionedIndex(normal(5, 3))(tf.constant(normal(1, 3)), k)


@pytest.mark.parametrize("vectors", [normal(3000, 8), clustered(3000), np.ones([3000, 4], np.float32), normal(1, 4)])
def test_every_vector_is_in_one_block_and_no_block_is_too_full(vectors: np.ndarray) -> None:
    members = partition(vectors, 16, seed=0)
    assert sorted(np.concatenate(members).tolist()) == list(range(len(vectors)))
    assert min(map(len, members)) >= 1
    assert max(map(len, members)) <= 16


def test_blocks_grow_with_the_catalogue() -> None:
    assert [block_size(count) for count in (1, 200, 12_101, 500_000, 10_000_000)] == [16, 16, 16, 128, 256]


def test_equal_seeds_make_equal_partitions() -> None:
    one, other = (partition(clustered(2000), 16, seed=4) for _ in range(2))
    assert [part.tolist() for part in one] == [part.tolist() for part in other]


@pytest.mark.parametrize(
    ("vectors", "queries"),
    [
        (clustered(20_000), unit(clustered(20_000)[:300] + 0.1 * normal(300, 32, seed=9))),
        (unit(normal(20_000, 12)), unit(normal(300, 12, seed=9))),
        (normal(20_000, 12), normal(300, 12, seed=9)),
    ],
    ids=["clustered", "anywhere", "of all lengths"],
)
def test_as_many_blocks_are_searched_as_the_recall_takes(vectors, queries) -> None:
    index, recall = build_index("partitioned", vectors, queries, 50)
    wanted = exactly(vectors, queries, 10)[1]
    assert recall == pytest.approx(recall_of(index(tf.constant(queries), 10)[1].numpy(), wanted))
    assert recall >= 0.995
    assert index.probes < index.rows.shape[0] / 2


def test_searching_fewer_blocks_than_tuned_finds_less() -> None:
    vectors, queries = unit(normal(20_000, 12)), unit(normal(300, 12, seed=9))
    index, recall = build_index("partitioned", vectors, queries, 50)
    wanted = exactly(vectors, queries, 10)[1]
    fewer = recall_of(index.search(tf.constant(queries), 10, index.probes // 4)[1].numpy(), wanted)
    assert fewer < recall


@pytest.mark.parametrize(
    ("kind", "share", "least"), [("partitioned_bfloat16", 1 / 2, 0.96), ("partitioned_int8", 1 / 4, 0.94)]
)
def test_a_smaller_storage_says_its_recall(kind: str, share: float, least: float) -> None:
    vectors = clustered(5000)
    queries = unit(vectors[:200] + 0.2 * normal(200, 32, seed=9))
    index, recall = build_index(kind, vectors, queries, 50)
    scores, ids = (answer.numpy() for answer in index(tf.constant(queries), 10))
    wanted_scores, wanted = exactly(vectors, queries, 10)
    assert recall == pytest.approx(recall_of(ids, wanted))
    assert least <= recall <= 1
    np.testing.assert_allclose(scores, wanted_scores, atol=0.02)
    assert index.blocks.dtype.size == 4 * share


def test_a_batch_is_answered_as_its_queries_are() -> None:
    vectors, queries = unit(normal(20_000, 12)), tf.constant(unit(normal(9, 12, seed=9)))
    index, _ = build_index("partitioned", vectors, queries.numpy(), 50)
    scores, ids = index(queries, 50)
    for place in range(9):
        alone_scores, alone_ids = index(queries[place : place + 1], 50)
        assert alone_ids[0].numpy().tolist() == ids[place].numpy().tolist()
        assert alone_scores[0].numpy().tolist() == scores[place].numpy().tolist()


def test_saved_indexes_answer_alike_where_tfrs_shop_is_not(tmp_path) -> None:
    vectors, queries = clustered(5000), clustered(5000)[:3]
    module = tf.Module()
    module.indexes = {kind: build_index(kind, vectors, queries, 20)[0] for kind in PARTITIONED}

    @tf.function(input_signature=[tf.TensorSpec([None, 32], tf.float32, "queries")])
    def search(queries):
        answers = {kind: index(queries, k=20) for kind, index in module.indexes.items()}
        return {f"{kind} {part}": answer[part] for kind, answer in answers.items() for part in (0, 1)}

    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=search)
    np.save(tmp_path / "queries.npy", queries)
    code = (
        "import sys; sys.modules['tfrs_shop'] = None; import numpy as np; import tensorflow as tf; "
        f"f = tf.saved_model.load({str(tmp_path / 'saved')!r}).signatures['serving_default']; "
        f"answer = f(queries=tf.constant(np.load({str(tmp_path / 'queries.npy')!r}))); "
        f"np.savez({str(tmp_path / 'answer.npz')!r}, **answer)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    answer = np.load(tmp_path / "answer.npz")
    for kind, index in module.indexes.items():
        scores, ids = index(tf.constant(queries), 20)
        assert answer[f"{kind} 1"].tolist() == ids.numpy().tolist()
        np.testing.assert_allclose(answer[f"{kind} 0"], scores.numpy(), atol=1e-6)


def test_an_unknown_kind_is_one_sentence() -> None:
    with pytest.raises(UserError, match="--index partitoned: is none of scann, brute_force, partitioned, partitioned_"):
        build_index("partitoned", normal(9, 2), normal(9, 2), 3)
