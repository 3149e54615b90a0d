"""Sections of the report: what the recommended lists are like, and what diverse ones cost and gain."""

import numpy as np

from tfrs_shop.dataset import ShopData
from tfrs_shop.diversity_evaluation import Pools
from tfrs_shop.report_charts import line_chart
from tfrs_shop.report_page import Words, paragraph, section, table
from tfrs_shop.report_side import Sides, heads

# What the curves of diversity are drawn of.
DIVERSITY_EXAMPLES = 2000
DIVERSITY_METHODS = ("mmr", "dpp", "category_quota")
DIVERSITY_STRENGTHS = (0.2, 0.4, 0.5, 0.6, 0.8)


def lists_section(sides: Sides) -> str:
    """Return coverage, diversity, novelty and concentration of the recommended lists."""
    result = sides[0].result
    meanings = {
        "coverage@10": "share of the catalogue in any list of 10",
        "coverage@100": "share of the catalogue in any list of 100",
        "diversity_category@10": "pairs of different categories",
        "diversity_top_category@10": "pairs of different top categories",
        "diversity_embedding@10": f"mean 1 - cosine of {result['diversity_embedding_of']}",
        "novelty@10": "bits: -log2 of the share of training events",
        "gini@10": "0: all products equally often; 1: always the same",
        "debiased_recall@10": "recall, each target weighed by 1 / its popularity",
    }
    rows = (
        (name.replace("_", " "), *(side.result.get(name, "none") for side in sides), Words(meaning))
        for name, meaning in meanings.items()
        if name in result
    )
    return section("Coverage, diversity, popularity", table(["metric", *heads(sides, "value"), ""], rows))


def diversity_section(sides: Sides, data: ShopData, split: str) -> str:
    """Return what diverse lists cost and gain, by method and strength, and whether chances are what they say.

    Args:
        sides: whose models choose.
        data: the split's.
        split: its name.
    """
    charts, sizes = "", set()
    chances: dict[str, list[tuple[float, float]]] = {}
    for side in sides:
        pools = Pools(side.model, data, split, DIVERSITY_EXAMPLES)
        sizes.add(pools.size)
        plain = pools.measured("recommend", 0.0)
        curves = {
            method: [plain, *(pools.measured(method, strength) for strength in DIVERSITY_STRENGTHS)]
            for method in DIVERSITY_METHODS
        }
        of = f" of {side.name}" if len(sides) > 1 else ""
        charts += line_chart(
            {name: [(point["embedding"], point["ndcg@10"]) for point in curve] for name, curve in curves.items()},
            title=f"NDCG@10 against diversity{of}, strengths 0 to {DIVERSITY_STRENGTHS[-1]:g}",
            x_label="mean 1 - cosine within a list",
        )
        chances[side.name] = _chances(pools)
    largest = max((max(point) for points in chances.values() for point in points), default=1.0)
    charts += line_chart(
        chances,
        title="Share of the recommended that came, by the chance they were given",
        x_label="chance",
        ends=(0.0, largest),
    )
    note = (
        f"Lists of 10 from the 200 best, seen products out, {max(sizes):,} examples. Up and to the right is better; "
        "docs/diversity.md says what the methods do. In the last chart each dot is a tenth of all that is recommended."
    )
    return section("Diverse lists", paragraph(note), f'<div class="columns">{charts}</div>')


def _chances(pools: Pools) -> list[tuple[float, float]]:
    """Return the mean chance and the share that came of each tenth of the recommended products, by rising chance."""
    chance = pools.columns["chance"][:, : pools.k]
    came = (pools.columns["product"][:, : pools.k] == pools.columns["label"][:, None])[chance >= 0.0]
    order = np.argsort(chance[chance >= 0.0], kind="stable")
    tenths = np.array_split(order, min(10, len(order)))
    return [(float(chance[chance >= 0.0][these].mean()), float(came[these].mean())) for these in tenths]
