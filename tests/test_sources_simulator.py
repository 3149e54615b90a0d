"""The simulated shop: its files, its repeatability, and the truths that it promises (docs/simulator.md)."""

import csv
import gzip
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from tfrs_shop.errors import UserError
from tfrs_shop.sources import simulator
from tfrs_shop.sources.simulator import FILES, build_world, simulate_shop
from tfrs_shop.sources.simulator_queries import Wanted, grade
from tfrs_shop.sources.simulator_words import CONCEPTS, TYPES


def rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@dataclass
class Written:
    folder: Path
    events: list[dict[str, str]]
    products: list[dict]
    truth: dict


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Written:
    folder = tmp_path_factory.mktemp("shop") / "raw"
    simulate_shop(folder, users=1200, products=1500, days=60, seed=7)
    with gzip.open(folder / "products.jsonl.gz", "rt", encoding="utf-8") as stream:
        products = [json.loads(line) for line in stream]
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    return Written(folder, rows(folder / "events.csv.gz"), products, truth)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        simulate_shop(tmp_path / name, users=30, products=120, days=20, seed=seed)
    a, b, c = ({f: (tmp_path / name / f).read_bytes() for f in FILES} for name in "abc")
    assert a == b
    assert all(a[name] != c[name] for name in FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_more_users_change_neither_the_products_nor_the_held_out_queries() -> None:
    few, many = (build_world(users=users, products=100, days=10, seed=5) for users in (5, 9))
    assert few.shop.catalogue.titles == many.shop.catalogue.titles
    assert [query.query for query in few.queries] == [query.query for query in many.queries]


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"users": 0}, "--users is 0; the simulated shop needs at least 1."),
        ({"products": 51}, "--products is 51; the simulated shop needs at least 52."),
        ({"days": 0}, "--days is 0; the simulated shop needs at least 1."),
        ({"seed": -1}, "--seed is -1; the simulated shop needs at least 0."),
    ],
)
def test_sizes_that_make_no_shop_are_refused(tmp_path, sizes, sentence) -> None:
    with pytest.raises(UserError, match=f"^{sentence}$"):
        simulate_shop(tmp_path / "shop", **sizes)
    assert list(tmp_path.iterdir()) == []


def test_the_smallest_shop_works(tmp_path) -> None:
    summary = simulate_shop(tmp_path / "shop", users=1, products=52, days=1)
    assert (summary.users, summary.products) == (1, 52)
    assert summary.events == len(rows(tmp_path / "shop" / "events.csv.gz")) > 0


