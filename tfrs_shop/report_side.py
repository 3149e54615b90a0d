"""A run as the report shows it, alone or beside another, and what all sections draw of runs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrs_shop.evaluation_pass import Ranked
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.report_charts import interval_bar
from tfrs_shop.report_page import Chart
from tfrs_shop.run import RunInfo


@dataclasses.dataclass(frozen=True)
class Side:
    """A run on the page.

    Attributes:
        name: what it is called there.
        path: its directory.
        info: what its ``run.json`` says.
        model: of it.
        ranked: what the model made of each example.
        result: of ``tfrs_shop.evaluation.measured``.
        weights: numbers that were trained.
    """

    name: str
    path: Path
    info: RunInfo
    model: ShopModel
    ranked: Ranked
    result: dict[str, Any]
    weights: int


Sides = Sequence[Side]


def heads(sides: Sides, *kinds: str) -> list[str]:
    """Return the names of columns: each kind, and of two runs each kind of each run."""
    return [f"{kind}, {side.name}" if len(sides) > 1 else kind for kind in kinds for side in sides]


def bars(values: Sequence[tuple[float, float, float]], largest: float) -> Chart:
    """Return a bar for each side: the value, and the ends of its whisker."""
    return Chart("".join(interval_bar(*value, largest, place) for place, value in enumerate(values, 1)))
