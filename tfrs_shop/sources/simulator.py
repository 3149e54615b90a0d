"""A seeded simulator of a shop, for a demo without network and for tests that need to know the truth.

What is true in it (numbers and reasons: docs/simulator.md):

- A product has a type (its leaf category), a brand, a price, and a *style*: a look ("gothic"), a colour, a material
  and one to three functions ("waterproof"). The style is independent of category, brand and price, and shows only in
  the words of title and description, each time in another synonym.
- A user has tastes over looks, colours and functions, interests in types, a price band and favourite brands. They pick
  products by a multinomial logit over all of these, so a model that ignores the text misses the largest part.
- Sessions have an intent (browse, compare, buy, accessory) that shapes queries, length, and what is carted and bought,
  and one or more errands, each with something wanted, mostly said in a query, at times for a present.
- Complements go into the same basket, consumables are bought again, ratings and returns follow days later.
- Products arrive over time and are unevenly liked, so many have few events or none.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from tfrs_shop.errors import UserError
from tfrs_shop.sources.gzip_text import gzip_text
from tfrs_shop.sources.simulator_catalogue import Catalogue, make_catalogue
from tfrs_shop.sources.simulator_log import Event, Log
from tfrs_shop.sources.simulator_queries import HeldOutQuery, bag, held_out_queries, judgments
from tfrs_shop.sources.simulator_sessions import BEHAVIOUR, play
from tfrs_shop.sources.simulator_shop import FIRST_DAY_OF_YEAR, Shop
from tfrs_shop.sources.simulator_shoppers import PROFILE, Shoppers, make_shoppers
from tfrs_shop.sources.simulator_truth import score
from tfrs_shop.sources.simulator_words import COMPLEMENTS, TYPES
from tfrs_shop.whole_directory import whole_directory

FILES = (
    "events.csv.gz",
    "products.jsonl.gz",
    "users.csv.gz",
    "queries.csv.gz",
    "judgments.csv.gz",
    "sessions.csv.gz",
    "truth.json",
)
START = datetime(2025, 1, 1, tzinfo=timezone.utc) + timedelta(days=FIRST_DAY_OF_YEAR - 1)
EVENT_COLUMNS = (
    "user_id", "product_id", "event_type", "timestamp", "session_id", "rating", "query", "quantity", "price",
)  # fmt: skip
MOST_QUERIES = 250


@dataclass(frozen=True)
class SimulatedShop:
    """What was written, in rows, and how well the best rankings with and without the text do (NDCG@10)."""

    output: Path
    events: int
    products: int
    users: int
    sessions: int
    queries: int
    judgments: int
    oracle_ndcg: float
    oracle_without_text_ndcg: float


@dataclass(frozen=True)
class World:
    """The whole truth of one simulated shop, for tests that look behind the curtain."""

    shop: Shop
    log: Log
    queries: list[HeldOutQuery]


def build_world(*, users: int, products: int, days: int, seed: int) -> World:
    """Simulate the shop in memory. Each part has an own random stream: more users change no product."""
    catalogue = make_catalogue(np.random.default_rng([seed, 0]), products=products, days=days)
    shoppers = make_shoppers(np.random.default_rng([seed, 2]), users=users, days=days, type_share=catalogue.type_share)
    queries = held_out_queries(np.random.default_rng([seed, 3]), catalogue, min(MOST_QUERIES, products // 6))
    shop = Shop(catalogue, shoppers, days, {bag(query.query) for query in queries})
    return World(shop, play(shop, seed), queries)


def simulate_shop(
    output: Path, *, users: int = 2000, products: int = 1500, days: int = 60, seed: int = 7
) -> SimulatedShop:
    """Write a simulated shop into the directory `output`: the files of FILES, byte for byte the same for a seed.

    An `output` of an earlier run is replaced. Raises UserError for sizes that make no shop.
    """
    for name, value, least in (
        ("users", users, 1),
        ("products", products, len(TYPES)),
        ("days", days, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise UserError(f"--{name} is {value}; the simulated shop needs at least {least}.")
    world = build_world(users=users, products=products, days=days, seed=seed)
    shop, log = world.shop, world.log
    judged = judgments(np.random.default_rng([seed, 4]), shop.catalogue, world.queries)
    oracle = score(shop, log.choices)
    without_text = score(shop, log.choices, reads_text=False)
    with whole_directory(output, FILES) as folder:
        _write_csv(folder / "events.csv.gz", EVENT_COLUMNS, _event_rows(log.events, shop.catalogue))
        with gzip_text(folder / "products.jsonl.gz") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _product_rows(shop.catalogue))
        _write_csv(folder / "users.csv.gz", ("user_id", *PROFILE), _user_rows(shop.shoppers))
        _write_csv(folder / "queries.csv.gz", ("query_id", "query"), ((q.query_id, q.query) for q in world.queries))
        _write_csv(folder / "judgments.csv.gz", ("query_id", "product_id", "grade"), judged)
        shopping = ((f"S{s + 1:06d}", intent) for s, intent in enumerate(log.intents) if intent)
        _write_csv(folder / "sessions.csv.gz", ("session_id", "intent"), shopping)
        truth = {
            "seed": seed,
            "parameters": {"users": users, "products": products, "days": days},
            "start": START.isoformat(),
            "oracle": oracle,
            "oracle_without_text": without_text,
            "behaviour": {intent: how._asdict() for intent, how in BEHAVIOUR.items()},
            "complements": {
                " > ".join(TYPES[name].path): {
                    " > ".join(TYPES[other].path): weight for other, weight in others.items()
                }
                for name, others in COMPLEMENTS.items()
            },
            "queries": {
                query.query_id: {
                    "intent": query.intent,
                    "category": list(TYPES[query.wanted.type_name].path),
                    "wanted": list(query.wanted.concepts),
                    "brand": query.wanted.brand,
                    "product_id": shop.catalogue.product_id(query.wanted.product) if query.wanted.product >= 0 else "",
                }
                for query in world.queries
            },
        }
        (folder / "truth.json").write_text(json.dumps(truth, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return SimulatedShop(
        output=Path(output),
        events=len(log.events),
        products=products,
        users=users,
        sessions=sum(bool(intent) for intent in log.intents),
        queries=len(world.queries),
        judgments=len(judged),
        oracle_ndcg=oracle["ndcg@10"],
        oracle_without_text_ndcg=without_text["ndcg@10"],
    )


def _event_rows(events: Iterable[Event], catalogue: Catalogue) -> Iterator[tuple[object, ...]]:
    for event in events:
        yield (
            f"U{event.user + 1:05d}",
            catalogue.product_id(event.product) if event.product >= 0 else "",
            event.event_type,
            (START + timedelta(seconds=int(event.time))).strftime("%Y-%m-%dT%H:%M:%SZ"),
            f"S{event.session + 1:06d}",
            event.rating or "",
            event.query,
            event.quantity or "",
            f"{event.price:.2f}" if event.price else "",
        )


def _day(day: float) -> str | None:
    return (START + timedelta(days=int(day))).date().isoformat() if day > 0 else None


def _product_rows(catalogue: Catalogue) -> Iterator[dict[str, object]]:
    for place in range(len(catalogue)):
        count = int(catalogue.rating_count[place])
        yield {
            "product_id": catalogue.product_id(place),
            "title": catalogue.titles[place],
            "description": catalogue.descriptions[place],
            "category": list(catalogue.path(place)),
            "brand": catalogue.attributes[place].brand,
            "price": round(float(catalogue.price[place]), 2),
            "rating_mean": round(float(catalogue.rating_mean[place]), 2) if count else None,
            "rating_count": count,
            "sales_rank": int(catalogue.sales_rank[place]) or None,
            # When it can be bought, which is not when it is cheaper: a price cut shows in the events' prices.
            "on_sale_from": _day(catalogue.arrival[place]),
            "on_sale_to": None,
        }


def _user_rows(shoppers: Shoppers) -> Iterator[tuple[str, ...]]:
    for user in range(len(shoppers)):
        yield (f"U{user + 1:05d}", *(PROFILE[name][shoppers.profile[name][user]] for name in PROFILE))


def _write_csv(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    with gzip_text(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
