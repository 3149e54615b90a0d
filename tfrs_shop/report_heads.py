"""Sections of the report: what the ranking head and the behaviour head are worth."""

from tfrs_shop.report_charts import line_chart
from tfrs_shop.report_page import cards, paragraph, section, table
from tfrs_shop.report_side import Sides, heads


def calibration_section(sides: Sides) -> str:
    """Return what the ranking heads are worth; nothing where none was trained."""
    trained = [side for side in sides if side.result["ranking"]]
    if not trained:
        return ""
    names = {"auc": "AUC", "log_loss": "log loss", "calibration_error": "calibration error", "rmse": "RMSE of ratings"}
    of = {side.name: side.result["ranking"] for side in trained}
    chart = line_chart(
        {name: [(entry["chance"], entry["happened"]) for entry in found["reliability"]] for name, found in of.items()},
        title="Share that happened, by predicted chance",
        x_label="predicted chance",
        ends=(0.0, 1.0),
    )
    first = trained[0].result["ranking"]
    if len(trained) == 1:
        figures = cards({shown: first[name] for name, shown in names.items() if name in first})
    else:
        rows = (
            (shown, *(found.get(name, "none") for found in of.values()))
            for name, shown in names.items()
            if any(name in found for found in of.values())
        )
        figures = table(["metric", *of], rows)
    bins = "".join(
        table(
            (f"predicted, {name}" if len(of) > 1 else "predicted", "happened", "pairs"),
            ((f"{bin_['chance']:.3f}", f"{bin_['happened']:.3f}", bin_["pairs"]) for bin_ in found["reliability"]),
        )
        for name, found in of.items()
    )
    return section(
        "Ranking head",
        paragraph("Each target and one product drawn by popularity. On the dashed line, chances are what they say."),
        figures,
        f'<br/><div class="columns">{chart}{bins}</div>',
    )


def behavior_section(sides: Sides) -> str:
    """Return what the behaviour heads are worth, by task; nothing where none was trained."""
    tasks = list(dict.fromkeys(task for side in sides for task in side.result.get("behavior", {})))
    if not tasks:
        return ""
    names = {"auc": "AUC", "log_loss": "log loss", "ece": "calibration error", "accuracy": "accuracy"}
    rows = (
        (f"{task.replace('_', ' ')}: {shown}", *(found.get(name, "none") for found in of))
        for task in tasks
        for of in [[side.result.get("behavior", {}).get(task, {}) for side in sides]]
        for name, shown in names.items()
        if any(name in found for found in of)
    )
    return section(
        "Behaviour",
        paragraph("What follows the history: the event's type, its category, a purchase within the session."),
        table(["task and metric", *heads(sides, "value")], rows),
    )
