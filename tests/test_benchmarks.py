"""The benchmarks run, and what they measure with is right."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from benchmarks import run as benchmarks_run
from benchmarks.baselines import item_knn
from benchmarks.beauty import BASELINES
from benchmarks.ranks import PROTOCOLS, compared, load_ranks, rank_targets, save_ranks
from benchmarks.sasrec import LENGTH, SASRec, Settings
from benchmarks.steps import run_step
from benchmarks.tutorial_two_tower import TwoTower, training_pairs
from tfrs_shop.dataset import open_data, read_records
from tfrs_shop.evaluation import target_ranks


@pytest.mark.slow
@pytest.mark.usefixtures("few_questions")
def test_the_quick_run_writes_every_figure_and_prints_the_tables(shop, tmp_path, capsys) -> None:
    benchmarks_run.quick(shop.data, tmp_path)
    result = json.loads((tmp_path / "quick.json").read_text())
    assert set(result["baselines"]) == set(BASELINES)
    assert set(result["compared"]) == {*BASELINES, "alone"}
    assert set(result["steps"]) == {"train", "evaluate, all", "evaluate, exclude-seen", "export"}
    # The kept ranks and the command agree; scores of another graph may differ in the last bit.
    for protocol in PROTOCOLS:
        evaluated = result[f"evaluate, {protocol}"]
        assert result["mean"]["mixed"][protocol]["recall@10"] == pytest.approx(evaluated["recall@10"], abs=0.02)
    # The small shop has no text to be like.
    assert result["ablation"]["no_likeness"]["mixed"] == result["seeds"]["17"]["mixed"]
    speed = json.loads((tmp_path / "speed.json").read_text())
    assert speed["ratios by second"]["evaluate, package / evaluate, tutorial"] > 0
    shown = capsys.readouterr().out
    assert "| SASRec with full softmax, run here |" in shown
    assert "| ratio, evaluate, package / evaluate, tutorial |" in shown


def test_a_step_says_what_memory_it_took_and_stops_the_run_when_it_fails() -> None:
    took = run_step("timeit", "-n", "1", "-r", "1", "x = bytearray(300_000_000)")
    assert took["peak_gb"] > 0.3
    with pytest.raises(SystemExit, match="timeit failed with exit code"):
        run_step("timeit", "--no-such-option")


def test_kept_ranks_are_those_of_the_model_and_are_compared_user_by_user(trained, tmp_path) -> None:
    model, data = trained
    vectors = model.product_vectors()
    found = rank_targets(data, lambda rows: model.final_scores(vectors, rows), model.config.towers.max_history)
    save_ranks(tmp_path / "ranks.npz", found)
    kept = load_ranks(tmp_path / "ranks.npz")
    for protocol in PROTOCOLS:
        assert np.mean(kept[protocol] != target_ranks(model, data, "test", protocol == "exclude-seen")) < 0.05
    worse = {**kept, "all": kept["all"] + 1}
    assert compared(kept, worse)["all"]["ndcg@10"]["difference"] > 0
    assert compared(kept, worse)["exclude-seen"]["ndcg@10"]["difference"] == 0
    with pytest.raises(ValueError, match="different examples"):
        compared(kept, {**kept, "user_id": kept["user_id"][::-1]})


def test_the_tutorial_learns_from_each_training_event_once(shop) -> None:
    data = open_data(shop.data)
    pairs = training_pairs(data)
    expected = 0
    for row in read_records(data.directory, data.manifest, "train").unbatch():
        events = [*row["history_product_id"].numpy(), row["target_product_id"].numpy()]
        # A user's next window begins with the event that the one before ended with.
        expected += sum(event != b"" for event in (events[1:] if row["history_offset"] else events))
    assert len(pairs["user_id"]) == len(pairs["product_id"]) == expected
    places = [data.values["product_id"].index(product) for product in pairs["product_id"].tolist()]
    counted = np.bincount(places, minlength=data.catalogue.size)
    # A return is an event that is no target, so it counts here and not there.
    assert (counted >= data.catalogue.train_count[1:]).all()


def test_towers_of_the_tutorial_know_their_ids() -> None:
    model = TwoTower([b"u1", b"u2"], [b"p1", b"p2", b"p3"], width=4)
    rows = model.product_tower(tf.constant([b"p3", b"p1", b"never seen"])).numpy()
    assert rows.shape == (3, 4)
    table = model.product_tower.layers[1].get_weights()[0]
    assert rows.tolist() == table[[3, 1, 0]].tolist()


def test_sasrec_is_causal_and_blind_to_padding() -> None:
    tf_keras.utils.set_random_seed(1)
    model = SASRec(20, Settings(width=8, heads=2))
    history = np.zeros((2, LENGTH), np.int32)
    history[0, -4:] = [3, 5, 7, 9]
    history[1, -6:] = [3, 5, 7, 9, 11, 2]
    states = model(tf.constant(history)).numpy()
    assert states.shape == (2, LENGTH, 8)
    # More padding in front changes nothing.
    alone = model(tf.constant(history[:1])).numpy()
    np.testing.assert_allclose(states[0, -4:], alone[0, -4:], atol=1e-5)
    # A later event changes no earlier state.
    changed = history.copy()
    changed[1, -1] = 15
    other = model(tf.constant(changed)).numpy()
    np.testing.assert_allclose(states[1, -6:-1], other[1, -6:-1], atol=1e-5)
    assert np.abs(states[1, -1] - other[1, -1]).max() > 1e-3


def test_item_knn_sums_cosines_of_user_sets(shop) -> None:
    data = open_data(shop.data)
    windows = list(data.training_windows(50).as_numpy_iterator())
    seen = np.zeros((len(windows), data.catalogue.size + 1))
    for place, row in enumerate(windows):
        seen[place, row["history_product"]] = seen[place, row["label"]] = 1
    seen[:, 0] = 0
    lengths = np.maximum(np.sqrt((seen**2).sum(0)), 1)
    cosine = seen.T @ seen / lengths[:, None] / lengths
    np.fill_diagonal(cosine, 0)
    scorer = item_knn(data, None, neighbors=data.catalogue.size + 1)
    history = np.zeros((1, 50), np.int32)
    history[0, -3:] = [4, 9, 4]
    found = scorer({"history_product": tf.constant(history)}).numpy()[0]
    np.testing.assert_allclose(found[1:], (2 * cosine[4] + cosine[9])[1:], atol=1e-5)