def test_a_run_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch) -> None:
    def broken(shoppers: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(simulator, "_user_rows", broken)
    with pytest.raises(KeyboardInterrupt):
        simulate_shop(tmp_path / "shop", users=5, products=60, days=3)
    assert list(tmp_path.iterdir()) == []


def test_neither_tensorflow_nor_beam_is_imported() -> None:
    code = "import sys, tfrs_shop.sources.simulator; print({'tensorflow', 'apache_beam'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_every_event_names_a_known_product_or_is_a_search(shop) -> None:
    ids = {product["product_id"] for product in shop.products}
    users = {row["user_id"] for row in rows(shop.folder / "users.csv.gz")}
    assert tuple(shop.events[0]) == simulator.EVENT_COLUMNS
    for event in shop.events:
        assert event["user_id"] in users
        if event["event_type"] == "search":
            assert event["product_id"] == ""
            assert event["query"].strip()
        else:
            assert event["product_id"] in ids
            assert event["query"] == ""
        assert (event["rating"] in {"1", "2", "3", "4", "5"}) == (event["event_type"] == "rating")
    kinds = {event["event_type"] for event in shop.events}
    assert kinds == {"view", "click", "favorite", "cart", "purchase", "return", "rating", "search"}


def test_events_are_in_time_order_and_a_user_never_does_two_things_in_one_session_second(shop) -> None:
    times = [event["timestamp"] for event in shop.events]
    assert times == sorted(times)
    moments = [(event["session_id"], event["timestamp"]) for event in shop.events]
    assert len(moments) == len(set(moments))


def test_what_is_bought_was_opened_and_carted_in_the_session_before(shop) -> None:
    done: dict[str, set[tuple[str, str]]] = defaultdict(set)
    purchases = 0
    for event in shop.events:
        before = done[event["session_id"]]
        product = event["product_id"]
        if event["event_type"] in {"cart", "favorite"}:
            assert {("view", product), ("click", product)} & before
        if event["event_type"] == "purchase":
            purchases += 1
            assert ("cart", product) in before
        before.add((event["event_type"], product))
    assert purchases > 1000


def test_nothing_is_opened_before_it_arrives_and_late_products_have_few_events(shop) -> None:
    world = build_world(users=1200, products=1500, days=60, seed=7)
    arrival = world.shop.catalogue.arrival
    assert all(event.time / 86_400 >= arrival[event.product] for event in world.log.events if event.product >= 0)
    counts = np.bincount([event.product for event in world.log.events if event.product >= 0], minlength=1500)
    assert (counts < 10).mean() > 0.15
    assert np.sort(counts)[-150:].sum() > 0.25 * counts.sum()


def test_the_shop_has_52_leaf_categories_in_six_departments(shop) -> None:
    paths = {tuple(product["category"]) for product in shop.products}
    assert len(paths) == 52
    assert {path[0] for path in paths} == {"Electronics", "Kitchen", "Beauty", "Outdoor", "Toys", "Office"}
    assert {len(path) for path in paths} == {2, 3}


def test_looks_and_colours_show_in_no_other_column_than_the_words() -> None:
    catalogue = build_world(users=1, products=3000, days=30, seed=1).shop.catalogue
    styles = [i for i, name in enumerate(CONCEPTS) if name.startswith(("look:", "colour:"))]
    style = catalogue.concepts[:, styles].astype(float)
    for column in (catalogue.price_level, catalogue.popularity, catalogue.arrival, catalogue.rating_count):
        correlations = [np.corrcoef(style[:, i], column)[0, 1] for i in range(len(styles))]
        assert np.abs(correlations).max() < 4 / np.sqrt(3000)
    for groups in (catalogue.brand_index, catalogue.type_index):
        # chi-square of looks against brand or type: about its degrees of freedom when they are independent
        looks = style[:, :10]
        table = np.array([looks[groups == g].sum(0) for g in np.unique(groups)])
        expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
        freedom = (table.shape[0] - 1) * 9
        assert ((table - expected) ** 2 / expected).sum() < freedom + 4 * np.sqrt(2 * freedom)


def test_held_out_queries_occur_in_no_event_in_any_order_of_words(shop) -> None:
    searched = {frozenset(event["query"].casefold().split()) for event in shop.events}
    queries = rows(shop.folder / "queries.csv.gz")
    assert len(queries) == 250
    assert not [row for row in queries if frozenset(row["query"].casefold().split()) in searched]


def test_grades_follow_type_and_wanted_attributes(shop) -> None:
    catalogue = build_world(users=1, products=400, days=10, seed=2).shop.catalogue
    wanted = Wanted("tent", ("function:waterproof", "look:rugged"))
    grades = grade(catalogue, wanted)
    for place, item in enumerate(catalogue.attributes):
        has = {"function:waterproof", "look:rugged"} & set(item.concepts())
        if item.type_name == "tent":
            assert grades[place] == {0: 1, 1: 2, 2: 3}[len(has)]
        elif item.type_name in {"sleeping_bag", "lantern", "stove"}:
            assert grades[place] == 1
        else:
            assert grades[place] == 0
    written = rows(shop.folder / "judgments.csv.gz")
    assert {row["grade"] for row in written} == {"0", "1", "2", "3"}
    assert {row["query_id"] for row in written if row["grade"] == "3"} == set(shop.truth["queries"])


def test_letters_alone_find_only_a_part_of_what_a_query_means(shop) -> None:
    text = {p["product_id"]: f"{p['title']} {p['description']}".casefold() for p in shop.products}
    query = {row["query_id"]: row["query"].casefold().split() for row in rows(shop.folder / "queries.csv.gz")}
    best = [row for row in rows(shop.folder / "judgments.csv.gz") if row["grade"] == "3"]
    shares = [np.mean([word in text[row["product_id"]] for word in query[row["query_id"]]]) for row in best]
    assert 0.3 < np.mean(shares) < 0.8
    assert np.mean(np.array(shares) == 1) < 0.4


def test_complements_are_bought_together_and_the_table_says_which(shop) -> None:
    leaf = {p["product_id"]: " > ".join(p["category"]) for p in shop.products}
    baskets: dict[str, set[str]] = defaultdict(set)
    for event in shop.events:
        if event["event_type"] == "purchase":
            baskets[event["session_id"]].add(leaf[event["product_id"]])
    with_phone = [basket for basket in baskets.values() if "Electronics > Phones > Smartphones" in basket]
    cases = np.mean(["Electronics > Phones > Phone Cases" in basket for basket in with_phone])
    anywhere = np.mean(["Electronics > Phones > Phone Cases" in basket for basket in baskets.values()])
    assert shop.truth["complements"]["Electronics > Phones > Smartphones"]["Electronics > Phones > Phone Cases"] == 3
    assert cases > 2 * anywhere


def test_the_intent_shows_in_what_is_bought(shop) -> None:
    bought = {event["session_id"] for event in shop.events if event["event_type"] == "purchase"}
    intents = {row["session_id"]: row["intent"] for row in rows(shop.folder / "sessions.csv.gz")}
    share = {
        intent: np.mean([session in bought for session, name in intents.items() if name == intent])
        for intent in ("browse", "compare", "buy", "accessory")
    }
    assert share["buy"] > 0.4 > 0.2 > share["browse"]
    assert share["accessory"] > share["compare"]


def test_better_matches_get_better_ratings() -> None:
    world = build_world(users=300, products=400, days=60, seed=7)
    shop = world.shop
    rated = [event for event in world.log.events if event.event_type == "rating"]
    match = [shop.shoppers.match(shop.catalogue, event.user)[event.product] for event in rated]
    assert np.corrcoef(match, [event.rating for event in rated])[0, 1] > 0.4


def test_every_type_is_worded_in_synonyms_and_has_functions_of_the_vocabulary() -> None:
    for kind in TYPES.values():
        assert len(kind.forms) >= 3
        assert {f"function:{name}" for name in kind.functions} <= set(CONCEPTS)


class Next:
    """Light models of the next product that a user opens for the first time, made from the written files alone."""

    def __init__(self, shop: Written) -> None:
        ids = {product["product_id"]: place for place, product in enumerate(shop.products)}
        self.leaf = np.unique([" > ".join(p["category"]) for p in shop.products], return_inverse=True)[1]
        self.histories: dict[str, list[tuple[int, str]]] = defaultdict(list)  # (place or -1, query or session)
        for event in shop.events:
            place = ids.get(event["product_id"], -1)
            self.histories[event["user_id"]].append((place, event["query"] if place < 0 else event["session_id"]))
        self.targets = {user: self._last_new(events) for user, events in self.histories.items()}
        train = {user: [p for p, _ in events[: self.targets[user]]] for user, events in self.histories.items()}
        opened = [[place for place in places if place >= 0] for places in train.values()]
        count, leaves = len(ids), self.leaf.max() + 1
        self.popular = np.log(np.bincount([p for places in opened for p in places], minlength=count) + 3)
        self.moves = np.full((leaves, leaves), 0.1)
        pairs = np.zeros((count, count))
        for places in opened:
            np.add.at(self.moves, (self.leaf[places[:-1]], self.leaf[places[1:]]), 1)
            distinct = sorted(set(places))
            pairs[np.ix_(distinct, distinct)] += 1
        self.moves /= self.moves.sum(1, keepdims=True)
        np.fill_diagonal(pairs, 0)
        size = np.exp(self.popular)
        self.together = pairs / np.sqrt(np.outer(size + 5, size + 5))  # item-to-item neighbours
        texts = [f"{p['title']} {p['description']} {' '.join(p['category'])}" for p in shop.products]
        self.words = TfidfVectorizer(sublinear_tf=True, min_df=3, max_df=0.5, dtype=np.float32)
        vectors = self.words.fit_transform(texts).toarray()
        means = np.array([vectors[self.leaf == leaf].mean(0) for leaf in range(leaves)])
        self.style = vectors - means[self.leaf]  # what sets a product apart from others of its type
        self.whole = vectors + means[self.leaf]  # with the words that its type goes by elsewhere
        for table in (self.style, self.whole):
            table /= np.linalg.norm(table, axis=1, keepdims=True) + 1e-9

    @staticmethod
    def _last_new(events: list[tuple[int, str]]) -> int:
        seen: set[int] = set()
        last = 0
        for index, (place, _) in enumerate(events):
            if place >= 0 and place not in seen:
                last = index
            seen.add(place)
        return last

    def without_text(self, events: list[tuple[int, str]]) -> NDArray[np.float64]:
        """Popularity, the category where the user is, and what others opened beside this user's products."""
        places = [place for place, _ in events if place >= 0]
        recent = np.array([self.together[place] * 0.97**age for age, place in enumerate(reversed(places))]).sum(0)
        return np.log(self.moves[self.leaf[places[-1]]])[self.leaf] + 0.7 * self.popular + 0.8 * np.log(recent + 1e-3)

    def with_text(self, events: list[tuple[int, str]]) -> NDArray[np.float64]:
        """The same, and the words of what the user opened, and of the query if they have just searched."""
        places = [place for place, _ in events if place >= 0]
        taste = self.style[list(set(places))].sum(0)
        score = self.without_text(events) + 5 * self.style @ taste / (np.linalg.norm(taste) + 1e-9)
        if events[-1][0] < 0:
            query = self.words.transform([events[-1][1]]).toarray()[0]
            score += 30 * self.whole @ query
        return score

    def ndcg(self, model: Callable[[list[tuple[int, str]]], NDArray[np.float64]]) -> float:
        """NDCG@10 of each user's last new product among all products; those seen before are out of the ranking."""
        gains = []
        for user, events in self.histories.items():
            at = self.targets[user]
            seen = sorted({place for place, _ in events[:at] if place >= 0})
            if not seen:
                continue
            scores = model(events[:at])
            scores[seen] = -np.inf
            rank = int((scores > scores[events[at][0]]).sum())
            gains.append(1 / np.log2(rank + 2) if rank < 10 else 0.0)
        return float(np.mean(gains))


def test_a_model_that_ignores_the_text_cannot_reach_one_that_reads_it(shop) -> None:
    models = Next(shop)
    without_text, with_text = models.ndcg(models.without_text), models.ndcg(models.with_text)
    # No ranking by category, brand, price and popularity is better than this one, which knows the users' minds in them.
    bound = shop.truth["oracle_without_text"]["ndcg@10"]
    assert with_text > 1.25 * max(without_text, bound)
    assert shop.truth["oracle"]["ndcg@10"] > 2 * bound
