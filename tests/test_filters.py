"""Filters at request time: every answer against a plain filter in NumPy over the scores that evaluation ranks by."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from bundle_support import ask, only_questions, user_row
from conftest import quiet
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrs_shop.export import Serving, export
from tfrs_shop.inspection import inspect
from tfrs_shop.schema import BOUGHT

K = 7
USERS = (0, 11, 23, 42, 77)
NOON, DAY = 1_750_000_000_000, 86_400_000


class Stage(NamedTuple):
    """An exported bundle, and what is true of it."""

    signatures: Any
    data: Any
    scores: list[np.ndarray]  # of USERS, for every product
    own: list[set[int]]
    seen: list[set[int]]


def windowed(data):
    """Return `data` with a fifth of the products off sale at NOON, a fifth later, and some without a price."""
    catalogue = data.catalogue
    place = np.arange(catalogue.size + 1)
    start = np.where(place % 5 == 1, NOON + DAY, np.where(place % 5 == 2, NOON - DAY, -1))
    end = np.where(place % 5 == 2, NOON + DAY, np.where(place % 5 == 3, NOON, -1))
    price = np.where(place % 7 == 3, np.nan, catalogue.price).astype(np.float32)
    return dataclasses.replace(
        data, catalogue=dataclasses.replace(catalogue, on_sale_from=start, on_sale_to=end, price=price)
    )


@pytest.fixture(scope="module", params=["brute_force", "partitioned"])
def stage(request, trained, tmp_path_factory) -> Any:
    model, data = trained
    data = windowed(data)
    before, model.transition_weight = model.transition_weight, 0.4
    with only_questions("recommend", "recommend_filtered", "similar", "rank"):
        output = tmp_path_factory.mktemp("models") / "shop"
        path = export(model, data, output, request.param, Serving(K, "bought"), quiet)
    assert inspect(path)["missing_in_stock_serving"] == []
    vectors = model.product_vectors()
    scores = [np.exp(model.final_scores(vectors, user_row(data, place)).numpy()[0]) for place in USERS]
    model.transition_weight = before
    users = data.users()
    own, seen = [], []
    for place in USERS:
        events = zip(users["history_product_id"][place], users["history_event_type"][place], strict=True)
        pairs = [(data.values["product_id"].index(product) + 1, kind.decode()) for product, kind in events if product]
        own.append({product for product, kind in pairs if kind in BOUGHT})
        older = {data.values["product_id"].index(product) + 1 for product in users["older_product_id"][place]}
        seen.append({product for product, _ in pairs} | older)
    loaded = tf.saved_model.load(str(path))
    return Stage({**loaded.signatures, "keep": loaded}, data, scores, own, seen)


@dataclasses.dataclass
class Wish:
    """One row of a filtered request."""

    user: int
    exclude: list[int]
    category: str
    price_min: float
    price_max: float
    exclude_seen: bool
    now: int


@st.composite
def wishes(draw, stage: Stage) -> Wish:
    paths = sorted({name.decode() for name in stage.data.catalogue.category_name[1:]})
    tops = sorted({path.split(" > ")[0] for path in paths})
    bound = st.one_of(st.just(float("nan")), st.just(-1.0), st.floats(0, 300, width=32))
    return Wish(
        user=draw(st.integers(0, len(USERS) - 1)),
        exclude=draw(st.lists(st.integers(0, stage.data.catalogue.size), max_size=8)),
        category=draw(st.one_of(st.just(""), st.sampled_from(tops), st.sampled_from(paths), st.just("No such"))),
        price_min=draw(bound),
        price_max=draw(bound),
        exclude_seen=draw(st.booleans()),
        now=draw(st.sampled_from([NOON, NOON - 1, NOON + DAY, NOON - 2 * DAY, 1])),
    )


def allowed(stage: Stage, wish: Wish) -> np.ndarray:
    """Return which products may be answered: the filter in plain words."""
    catalogue = stage.data.catalogue
    found = np.zeros(catalogue.size + 1, bool)
    for product in range(1, catalogue.size + 1):
        path, price = catalogue.category_name[product].decode(), catalogue.price[product]
        start, end = catalogue.on_sale_from[product], catalogue.on_sale_to[product]
        found[product] = (
            product not in wish.exclude
            and product not in stage.own[wish.user]
            and not (wish.exclude_seen and product in stage.seen[wish.user])
            and (not wish.category or path == wish.category or path.startswith(wish.category + " > "))
            and (not wish.price_min >= 0 or price >= np.float32(wish.price_min))
            and (not wish.price_max >= 0 or price <= np.float32(wish.price_max))
            and (start == -1 or start <= wish.now)
            and (end == -1 or wish.now < end)
        )
    return found


def request(stage: Stage, rows: list[Wish]) -> dict[str, Any]:
    """Return the filter's inputs."""
    ids = stage.data.catalogue.product_id
    width = max(1, *(len(wish.exclude) for wish in rows))
    return {
        "exclude_product_id": [[*(ids[p] for p in w.exclude), *[b""] * (width - len(w.exclude))] for w in rows],
        "category": [wish.category for wish in rows],
        "price_min": np.array([wish.price_min for wish in rows], np.float32),
        "price_max": np.array([wish.price_max for wish in rows], np.float32),
        "exclude_seen": [wish.exclude_seen for wish in rows],
        "now": np.array([wish.now for wish in rows], np.int64),
    }


