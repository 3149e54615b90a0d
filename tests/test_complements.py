"""What is bought together: from events to pairs, from pairs to what a bundle answers."""

import math

import numpy as np
import pytest
from bundle_support import ask

from pipelines.complements import COUNTED, MOST, SCALE, WITHIN, SumComplements, baskets, complements
from tfrs_shop.complements import FROM_SIMILAR, complement_edges
from tfrs_shop.dataset import open_data
from tfrs_shop.edges import Edges


def bought(product_id: str, session_id: str = "", timestamp: int | None = None, event_type: str = "purchase") -> dict:
    return {"product_id": product_id, "session_id": session_id, "timestamp": timestamp, "event_type": event_type}


def test_a_basket_is_what_was_bought_in_one_session() -> None:
    events = [
        bought("A", "1"),
        bought("B", "1"),
        bought("V", "1", event_type="view"),
        bought("A", "1"),
        bought("C", "2"),
    ]
    assert list(baskets(events)) == [["A", "B"], ["C"]]


def test_without_sessions_a_basket_is_what_was_bought_within_a_day_of_the_last() -> None:
    events = [bought("A", timestamp=0), bought("B", timestamp=WITHIN), bought("C", timestamp=2 * WITHIN + 1)]
    assert list(baskets(events)) == [["A", "B"], ["C"]]


def test_without_sessions_and_times_all_that_a_user_bought_is_one_basket() -> None:
    assert list(baskets([bought("A"), bought("B", event_type="review"), bought("A")])) == [["A", "B"]]


def test_nothing_bought_is_no_basket() -> None:
    assert list(baskets([bought("A", event_type="view"), bought("", event_type="search")])) == []


def test_every_pair_counts_both_ways_and_less_in_a_larger_basket() -> None:
    assert list(complements(["A", "B"])) == [("A", (round(SCALE / math.sqrt(2)), ("B",))), ("B", (707, ("A",)))]
    assert {weight for _, (weight, _) in complements(list("ABCD"))} == {SCALE // 2}
    assert list(complements(["A"])) == []


def test_of_an_enormous_basket_only_the_first_products_count() -> None:
    pairs = list(complements([str(number) for number in range(10 * MOST)]))
    assert [len(others) for _, (_, others) in pairs] == [MOST - 1] * MOST


def test_a_product_with_too_many_neighbours_keeps_the_heaviest() -> None:
    combine = SumComplements()
    counts = combine.add_input({}, (1, tuple(map(str, range(2 * COUNTED)))))
    counts = combine.add_input(counts, (5, ("7", "new")))
    assert len(counts) == COUNTED
    assert (counts["7"], counts["new"]) == (6, 5)
    assert combine.merge_accumulators([{"A": 1}, {"A": 2, "B": 1}]) == {"A": 3, "B": 1}


def test_the_graph_is_the_cosine_of_the_training_baskets(trained, shop) -> None:
    """Against a plain loop over the users' own training examples."""
    _, data = trained
    places = {value: place for place, value in enumerate(data.values["product_id"], 1)}
    counts = np.zeros([data.catalogue.size + 1] * 2)
    for basket in training_baskets(shop):
        for product, (weight, others) in complements(basket):
            for other in others:
                counts[places[product.encode()], places[other.encode()]] += weight
    assert counts.sum() > 0
    entering = counts.sum(0)
    edges = data.complements
    for product in range(1, data.catalogue.size + 1):
        start, end = edges.starts[product : product + 2]
        found = dict(zip(edges.neighbor[start:end].tolist(), edges.weight[start:end].tolist(), strict=True))
        wanted = {
            other: counts[product, other] / math.sqrt(entering[product] * entering[other])
            for other in np.flatnonzero(counts[product])
        }
        assert found == pytest.approx(wanted, rel=1e-5)


def training_baskets(shop) -> list[list[str]]:
    """Return the baskets of each user's events before the validation target, from the records of the examples."""
    from tfrs_shop.dataset import read_records

    data = open_data(shop.data)
    found = []
    by_user: dict[bytes, list[dict]] = {}
    for batch in read_records(shop.data, data.manifest, "train").as_numpy_iterator():
        for row in range(len(batch["user_id"])):
            lists = {
                name: batch[f"history_{name}"][row].tolist()
                for name in ("product_id", "event_type", "session_id", "timestamp")
            }
            events = [
                bought(product.decode(), session.decode(), None if time < 0 else time, kind.decode())
                for product, kind, session, time in zip(
                    lists["product_id"], lists["event_type"], lists["session_id"], lists["timestamp"], strict=True
                )
            ]
            target = bought(
                batch["target_product_id"][row].decode(),
                batch["target_session_id"][row].decode(),
                None if batch["target_timestamp"][row] < 0 else int(batch["target_timestamp"][row]),
                batch["target_event_type"][row].decode(),
            )
            by_user.setdefault(batch["user_id"][row], []).append(
                {"offset": int(batch["history_offset"][row]), "events": [*events, target]}
            )
    for windows in by_user.values():
        # Windows overlap by one event.
        windows.sort(key=lambda window: window["offset"])
        events = windows[0]["events"]
        for window in windows[1:]:
            events = events[: window["offset"]] + window["events"]
        found += list(baskets(events))
    return found


def test_a_product_that_nobody_bought_borrows_from_those_most_like_it(trained) -> None:
    _, data = trained
    none = Edges(np.zeros(data.catalogue.size + 2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    starts = np.full(data.catalogue.size + 2, 2, np.int64)
    starts[:2] = 0
    # Only product 1 has edges: to products 2 and 3.
    one = Edges(starts, np.array([2, 3], np.int32), np.array([0.5, 0.25], np.float32))
    fake = _Fake(data.catalogue, one, none)
    vectors = np.ones([data.catalogue.size + 1, 4], np.float32)
    edges = complement_edges(fake, vectors)  # type: ignore[arg-type]
    start, end = edges.starts[4:6]
    assert edges.neighbor[start:end].tolist() == [2, 3]
    assert edges.weight[start:end] == pytest.approx([0.5 * FROM_SIMILAR, 0.25 * FROM_SIMILAR])
    # Product 2 is no complement of itself.
    start, end = edges.starts[2:4]
    assert edges.neighbor[start:end].tolist() == [3]


class _Fake:
    def __init__(self, catalogue, complements, transitions):
        self.catalogue, self.complements, self.transitions = catalogue, complements, transitions


def test_a_bundle_answers_the_sum_of_what_goes_with_each_given_product(signatures, trained) -> None:
    model, data = trained
    edges = complement_edges(data, model.product_vectors().numpy())
    given = [3, 7]
    scores = np.zeros(data.catalogue.size + 1)
    for product in given:
        start, end = edges.starts[product : product + 2]
        np.add.at(scores, edges.neighbor[start:end], edges.weight[start:end])
    scores[given] = 0
    answer = ask(signatures, "complements", product_id=[[data.catalogue.product_id[p] for p in given] + [b"", b"?"]])
    assert answer["score"][0] == pytest.approx(np.sort(scores)[::-1][:5], rel=1e-5)
    ids = {value: place for place, value in enumerate(data.catalogue.product_id)}
    assert [scores[ids[value]] for value in answer["product_id"][0]] == pytest.approx(answer["score"][0], rel=1e-5)


def test_unknown_products_go_with_nothing(signatures) -> None:
    answer = ask(signatures, "complements", product_id=[[b"?", b""]])
    assert answer["product_id"].tolist() == [[b""] * 5]
    assert answer["score"].tolist() == [[0.0] * 5]
