"""The model card of a bundle (Mitchell et al., FAT* 2019): what it is for, what it was made of, and its limits."""

import datetime
from collections.abc import Iterable
from typing import Any

import numpy as np
import yaml

from tfrs_shop.dataset import ShopData
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.settings import to_dict

CARD_NAME = "model_card.md"
SHOWN = ("val_recall@1", "val_recall@10", "val_ndcg@10")


def model_card(
    model: ShopModel, data: ShopData, about: dict[str, Any], signatures: Iterable[str], validation: dict[str, float]
) -> str:
    """Return the card as Markdown.

    Args:
        model: trained.
        data: whose products and users are served.
        about: what ``bundle.json`` says.
        signatures: the questions that the bundle answers.
        validation: metrics of the run on its validation split, ``val_recall@10`` and the like; empty: not known.
    """
    return "\n".join(
        [
            "# Model card",
            "",
            f"Written on {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d} by `tfrs-shop export` or `refresh`.",
            "",
            "## Intended use",
            "",
            "Ranking a shop's own products for its own shoppers: recommendation, search, and the questions below. A",
            "person reads the answers and decides. It is not made for decisions about people (credit, prices for one",
            "person, access), and says nothing of a shopper beyond what the shop's log holds.",
            "",
            f"Questions: {', '.join(f'`{name}`' for name in sorted(signatures))}.",
            "",
            "## Data",
            "",
            *_data(data),
            "",
            "## Measured",
            "",
            *_measured(about, validation),
            "",
            "## Limits",
            "",
            *(f"- {limit}" for limit in _limits(model, data, about)),
            "",
            "## Settings",
            "",
            "```yaml",
            yaml.safe_dump(to_dict(model.config), sort_keys=False).rstrip(),
            "```",
            "",
        ]
    )


def _data(data: ShopData) -> list[str]:
    counts, text = data.manifest.counts, data.manifest.text
    kinds = ", ".join(f"{name} {number:,}" for name, number in sorted(counts["event_types"].items()))
    encoder = {"": "none", "default": "all-MiniLM-L6-v2, of English texts"}.get(
        text.get("encoder", "") if text.get("width") else "", text.get("encoder", "")
    )
    return [
        "| | |",
        "| --- | --- |",
        f"| products | {data.catalogue.size:,} |",
        f"| products with training events | {int((data.catalogue.train_count[1:] > 0).sum()):,} |",
        f"| users that are served by their id | {_stored_users(data):,} |",
        f"| events | {kinds or 'none'} |",
        f"| split of the examples | {data.manifest.split['rule']} |",
        f"| text encoder | {encoder} |",
    ]


def _stored_users(data: ShopData) -> int:
    return len(data.users().get("user_id", []))


def _measured(about: dict[str, Any], validation: dict[str, float]) -> list[str]:
    lines = ["| | |", "| --- | --- |"]
    lines += [
        f"| {name.removeprefix('val_')}, validation | {validation[name]:.4f} |" for name in SHOWN if name in validation
    ]
    index = about["index"]
    lines.append(f"| recall@10 of the index `{index['kind']}` against exact search | {index['recall@10']:.4f} |")
    return [
        *lines,
        "",
        "Validation ranks all products for each user's held-out event, by the model without the transition graph. It",
        "chose the epoch, so it flatters: `tfrs-shop evaluate --split test` and `tfrs-shop report` tell the test",
        "split, slices of users and products, calibration and diversity.",
    ]


def _limits(model: ShopModel, data: ShopData, about: dict[str, Any]) -> list[str]:
    counts = data.catalogue.train_count[1:]
    without = float(np.mean(counts == 0)) if len(counts) else 0.0
    found = [
        f"{without:.0%} of the products have no training event: they are recommended by text and attributes alone.",
        "A shopper of whom nothing is known gets what is popular; one with few events gets answers that are less sure.",
        "What is shown is clicked and then learnt: without exploration (`recommend_diverse`) popular products stay so.",
        f"{_stored_users(data):,} users' histories are in the bundle; whoever reaches the port and knows an id can ask"
        " for them. It was trained without differential privacy.",
        f"Answers leave out what the user has {about['serving']['exclude']}."
        if about["serving"]["exclude"] != "none"
        else "Answers may hold what the user has bought already.",
    ]
    if data.manifest.text.get("width") and data.manifest.text.get("encoder") == "default":
        found.append("The text encoder was trained on English: other languages are searched by their words alone.")
    if model.likeness_weight:
        found.append(
            f"What is like something in the history is put forward, with a weight of {model.likeness_weight:g}."
        )
    if model.transition_weight:
        found.append(f"The transition graph has a weight of {model.transition_weight:g}; refresh it as habits change.")
    if model.habit_weight:
        found.append(f"What a shopper comes back to has a weight of {model.habit_weight:g} where a session begins.")
    return found
