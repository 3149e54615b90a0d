"""The report of a run, or of two side by side: one HTML page that needs nothing else, to be read, sent and kept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfrs_shop.dataset import ShopData
from tfrs_shop.errors import UserError
from tfrs_shop.evaluation import compare as test_against
from tfrs_shop.evaluation import load_compared, measured
from tfrs_shop.model.shop_model import ShopModel
from tfrs_shop.report_accuracy import cold_section, compared_section, ranking_section, slices_section
from tfrs_shop.report_examples import example_users
from tfrs_shop.report_heads import behavior_section, calibration_section
from tfrs_shop.report_lists import diversity_section, lists_section
from tfrs_shop.report_page import page, paragraph, section
from tfrs_shop.report_run import cost_section, data_section, settings_section, training_section
from tfrs_shop.report_side import Side
from tfrs_shop.run import load_run, read_run


def report(
    run: str | Path,
    output: str | Path,
    split: str,
    exclude_seen: bool,
    say: Callable[[str], None],
    *,
    data_directory: str | Path | None = None,
    compare: str | Path | None = None,
) -> None:
    """Evaluate the run `run` on `split` and write the page `output`, whole or not at all.

    Args:
        run: a finished run.
        output: the HTML file.
        split: validation or test.
        exclude_seen: take the products of the user's earlier events out of the ranking.
        say: takes one line of progress.
        data_directory: where the run's data is now, if it was moved.
        compare: another run on the same data, to be shown beside it.

    Raises:
        UserError: a run cannot be used, or the page cannot be written.
    """
    run, output = Path(run), Path(output)
    if output.is_dir():
        raise UserError(f"--output {output}: is a directory; name the HTML file to write.")
    model, data, _ = load_run(run, data_directory)
    sides = [side(run, run.resolve().name, model, data, split, exclude_seen, say)]
    if compare:
        other = Path(compare)
        name = other.resolve().name
        name += " (compared)" if name == sides[0].name else ""
        sides.append(side(other, name, load_compared(other, data), data, split, exclude_seen, say))
    examples = list(example_users({of.name: of.model for of in sides}, data, split, exclude_seen))
    html = page(
        f"Report of {' and '.join(of.name for of in sides)}: {split} split",
        compared_section(sides, test_against(sides[0].ranked, sides[1].ranked)) if compare else "",
        ranking_section(sides),
        slices_section(sides),
        cold_section(sides, data),
        lists_section(sides),
        diversity_section(sides, data, split),
        calibration_section(sides),
        behavior_section(sides),
        section(
            "Example recommendations",
            paragraph(
                "Users taken evenly from the split's first batch, the chance of each product to be the next, and that "
                "of the history without which its chance would fall the most."
            ),
            *examples,
        ),
        data_section(data, sides[0].ranked.history_length),
        training_section(sides),
        cost_section(sides),
        *map(settings_section, sides),
    )
    temporary = output.with_name(f".{output.name}.partial")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(html, encoding="utf-8")
        temporary.replace(output)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror}).") from None
    say(f"Wrote {output} ({len(html) / 1024:.0f} KiB).")


def side(
    path: Path, name: str, model: ShopModel, data: ShopData, split: str, exclude_seen: bool, say: Callable[[str], None]
) -> Side:
    """Return the run `path` with what its `model` is worth on `split`."""
    ranked, result = measured(model, data, split, exclude_seen, say)
    weights = sum(int(np.prod(weight.shape)) for weight in model.trainable_variables)
    return Side(name, path, read_run(path), model, ranked, result, weights)
