"""Examples for the report: what a few users did, what they are recommended, and because of what."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.evaluation_pass import best_products
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.report_page import text
from tfrs_shop.served.explain import read_rows
from tfrs_shop.served.recommend_explained import without_each

EXAMPLE_USERS = 5
SHOWN_EVENTS = 8
SHOWN_PRODUCTS = 10
# Letters of a title in a reason.
SHOWN_LETTERS = 60
HIT = ' class="hit"'


def example_users(models: dict[str, ShopModel], data: ShopData, split: str, exclude_seen: bool) -> Iterator[str]:
    """Yield a few users of `split`: what they did, newest first, and what each of `models` recommends to them.

    Args:
        models: name to model.
        data: the split's.
        split: its name.
        exclude_seen: take the products of the user's earlier events out of the ranking.
    """
    length = min(model.config.towers.max_history for model in models.values())
    batch = next(iter(data.evaluation_batches(split, length)))
    chosen = np.unique(np.linspace(0, len(batch["label"]) - 1, EXAMPLE_USERS).astype(int))
    rows = {name: tf.gather(value, chosen) for name, value in batch.items()}
    found = {name: value.numpy() for name, value in rows.items()}
    seen = found["seen_product"] if exclude_seen else None
    lists: dict[str, list[str]] = {}
    for name, model in models.items():
        scores = model.final_scores(model.product_vectors(), rows).numpy()
        best = best_products(scores, seen, min(SHOWN_PRODUCTS, data.catalogue.size))
        reasons = because(model, rows, scores, best)
        lists[name] = [_listed(data, found, scores, best, reasons, place) for place in range(len(chosen))]
    for place, target in enumerate(found["label"]):
        past = "".join(f"<li>{line}</li>" for line in _past(data, found, place)) or "<li>nothing</li>"
        recommended = "".join(
            f"<div>Recommended{f' by {text(name)}' if len(lists) > 1 else ''}<ol>{shown[place]}</ol></div>"
            for name, shown in lists.items()
        )
        yield (
            f'<div class="user"><h3>User {text(found["user_id"][place])}</h3><div class="columns">'
            f"<div>What they did, newest first<ul>{past}</ul>"
            f"What they took next<ul><li>{_title(data, target)}</li></ul></div>"
            f"{recommended}</div></div>"
        )


def because(model: ShopModel, rows: dict[str, tf.Tensor], scores: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Return ``[rows, k]`` int: the place in the history without which a product's chance would fall the most.

    As ``tfrs_shop.served.recommend_explained`` answers: each event is left out in its turn; a product that is there
    several times is one reason, and its newest place is named. -1: nothing in the history speaks for the product.

    Args:
        model: whose chances count.
        rows: of ``ShopData.evaluation_batches``.
        scores: ``[rows, products + 1]`` float32, the model's for them.
        products: ``[rows, k]`` int32, 0 for "none".
    """
    vectors, read = model.product_vectors(), read_rows(rows)
    reasons = np.full(products.shape, -1)
    for place, listed in enumerate(products):
        row = {name: values[place : place + 1] for name, values in read.items()}
        history, kinds = (row[name].numpy()[0] for name in ("history_product", "history_event_type"))
        if not kinds.any():
            continue
        left = np.asarray(model.final_scores(vectors, without_each(row)))[:, listed]
        adds = np.where((kinds > 0)[:, None], scores[place, listed] - left, 0.0)
        same = (history[:, None] == history) & (history > 0) | np.eye(len(history), dtype=bool)
        adds = (same.astype(np.float32) @ adds)[::-1]
        most = adds.argmax(0)
        reasons[place] = np.where((adds.max(0) > 0.0) & (listed > 0), len(history) - 1 - most, -1)
    return reasons


def _listed(
    data: ShopData,
    rows: dict[str, np.ndarray],
    scores: np.ndarray,
    best: np.ndarray,
    reasons: np.ndarray,
    place: int,
) -> str:
    """Return the entries of the list for the user at `place`."""
    entries = []
    for product, reason in zip(best[place], reasons[place], strict=True):
        if not product:
            break
        why = f"{np.exp(scores[place, product]):.1%}"
        if reason >= 0:
            kind, what = _event(data, rows, place, reason)
            why += f", because of {kind} {what if len(what) <= SHOWN_LETTERS else what[:SHOWN_LETTERS] + '…'}"
        hit = HIT if product == rows["label"][place] else ""
        entries.append(f'<li{hit}>{_title(data, product)} <span class="why">{text(why)}</span></li>')
    return "".join(entries)


def _past(data: ShopData, rows: dict[str, np.ndarray], place: int) -> Iterator[str]:
    kinds = rows["history_event_type"][place]
    for at in np.flatnonzero(kinds)[::-1][:SHOWN_EVENTS]:
        kind, what = _event(data, rows, place, at)
        yield f'<span class="dim">{text(kind)}</span> {text(what)}'


def _event(data: ShopData, rows: dict[str, np.ndarray], place: int, at: int) -> tuple[str, str]:
    """Return the type of an event, and its product's title or its query, not escaped."""
    kind, product, query = (
        rows[name][place][at] for name in ("history_event_type", "history_product", "history_query")
    )
    what = _named(data, product) if product else data.values["query"][query - 1] if query else b""
    return data.values["event_type"][kind - 1].decode("utf-8", "replace"), what.decode("utf-8", "replace")


def _named(data: ShopData, product: int) -> bytes:
    name: bytes = data.catalogue.title[product] or data.catalogue.product_id[product]
    return name


def _title(data: ShopData, product: int) -> str:
    return text(_named(data, product))
