"""The transition graph: which edges are counted, and what is kept of them."""

from collections import Counter

from pipelines.transitions import NEIGHBORS, heaviest_neighbors, transitions


def counted(products: list[str]) -> dict[tuple[str, str], int]:
    total: Counter[tuple[str, str]] = Counter()
    for ends, weight in transitions(products):
        total[ends] += weight
    return dict(total)


def test_edges_reach_three_events_ahead_and_half_as_heavy_back() -> None:
    assert counted(["A", "B", "C", "D", "E"])[("A", "B")] == 12
    edges = counted(["A", "B", "C", "D", "E"])
    assert {ends: weight for ends, weight in edges.items() if ends[0] == "A"} == {
        ("A", "B"): 12,
        ("A", "C"): 6,
        ("A", "D"): 4,
    }
    assert {ends: weight for ends, weight in edges.items() if ends[1] == "A"} == {
        ("B", "A"): 6,
        ("C", "A"): 3,
        ("D", "A"): 2,
    }


def test_a_product_is_no_neighbour_of_itself_and_no_product_none_of_any() -> None:
    assert counted(["A", "A", "", "B"]) == {("A", "B"): 12 + 6, ("B", "A"): 6 + 3}


def test_one_event_has_no_edges() -> None:
    assert counted(["A"]) == {}


def test_the_heaviest_neighbours_are_kept_and_equals_are_in_the_order_of_their_ids() -> None:
    edges = [*[(1, f"P{place:03}") for place in range(NEIGHBORS + 20)][::-1], (9, "Z")]
    record = heaviest_neighbors(("A", {"edges": edges, "entering": [30]}))
    assert record["neighbor_product_id"][:3] == ["Z", "P000", "P001"]
    assert record["neighbor_weight"][:3] == [9, 1, 1]
    assert len(record["neighbor_product_id"]) == NEIGHBORS
    assert record["in_weight"] == 30


def test_a_product_that_nothing_leads_to_has_no_weight() -> None:
    assert heaviest_neighbors(("A", {"edges": [], "entering": []}))["in_weight"] == 0