def check(stage: Stage, wish: Wish, scores: np.ndarray, answer: dict[str, np.ndarray], row: int) -> None:
    """Hold one row of an answer against the filter."""
    may = allowed(stage, wish)
    wanted = -np.sort(-scores[may])[:K]
    count = min(K, int(may.sum()))
    products = [stage.data.values["product_id"].index(value) + 1 for value in answer["product_id"][row][:count]]
    assert len(set(products)) == count
    assert may[products].all()
    # Two ways to multiply in float32 differ in the seventh digit of a score, which the temperature and exp enlarge.
    np.testing.assert_allclose(answer["score"][row][:count], wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scores[products], wanted, rtol=1e-4, atol=1e-6)
    assert answer["product_id"][row][count:].tolist() == [b""] * (K - count)
    assert answer["title"][row][count:].tolist() == [b""] * (K - count)
    assert answer["score"][row][count:].tolist() == [0.0] * (K - count)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_filtered_recommendations_are_evaluations_ranking_with_the_filter_applied(stage, data) -> None:
    rows = data.draw(st.lists(wishes(stage), min_size=1, max_size=3))
    users = [stage.data.users()["user_id"][USERS[wish.user]] for wish in rows]
    answer = ask(stage.signatures, "recommend_filtered", user_id=users, **request(stage, rows))
    for row, wish in enumerate(rows):
        check(stage, wish, stage.scores[wish.user], answer, row)


def test_every_filter_leaves_out_something(stage) -> None:
    """The property above would hold for filters that never bite."""
    open_wish = Wish(0, [], "", float("nan"), float("nan"), False, NOON)
    everything = allowed(stage, dataclasses.replace(open_wish, now=NOON)).sum()
    category = stage.data.catalogue.category_name[5].decode()
    for change in ({"category": category}, {"price_min": 20.0}, {"price_max": 20.0}, {"exclude_seen": True}):
        assert 0 < allowed(stage, dataclasses.replace(open_wish, **change)).sum() < everything, change


def test_a_fresh_history_is_filtered_too(stage) -> None:
    ids = stage.data.catalogue.product_id
    history = {"history_product_id": [[ids[4], ids[9]]], "history_event_type": [["view", "view"]]}
    plain = Wish(0, [], "", float("nan"), float("nan"), False, NOON)
    first = ask(stage.signatures, "recommend_for_history_filtered", **history, **request(stage, [plain]))
    best = first["product_id"][0][0]
    without = dataclasses.replace(plain, exclude=[stage.data.values["product_id"].index(best) + 1], exclude_seen=True)
    second = ask(stage.signatures, "recommend_for_history_filtered", **history, **request(stage, [without]))
    kept = [value for value in first["product_id"][0] if value not in (best, ids[4], ids[9])]
    assert second["product_id"][0].tolist()[: len(kept)] == kept
    assert not {best, ids[4], ids[9]} & set(second["product_id"][0])


def test_an_unknown_user_gets_what_is_popular_of_what_is_allowed(stage) -> None:
    wish = Wish(0, [], "", 30.0, float("nan"), False, NOON)
    answer = ask(stage.signatures, "recommend_filtered", user_id=["nobody at all"], **request(stage, [wish]))
    nobody = stage._replace(own=[set()], seen=[set()])
    counts = stage.data.catalogue.train_count
    check(nobody, wish, counts / counts.sum(), answer, 0)


@pytest.mark.parametrize("name", ["recommend", "recommend_for_history", "similar"])
def test_what_is_not_on_sale_now_is_answered_by_no_signature(stage, name) -> None:
    ids = stage.data.catalogue.product_id
    inputs = {
        "recommend": {"user_id": [*stage.data.users()["user_id"][:40], b"nobody"]},
        "recommend_for_history": {
            "history_product_id": [[ids[place]] for place in range(1, 30)],
            "history_event_type": [["view"]] * 29,
        },
        "similar": {"product_id": ids[1:30].tolist()},
    }
    answered = set(ask(stage.signatures, name, **inputs[name])["product_id"].ravel())
    gone = {ids[place] for place in range(1, len(ids)) if place % 5 in (2, 3)}  # the windows ended in 2025
    assert not answered & gone
    assert answered & {ids[place] for place in range(1, len(ids)) if place % 5 == 1}


def test_rank_puts_what_is_not_on_sale_last_and_does_not_name_it(stage) -> None:
    ids = stage.data.catalogue.product_id
    answer = ask(stage.signatures, "rank", user_id=["nobody"], candidate_product_id=[[ids[2], ids[5], b"?", ids[6]]])
    assert set(answer["product_id"][0][:2]) == {ids[5], ids[6]}
    assert sorted(answer["product_id"][0][2:]) == [b"", b"?"]
    assert answer["score"][0][2:].tolist() == [0.0, 0.0]


def test_answers_that_the_clock_will_change_are_not_golden(trained, tmp_path) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    model, data = trained
    far = np.full(data.catalogue.size + 1, 4_000_000_000_000)  # 2096
    data = dataclasses.replace(data, catalogue=dataclasses.replace(data.catalogue, on_sale_to=far))
    path = export(model, data, tmp_path / "shop", "brute_force", Serving(3, "none"), quiet)
    names = {
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request.model_spec.signature_name
        for record in tf.data.TFRecordDataset(str(path / "assets.extra" / "golden_requests"))
    }
    # What is told the time, and what asks for no time.
    timeless = {"explain", "explain_for_history", "user_profile", "user_profile_for_history"}
    timeless |= {"predict_behavior", "predict_behavior_for_user", "query_intent"}
    timeless |= {"product_details", "user_history", "example_users"}
    assert names == {"recommend_filtered", "recommend_for_history_filtered"} | timeless
