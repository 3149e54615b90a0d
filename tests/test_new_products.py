"""A product without training events: no id, no popularity, no negative, and recommended by what is known of it."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.cold_start import baselines, draw_products, ranks_among, write_events
from benchmarks.ratings import compare, shrunken_means
from tfrs_shop.catalogue import BUCKETED, POPULARITY, Catalogue
from tfrs_shop.config import Config, RankingConfig, TowerConfig
from tfrs_shop.dataset import open_data
from tfrs_shop.model.shop_model import ShopModel

SMALL = TowerConfig(width=16, layers=1, heads=2, max_history=6, dropout=0.0, text_dropout=0.0, id_dropout=0.0)


@pytest.fixture(scope="module")
def data(shop):
    return open_data(shop.data)


@pytest.fixture(scope="module")
def model(data):
    made = ShopModel(data, Config(SMALL, ranking=RankingConfig(weight=0.0)))
    made.product_vectors()
    return made


def test_a_product_without_events_has_neither_index_nor_popularity_and_all_others_have(data) -> None:
    features = data.catalogue.features()
    new = data.catalogue.train_count == 0
    assert 0 < new[1:].sum() < data.catalogue.size / 2
    assert (features["index"][new] == 0).all()
    assert (features["index"][~new] == np.flatnonzero(~new)).all()
    popularity = features["buckets"][:, BUCKETED.index(POPULARITY)]
    assert (popularity[new] == 0).all()
    assert (popularity[~new] > 0).all()


def test_products_with_events_come_first_so_that_the_softmax_is_over_them_alone(data, model) -> None:
    counts = data.catalogue.train_count
    assert (counts[1 : model.retrieval_loss.asked + 1] > 0).all()
    assert (counts[model.retrieval_loss.asked + 1 :] == 0).all()


def test_no_training_event_moves_a_new_product_by_itself(data, model) -> None:
    rows = next(iter(data.training_windows(6).batch(16)))
    with tf.GradientTape() as tape:
        loss = model.compute_loss(rows, training=True)
    gradient = tape.gradient(loss, model.product_tower.id_embedding.embeddings)
    moved = np.abs(tf.convert_to_tensor(gradient).numpy()).sum(1) > 0
    # Row 0 is no product: it is looked up for new products and counted 0 times.
    assert not moved[0]
    assert not moved[data.catalogue.train_count == 0].any()
    assert moved[data.catalogue.train_count > 0].all()


def test_the_vector_of_a_new_product_does_not_depend_on_its_number(data, model) -> None:
    before = model.product_vectors().numpy()
    table = model.product_tower.id_embedding.embeddings
    kept = table.numpy()
    table.assign(tf.random.normal(table.shape))
    after = model.product_vectors().numpy()
    table.assign(kept)
    new = np.flatnonzero(data.catalogue.train_count == 0)
    np.testing.assert_allclose(before[new], after[new], atol=1e-6)
    assert np.abs(before[1] - after[1]).max() > 1e-2


def test_events_of_held_out_products_are_gone_but_for_test_events(tmp_path) -> None:
    import gzip

    source, target = tmp_path / "in.csv.gz", tmp_path / "out.csv.gz"
    lines = ["user_id,product_id,event_type,position"]
    lines += [f"A,{product},review,{place}" for place, product in enumerate(["p", "X", "q", "r", "X"])]
    lines += [f"B,{product},review,{place}" for place, product in enumerate(["X", "p", "X"])]
    lines += [f"C,{product},review,{place}" for place, product in enumerate(["X", "p", "q"])]
    with gzip.open(source, "wt") as stream:
        stream.write("\n".join(lines) + "\n")
    # B would be left with two events, which are training events both: its test event has to go.
    assert write_events(source, target, {"X"}) == 1
    with gzip.open(target, "rt") as stream:
        found = [line.split(",")[:2] for line in stream.read().split()[1:]]
    assert ["".join(pair) for pair in found] == ["Ap", "Aq", "Ar", "AX", "Bp", "Cp", "Cq"]


def test_the_same_products_are_held_out_for_the_same_seed() -> None:
    products = [str(number) for number in range(100)]
    held_out = draw_products(products, 0.1, 5)
    assert len(held_out) == 10
    assert held_out == draw_products(products[::-1], 0.1, 5)
    assert held_out != draw_products(products, 0.1, 6)


def test_a_tie_stands_before_the_target() -> None:
    scores = np.array([[0.5, 0.5, 0.1], [0.1, 0.5, 0.9]])
    assert ranks_among(scores, np.array([0, 2])).tolist() == [1, 0]


def small_catalogue() -> Catalogue:
    """Return products 1 to 6; 4, 5 and 6 are new: of category 1 with brands 1 and 2, and of category 2."""
    none = np.full(7, b"", object)
    return Catalogue(
        product_id=none,
        title=none,
        description=none,
        brand_name=none,
        category_name=none,
        text_vector=np.zeros((7, 0), np.float32),
        category=np.array([[0], [1], [2], [1], [1], [1], [2]], np.int32),
        brand=np.array([0, 1, 2, 2, 1, 2, 1], np.int32),
        words=np.zeros((7, 1), np.int32),
        buckets=np.zeros((7, len(BUCKETED)), np.int32),
        price=np.full(7, np.nan, np.float32),
        on_sale_from=np.full(7, -1),
        on_sale_to=np.full(7, -1),
        train_count=np.array([0, 1, 5, 4, 0, 0, 0]),
        embedding=np.array([0, 1, 2, 3, 0, 0, 0]),
        embeddings=6,
        text_mean=[],
    )


def test_popularity_in_category_takes_categories_from_the_history_and_popularity_from_the_brand() -> None:
    scorers = baselines(small_catalogue(), np.array([4, 5, 6]))
    history = np.array([1, 3, 2])  # twice category 1, once category 2
    order = np.argsort(-scorers["favourite category"](history)).tolist()
    assert order == [1, 0, 2]  # brand 2 has 9 training events, brand 1 has 1
    # Chance of the category times the brand's share in it, one event more for each: 2/3 x 2/12, 2/3 x 10/12, 1/3.
    assert scorers["category shares"](history) == pytest.approx([2 / 18, 10 / 18, 1 / 3])
    assert scorers["category shares, equal brands"](history) == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_the_difference_of_rmse_is_ours_less_the_root_of_svds_mean_square_over_seeds() -> None:
    result = compare({"ours": np.array([1.0, -1.0])}, [np.array([2.0, 0.0]), np.array([0.0, 4.0])])
    assert result["rmse"] == {"ours": 1.0}
    assert result["svd"]["by_seed"] == pytest.approx([2**0.5, 8**0.5])
    assert result["difference"]["rmse"] == pytest.approx(1.0 - 5**0.5)
    low, high = result["difference"]["interval"]
    assert low <= result["difference"]["rmse"] <= high


def test_few_ratings_are_shrunken_towards_the_mean() -> None:
    assert shrunken_means(iter([("a", 1.0), ("a", 1.0), ("b", -3.0)])) == pytest.approx({"a": 2 / 7, "b": -3 / 6})
