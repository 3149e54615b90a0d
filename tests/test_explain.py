"""Explanations and profiles: shares that sum, reasons that matter, and profiles counted by hand."""

import numpy as np
import pytest
from bundle_support import ask

from tfrs_shop.served.user_profile import DECAY


@pytest.fixture(scope="module")
def explained(signatures, trained):
    """For 20 users the best product, one from the middle of the list, and one at random, explained."""
    users = trained[1].users()["user_id"][:20]
    best = ask(signatures, "recommend", user_id=users)["product_id"]
    some = np.random.default_rng(1).choice(trained[1].catalogue.product_id[1:], 20)
    products = [*best[:, 0], *best[:, 3], *some]
    return users * 3, products, ask(signatures, "explain", user_id=users * 3, product_id=products)


def test_shares_sum_to_the_difference_from_the_baseline_within_two_percent(explained) -> None:
    _, _, answer = explained
    difference = answer["score"] - answer["baseline"]
    # Where nearly nothing is to be explained, two hundredths of nothing are less than rounding.
    np.testing.assert_allclose(answer["share"].sum(1), difference, rtol=0.02, atol=1e-5)


def test_scores_differ_as_the_logarithms_of_the_chances_do(signatures, explained) -> None:
    users, products, answer = explained
    recommended = ask(signatures, "recommend", user_id=users[:20])
    chance = np.log(recommended["score"])
    assert products[:20] == recommended["product_id"][:, 0].tolist()
    np.testing.assert_allclose(answer["score"][:20] - answer["score"][20:40], chance[:, 0] - chance[:, 3], atol=1e-3)


def test_events_make_up_what_the_history_adds(explained) -> None:
    _, _, answer = explained
    parts = answer["part"][0].tolist()
    assert parts[:4] == [b"history", b"behavior_text", b"profile", b"likeness"]
    assert parts[4:7] == [b"repeats", b"transitions", b"habits"]
    assert {b"id", b"category", b"brand", b"price", b"words", b"popularity"} <= set(parts)
    of_history = answer["share"][:, [0, 1, 3, 4, 5]].sum(1)
    np.testing.assert_allclose(answer["because_share"].sum(1), of_history, atol=1e-3)
    shown = answer["because_title"] != b""
    for share, row in zip(answer["because_share"], shown, strict=True):
        assert (np.diff(share[row]) <= 1e-6).all()
        assert (share[~row] == 0).all()


def history_of(trained, count: int) -> list[list[bytes]]:
    """Return the last products of users who have that many different ones."""
    rows = ([p for p in dict.fromkeys(row.tolist()) if p][-count:] for row in trained[1].users()["history_product_id"])
    return [row for row in rows if len(row) == count]


def test_without_the_named_item_the_score_falls_more_than_without_a_random_one(signatures, trained) -> None:
    histories = history_of(trained, 5)[:30]
    kinds = [["view"] * 5] * len(histories)
    history = {"history_product_id": histories, "history_event_type": kinds}
    answer = ask(signatures, "recommend_for_history_explained", **history)
    products = answer["product_id"][:, 0].tolist()
    explained = ask(signatures, "explain_for_history", **history, product_id=products)

    def without(removed: list[bytes]) -> float:
        rest = [[p for p in row if p != gone] for row, gone in zip(histories, removed, strict=True)]
        inputs = {"history_product_id": rest, "history_event_type": [["view"] * 4] * len(rest)}
        scores = ask(signatures, "explain_for_history", **inputs, product_id=products)["score"]
        return float((explained["score"] - scores).mean())

    at_random = np.random.default_rng(2).integers(5, size=len(histories))
    fall = without([row[place] for row, place in zip(histories, at_random, strict=True)])
    assert without(explained["because_product_id"][:, 0].tolist()) > 1.5 * fall
    named = answer["because_product_id"][:, 0].tolist()
    assert all(name in row for name, row in zip(named, histories, strict=True))
    assert without(named) > 1.5 * fall


def test_a_reason_is_of_the_history_and_the_products_are_those_of_recommend(signatures, trained) -> None:
    data = trained[1]
    users = [*data.users()["user_id"][:10], b"nobody"]
    answer = ask(signatures, "recommend_explained", user_id=users)
    plain = ask(signatures, "recommend", user_id=users)
    assert answer["product_id"].tolist() == plain["product_id"].tolist()
    np.testing.assert_allclose(answer["score"], plain["score"], atol=1e-6)
    for place in range(10):
        own = set(data.users()["history_product_id"][place].tolist())
        assert set(answer["because_product_id"][place].tolist()) <= own | {b""}
        assert any(answer["because_title"][place].tolist())
    assert set(answer["because_title"][10].tolist()) == {b""}


def test_what_is_not_known_is_explained_by_zeros(signatures, trained) -> None:
    user, product = trained[1].users()["user_id"][0], trained[1].values["product_id"][0]
    for asked in ((user, "no such product"), ("nobody", product), ("", "")):
        answer = ask(signatures, "explain", user_id=[asked[0]], product_id=[asked[1]])
        assert not answer["share"].any()
        assert not answer["score"].any()
        assert set(answer["because_title"][0].tolist()) == {b""}
    empty = {"history_product_id": [[""]], "history_event_type": [[""]]}
    assert not ask(signatures, "explain_for_history", **empty, product_id=[product])["share"].any()
    reasons = ask(signatures, "recommend_for_history_explained", **empty)
    assert np.isfinite(reasons["score"]).all()


def test_a_profile_is_what_is_counted_by_hand(signatures, trained) -> None:
    catalogue = trained[1].catalogue
    places = [3, 9, 3, 27]
    history = {
        "history_product_id": [["", *catalogue.product_id[places]]],
        "history_event_type": [["", "view", "view", "cart", "view"]],
    }
    answer = {name: values[0] for name, values in ask(signatures, "user_profile_for_history", **history).items()}
    weights = DECAY ** np.array([3, 2, 1, 0])
    for name, values in (("category", catalogue.category_name), ("brand", catalogue.brand_name)):
        total: dict[bytes, float] = {}
        for place, weight in zip(places, weights, strict=True):
            total[values[place]] = total.get(values[place], 0.0) + weight / weights.sum()
        found = dict(zip(answer[name].tolist(), answer[f"{name}_weight"].tolist(), strict=True))
        found.pop(b"", None)
        assert found == pytest.approx(total, abs=1e-5)
        assert answer[f"{name}_weight"].tolist() == sorted(answer[f"{name}_weight"].tolist(), reverse=True)
    counts = dict(zip(answer["event_type"].tolist(), answer["event_count"].tolist(), strict=True))
    assert {kind: count for kind, count in counts.items() if count} == {b"view": 3, b"cart": 1}
    prices = sorted(catalogue.price[places].tolist())
    assert answer["price_low"] == pytest.approx(prices[0])
    assert answer["price_high"] == pytest.approx(prices[-1])
    summary = answer["summary"].decode()
    assert summary.startswith(f"categories: {answer['category'][0].decode()} ")
    assert "; prices " in summary
    assert summary.endswith("events: view 3, cart 1")


def test_of_nobody_there_is_an_empty_profile(signatures) -> None:
    answer = ask(signatures, "user_profile", user_id=["nobody"])
    assert answer["summary"].tolist() == [b""]
    assert set(answer["category"][0].tolist()) | set(answer["brand"][0].tolist()) == {b""}
    assert answer["price_median"].tolist() == [-1.0]
    assert all(np.isfinite(values).all() for values in answer.values() if values.dtype.kind == "f")
    assert not answer["event_count"].any()
