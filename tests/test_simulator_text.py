"""In the simulated shop a model that ignores the text cannot reach one that reads it."""

import dataclasses

import numpy as np
import pytest
import tf_keras

from pipelines.preprocess import run
from tfrs_shop.config import Config, RankingConfig, TowerConfig
from tfrs_shop.dataset import ShopData, open_data
from tfrs_shop.model.ranks import ranks_of
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.sources.simulator import simulate_shop


def ndcg_after_a_search(data: ShopData) -> float:
    """Train on `data`; return the NDCG@10 of the held-out events that directly follow a search."""
    tf_keras.utils.set_random_seed(3)
    model = ShopModel(data, Config(TowerConfig(width=64, dropout=0.2), ranking=RankingConfig(weight=0.0)))
    model.compile(tf_keras.optimizers.Adam(2e-3))
    model.fit(data.training_windows(20).shuffle(10_000, seed=1).batch(64), epochs=8, verbose=0)
    vectors = model.product_vectors()
    gains: list[float] = []
    for split in ("validation", "test"):
        for rows in data.evaluation_batches(split, 20):
            ranks = ranks_of(model.scores(vectors, rows), rows).numpy()
            searched = (rows["history_query"].numpy()[:, -1] > 0) & (rows["history_product"].numpy()[:, -1] == 0)
            gains += np.where(ranks < 10, 1 / np.log2(ranks + 2.0), 0.0)[searched].tolist()
    assert len(gains) > 100
    return float(np.mean(gains))


@pytest.mark.slow
def test_a_model_that_ignores_the_text_does_not_reach_half_of_one_that_reads_it(tmp_path) -> None:
    raw = tmp_path / "raw"
    simulate_shop(raw, users=500, products=400, days=45, seed=11)
    files = ["--events", f"{raw}/events.csv.gz", "--products", f"{raw}/products.jsonl.gz"]
    flags = ["--split", "time", "--validation_share", "0.15", "--test_share", "0.15"]
    run([*files, "--output", f"{tmp_path}/data", *flags], lambda line: None)
    reading = open_data(tmp_path / "data")
    # The same events and attributes; only the vectors of titles and queries are blanked.
    ignoring = dataclasses.replace(
        reading,
        query_vectors=np.zeros_like(reading.query_vectors),
        catalogue=dataclasses.replace(reading.catalogue, text_vector=np.zeros_like(reading.catalogue.text_vector)),
    )
    assert ndcg_after_a_search(ignoring) < 0.5 * ndcg_after_a_search(reading)
