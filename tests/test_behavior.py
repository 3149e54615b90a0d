"""What comes next in a session: the rule of sessions, the head's events by hand, and the served signature."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from bundle_support import user_row
from sklearn.metrics import log_loss, roc_auc_score

from pipelines.sessions import purchase_follows, session_keys
from tfrs_shop.behavior_evaluation import behavior_metrics, behavior_predictions, last_behavior
from tfrs_shop.behavior_training import CHECKS, Best, platt, train_behavior
from tfrs_shop.config import BehaviorConfig
from tfrs_shop.model.behavior_events import BehaviorEvents, gap_buckets, last_met, lasted
from tfrs_shop.model.behavior_head import SHRINKAGE, BehaviorHead, BehaviorTasks, lift_after
from tfrs_shop.run import load_run

MINUTE = 60_000


def event(kind: str, minute: float | None = None, session: str = "") -> dict:
    return {
        "event_type": kind,
        "timestamp": None if minute is None else int(minute * MINUTE),
        "session_id": session,
    }


def test_a_session_is_what_its_id_says_else_ends_with_half_an_hour_without_events() -> None:
    by_id = [event("view", 0, "a"), event("view", 500, "b"), event("view", 501, "a")]
    assert session_keys(by_id) == ["a", "b", "a"]
    assert session_keys([event("view", 0), event("view", 30), event("view", 60.1)]) == [0, 0, 1]
    assert session_keys([event("view"), event("view")]) == [0, 0]


def test_a_purchase_follows_in_its_own_session_only_and_not_itself() -> None:
    events = [
        *(event(kind, minute) for kind, minute in (("view", 0), ("purchase", 5), ("view", 6))),
        *(event(kind, minute) for kind, minute in (("view", 100), ("cart", 101), ("purchase", 102))),
    ]
    assert purchase_follows(events, 6) == [1, 0, 0, 1, 1, 0]


def test_what_is_held_out_tells_a_training_example_nothing() -> None:
    events = [
        *(event(kind, minute) for kind, minute in (("view", 0), ("purchase", 5))),
        *(event(kind, minute) for kind, minute in (("view", 100), ("purchase", 101), ("view", 102), ("purchase", 103))),
    ]
    # The second session goes on beyond what is known: neither its purchase nor the held-out one decides anything.
    assert purchase_follows(events, 5) == [1, 0, -1, -1, -1]
    assert purchase_follows(events, 5) == purchase_follows([*events[:5], event("view", 103)], 5)
    # A session of its own is beyond.
    assert purchase_follows(events, 2) == [1, 0]
    # A user's only session is answered by what is known of it.
    alone = [event("view"), event("purchase"), event("view"), event("purchase")]
    assert purchase_follows(alone, 3) == [1, 0, 0]


def test_when_a_product_was_last_met_is_found_at_every_event() -> None:
    met = last_met(tf.constant([[0, 7, 8, 7, 7, 0]]), tf.constant([[0, 1, 2, 3, 1, 2]]))
    assert met.age.numpy().tolist() == [[0, 0, 0, 2, 1, 0]]
    assert met.kind.numpy().tolist() == [[0, 0, 0, 1, 3, 0]]


def test_gaps_double_from_a_second_and_are_unknown_without_both_times() -> None:
    times = tf.constant([[-1, 1000, 1000, 2000, 4000, 11_000]], tf.int64)
    assert gap_buckets(times).numpy().tolist() == [[0, 0, 1, 2, 3, 4]]


def made_rows(random: np.random.Generator, batch: int = 3, length: int = 6) -> dict[str, tf.Tensor]:
    kinds = random.integers(1, 4, [batch, length])
    kinds[0, :2] = 0
    known = kinds > 0
    return {
        "history_event_type": tf.constant(kinds, tf.int32),
        "history_product": tf.constant(random.integers(1, 5, [batch, length]) * known, tf.int32),
        "history_category": tf.constant(random.integers(0, 4, [batch, length]) * known, tf.int32),
        "history_timestamp": tf.constant(np.cumsum(random.integers(0, 90_000, [batch, length]), 1), tf.int64),
    }


TASKS = BehaviorTasks(
    target_types=np.array([False, True, True, False]),
    leaf=np.array([0, 1, 2, 3, 0], np.int32),
    type_share=np.array([0.0, 0.7, 0.2, 0.1], np.float32),
    category_share=np.array([0.0, 0.5, 0.3, 0.2], np.float32),
    event_type=True,
    category=True,
    purchase=True,
)


def test_what_an_event_says_does_not_depend_on_what_comes_after_it() -> None:
    rows = made_rows(np.random.default_rng(1))
    layer = BehaviorEvents(event_types=3, categories=3)
    whole = tf.concat(layer(rows)[1:], 2).numpy()
    cut = tf.concat(layer({name: value[:, :4] for name, value in rows.items()})[1:], 2).numpy()
    assert whole[:, :4] == pytest.approx(cut, abs=1e-5)


def test_chances_of_categories_are_a_mixture_of_the_historys_and_all_and_sum_to_one() -> None:
    rows = made_rows(np.random.default_rng(2))
    head = BehaviorHead(BehaviorConfig(units=8), TASKS, history=6)
    said = head(rows, tf.random.stateless_uniform([3, 6, 5], [1, 2])).last()
    chances = head.category_chances(said, rows["history_category"]).numpy()
    assert chances.sum(1) == pytest.approx(np.ones(3), abs=1e-5)
    assert chances[:, 0] == pytest.approx(np.zeros(3), abs=1e-6)
    for target in (1, 2, 3):
        logs = head.category_log_chance(said, rows["history_category"], tf.fill([3], target)).numpy()
        assert np.exp(logs) == pytest.approx(chances[:, target], rel=1e-4)
    # By hand, for one row: what is pointed at, times the chance of a repeat, plus the rest of the softmax.
    gate = 1.0 / (1.0 + np.exp(-said.repeat.numpy()[1]))
    logits = head.category.numpy() @ said.topic.numpy()[1] + np.array([-1e9, *np.log([0.5, 0.3, 0.2])])
    anew = np.exp(logits) / np.exp(logits).sum()
    pointed = np.exp(said.repeats.numpy()[1])[rows["history_category"].numpy()[1] == 2].sum()
    assert chances[1, 2] == pytest.approx(gate * pointed + (1.0 - gate) * anew[2], rel=1e-4)


def test_a_type_that_is_no_target_has_no_chance() -> None:
    rows = made_rows(np.random.default_rng(3))
    said = BehaviorHead(BehaviorConfig(units=8), TASKS, history=6)(rows, tf.zeros([3, 6, 5]))
    chances = tf.nn.softmax(said.event_type).numpy()
    assert chances[..., 2].max() == 0.0
    assert chances.sum(-1) == pytest.approx(np.ones([3, 6]), abs=1e-5)


def test_the_types_after_a_category_are_counted_without_the_one_that_is_asked_for() -> None:
    head = BehaviorHead(BehaviorConfig(units=8), TASKS, history=6)
    head.count(np.array([1, 1, 2, 1, 0]), np.array([1, 2, 2, 0, 3]))
    head.count(np.array([1]), np.array([1]))
    assert head.after.numpy().tolist() == [[0, 0, 1], [2, 1, 0], [0, 1, 0], [0, 0, 0]]
    share = np.array([3, 3, 2]) / 8
    after = (np.array([2, 1, 0]) + SHRINKAGE * share) / (3 + SHRINKAGE)
    without = (np.array([1, 1, 0]) + SHRINKAGE * share) / (2 + SHRINKAGE)
    category = tf.constant([[0, 3, 1]])
    told = lift_after(head.after, category).numpy()[0]
    assert told == pytest.approx(np.array([[0, 0, 0], [0, 0, 0], np.log(after / share)]), abs=1e-6)
    asked = lift_after(head.after, category, tf.constant([[0, 0, 1]])).numpy()[0, 2]
    assert asked == pytest.approx(np.log(without / share), abs=1e-6)


def test_a_session_lasts_from_its_first_event_as_far_as_times_are_known() -> None:
    seconds = [-1, 0, 10, 40, 40 + 3000, 40 + 3060]
    times = tf.constant([[-1 if second < 0 else 1000 * second for second in seconds]], tf.int64)
    gaps = gap_buckets(times)
    known = np.log1p([0, 0, 10, 40, 0, 60])
    assert lasted(times, gaps).numpy()[0] == pytest.approx(known, abs=1e-5)
    assert lasted(times, 0 * gaps).numpy().tolist() == [[0.0] * 6]


def test_a_linear_model_is_told_how_many_events_products_and_categories_there_are() -> None:
    rows = {
        "history_event_type": tf.constant([[0, 1, 1, 2]], tf.int32),
        "history_product": tf.constant([[0, 7, 8, 7]], tf.int32),
        "history_category": tf.constant([[0, 3, 3, 3]], tf.int32),
        "history_timestamp": tf.constant([[-1, -1, -1, -1]], tf.int64),
    }
    plain = BehaviorEvents(event_types=2, categories=3)(rows).plain.numpy()[0]
    # Before the traces of two types at three rates and the length of the session: shares, before them counts.
    shares, counts = plain[:, -11:-7], plain[:, -15:-11]
    assert counts == pytest.approx(np.log1p([[0, 0, 0, 0], [1, 1, 1, 1], [2, 1, 2, 2], [2, 1, 3, 3]]), abs=1e-6)
    third = 1 / 3
    expected = [[0, 0, 0, 0], [1, 0, 1, 1], [1, 0, 1, 0.5], [2 * third, third, 2 * third, third]]
    assert shares == pytest.approx(np.array(expected), abs=1e-6)


def test_its_training_leaves_the_towers_as_they_are_and_is_kept_in_the_run(run) -> None:
    model, data, _ = load_run(run)
    before = [weight.numpy() for weight in model.trainable_variables]
    lines: list[str] = []
    weights = train_behavior(model, data, lines.append)
    for ours, theirs in zip(model.trainable_variables, before, strict=True):
        assert ours.numpy().tolist() == theirs.tolist()
    with np.load(run / "behavior.npz") as kept:
        assert [kept[name].shape for name in kept.files] == [weight.shape for weight in weights]
    assert len(lines) == CHECKS
    assert all(name in lines[-1] for name in ("event_type", "category", "purchase"))


def test_each_part_keeps_its_weights_from_the_check_at_which_it_was_best() -> None:
    weight, other, unasked = tf.Variable(0.0), tf.Variable(0.0), tf.Variable(0.0)
    parts = [Best(("event_type", "category"), [weight]), Best(("purchase",), [other]), Best(("rating",), [unasked])]
    checks = [(0.5, 0.9, 0.3), (0.4, 0.9, 0.1), (0.6, 0.6, 0.2), (0.7, 0.9, 0.4)]
    for step, losses in enumerate(checks, 1):
        for part, variable in zip(parts, (weight, other, unasked), strict=True):
            variable.assign(step)
            part.see(dict(zip(("event_type", "category", "purchase"), losses, strict=True)))
    for part in parts:
        part.restore()
    # What nothing tells of stays as it was in the end.
    assert [weight.numpy(), other.numpy(), unasked.numpy()] == [3.0, 2.0, 4.0]


def test_evaluation_judges_what_the_split_tells_of(trained) -> None:
    model, data = trained
    metrics = behavior_metrics(model, data, "test")
    assert sorted(metrics) == ["category", "event_type", "purchase"]
    examples = data.manifest.counts["examples"]["test"]
    assert metrics["event_type"]["examples"] == metrics["category"]["examples"] == examples
    said = behavior_predictions(model, data, "test")
    happened, chances = said["event_type"]["happened"], said["event_type"]["chances"]
    met = np.unique(happened)
    areas = [roc_auc_score(happened == kind, chances[:, kind]) for kind in met]
    assert len(met) > 1
    assert metrics["event_type"]["auc"] == pytest.approx(np.mean(areas))
    exact = chances.astype(np.float64)
    loss = log_loss(happened, exact / exact.sum(1, keepdims=True), labels=range(chances.shape[1]))
    assert metrics["event_type"]["log_loss"] == pytest.approx(loss, abs=1e-5)
    known = said["purchase"]["happened"] >= 0
    bought, chance = said["purchase"]["happened"][known], said["purchase"]["chance"][known]
    assert metrics["purchase"]["auc"] == pytest.approx(roc_auc_score(bought, chance))
    assert metrics["purchase"]["log_loss"] == pytest.approx(log_loss(bought, chance), abs=1e-5)
    # Three epochs are enough to learn that people stay in a category; the other tasks have learnt nothing by then.
    assert metrics["category"]["auc"] > 0.9


def test_the_head_learns_what_surely_follows() -> None:
    random = np.random.default_rng(4)
    # A purchase follows each cart, a view each view; and the category stays.
    kinds = np.repeat(random.integers(1, 3, [64, 1]), 6, 1)
    rows = {
        "history_event_type": tf.constant(kinds, tf.int32),
        "history_product": tf.constant(kinds, tf.int32),
        "history_category": tf.constant(kinds, tf.int32),
        "history_timestamp": tf.constant(np.tile(np.arange(6) * 1000, [64, 1]), tf.int64),
        "history_purchase_follows": tf.constant(kinds - 1, tf.int32),
        "label": tf.constant(kinds, tf.int32),
        "label_event_type": tf.constant(kinds, tf.int32),
        "label_category": tf.constant(kinds, tf.int32),
    }
    head = BehaviorHead(BehaviorConfig(units=8), TASKS, history=6)
    optimizer = tf_keras.optimizers.Adam(0.02)
    for _ in range(60):
        with tf.GradientTape() as tape:
            loss = head.loss(head(rows, tf.zeros([64, 6, 5])), rows)
        optimizer.minimize(loss, head.trainable_variables, tape)
    said = head(rows, tf.zeros([64, 6, 5])).last()
    own = kinds[:, 0]
    assert tf.nn.softmax(said.event_type).numpy()[np.arange(64), own - 1].min() > 0.8
    assert head.category_chances(said, rows["history_category"]).numpy()[np.arange(64), own].min() > 0.8
    assert (tf.sigmoid(said.purchase).numpy() > 0.5).tolist() == (own == 2).tolist()


def test_the_served_answer_is_the_heads_and_an_unknown_user_gets_one(trained, signatures) -> None:
    model, data = trained
    user = data.users()["user_id"][0]
    said = signatures["predict_behavior_for_user"](user_id=tf.constant([user, b"nobody"]))
    # The head itself, on the user's stored history.
    behavior, history = last_behavior(model, model.product_vectors(), user_row(data, 0))
    chances = tf.nn.softmax(behavior.event_type).numpy()[0]
    kinds = dict(zip(data.values["event_type"], chances, strict=True))
    found = dict(zip(said["event_type"].numpy()[0], said["event_type_probability"].numpy()[0], strict=True))
    assert found == pytest.approx({kind: kinds[kind] for kind in found}, abs=1e-4)
    assert set(kinds) - set(found) == {b"search", b"return"}
    categories = np.sort(model.behavior_head.category_chances(behavior, history).numpy()[0])[::-1]
    assert said["category_probability"].numpy()[0] == pytest.approx(categories[:5], abs=1e-4)
    assert said["purchase_probability"].numpy()[0] == pytest.approx(tf.sigmoid(behavior.purchase).numpy()[0], abs=1e-4)
    assert all(np.isfinite(value).all() for value in said.values() if value.dtype == tf.float32)
    assert {"rating", "purchase_probability", "category"} <= set(said)


def test_calibration_undoes_a_scale_and_a_shift() -> None:
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(3)
    logit = random.normal(0.0, 1.5, 4000)
    happened = (random.random(4000) < 1.0 / (1.0 + np.exp(-logit))).astype(np.int32)
    # As sure of itself as twice the truth, and of too few.
    said = 2.0 * logit - 1.0
    scale, shift = platt(tf.constant(np.stack([np.zeros(4000), said], 1), tf.float32), tf.constant(happened))
    expected = LogisticRegression(C=np.inf).fit(said[:, None], happened)
    assert scale == pytest.approx(expected.coef_[0, 0], abs=0.01)
    assert shift[1] - shift[0] == pytest.approx(expected.intercept_[0], abs=0.02)


def test_few_examples_calibrate_less_than_many() -> None:
    said, happened = tf.constant([[0.0, 3.0]] * 4), tf.constant([1, 0, 0, 0])
    few, many = platt(said, happened), platt(tf.tile(said, [1000, 1]), tf.tile(happened, [1000]))
    logit = [3.0 * scale + shift[1] - shift[0] for scale, shift in (few, many)]
    assert logit[1] == pytest.approx(np.log(1 / 3), abs=0.1)
    assert logit[0] > logit[1] + 1.0
