"""The outcome: what the job counted is judged, and becomes the manifest and a summary for people."""

from collections import defaultdict
from typing import Any

import apache_beam as beam

import tfrs_shop
from pipelines import directory
from pipelines.examples import BY_TIME, EVERYTHING
from pipelines.job import TABLES, Job
from pipelines.options import PreprocessOptions
from pipelines.write import Fact
from tfrs_shop.errors import UserError
from tfrs_shop.manifest import MANIFEST_VERSION, SPLITS, Manifest

SHOWN_REASONS = 5


def make_manifest(job: Job, options: PreprocessOptions, facts: list[Fact], beside: str = "") -> Manifest:
    """Judge what the job found, and return the manifest.

    Args:
        job: what was asked for.
        options: the flags.
        facts: what the graph wrote of itself.
        beside: rejected rows of a job that stops are saved beside it; "": beside ``--output``.

    Raises:
        UserError: a file was broken, too many rows were bad, or nothing is left.
    """
    found: dict[str, list[Any]] = defaultdict(list)
    for name, value in facts:
        found[name].append(value)
    if found["fatal"]:
        raise UserError(sorted(found["fatal"])[0])
    files: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for folder, entry in found["file"]:
        files[folder].append(entry)
    counts = _counts(found["total"], files)
    _check(job, options, counts, beside or options.output)
    split: dict[str, Any] = {"rule": job.rule.rule}
    if job.rule.rule == BY_TIME and job.order_by:
        cuts = found["cuts"][0] if found["cuts"] else (job.rule.validation_from, job.rule.test_from)
        split.update(zip(("validation_from", "test_from"), cuts, strict=True))
    return Manifest(
        source={
            "files": job.files,
            "mapping": options.mapping,
            "target_events": sorted(job.rule.target_events),
        },
        split=split,
        order_by=job.order_by,
        max_history=job.rule.max_history,
        features=job.features,
        vocabularies=dict(sorted(found["vocabulary"])),
        statistics=dict(sorted(found["statistic"])),
        counts=counts,
        text=job.text,
        files={folder: sorted(entries, key=lambda entry: entry["name"]) for folder, entries in sorted(files.items())},
        versions={
            "manifest": str(MANIFEST_VERSION),
            "tfrs_shop": tfrs_shop.__version__,
            "apache_beam": beam.__version__,
        },
    )


def _counts(totals: list[tuple[str, str, int]], files: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the manifest's ``counts`` from ``(group, name, count)``, and from the records that were written."""
    groups: dict[str, dict[str, int]] = defaultdict(dict)
    for group, name, count in totals:
        groups[group][name] = count
    rows = groups["rows"]
    by_table: dict[str, dict[str, int]] = {}
    for table in TABLES:
        read, bad, skipped = (rows.get(f"{table} {what}", 0) for what in ("read", "rejected", "skipped"))
        by_table[table] = {"read": read, "kept": read - bad - skipped, "rejected": bad, "skipped": skipped}
    by_table["events"]["over_cap"] = rows.get("events over cap", 0)
    records = {folder: sum(entry["records"] for entry in entries) for folder, entries in files.items()}
    return {
        "rows_read": sum(table["read"] for table in by_table.values()),
        "rows_kept": sum(table["kept"] for table in by_table.values()),
        "rows_rejected": sum(table["rejected"] for table in by_table.values()),
        "rows_skipped": sum(table["skipped"] for table in by_table.values()),
        "users": records["users"],
        "products": records["products"],
        "examples": {split: records[split] for split in SPLITS},
        "event_types": dict(sorted(groups["event types"].items())),
        "by_table": by_table,
        "rejected_by_reason": dict(sorted(groups["reasons"].items())),
    }


def _check(job: Job, options: PreprocessOptions, counts: dict[str, Any], beside: str) -> None:
    for table, files in job.files.items():
        numbers = counts["by_table"][table]
        where = files[0] if len(files) == 1 else f"the {len(files)} files of --{table}"
        if not numbers["read"]:
            raise UserError(f"{where}: no rows; give a file that has some.")
        share = numbers["rejected"] / numbers["read"]
        if share > options.max_bad_rows:
            reasons = counts["rejected_by_reason"]
            own = [reason for reason in reasons if reason.startswith(f"{table}: ")]
            common = max(own, key=lambda reason: reasons[reason])
            kept = directory.keep_rejected(job.output, beside)
            raise UserError(
                f"{where}: {numbers['rejected']:,} of {numbers['read']:,} rows are bad ({share:.1%}, "
                f"--max_bad_rows allows {options.max_bad_rows:.1%}), most often '{common.split(': ', 1)[1]}'; "
                f"mend what {kept} lists, or allow more."
            )
        if not numbers["kept"]:
            # A refresh also skips events of products that are gone.
            why = "the mapping or the catalogue, which lacks their products," if job.kept else "the mapping"
            raise UserError(f"{where}: no row is left; {why} skips {numbers['skipped']:,} of them.")
    if not counts["products"]:
        raise UserError(f"{next(iter(job.files.values()))[0]}: names no product; a data set needs at least one.")


def summary(manifest: Manifest) -> list[str]:
    """Return the lines that tell a person what the job did."""
    counts = manifest.counts
    # A refresh also skips events of products that are gone.
    why = "" if manifest.split["rule"] == EVERYTHING else " by the mapping"
    lines = []
    for table, numbers in counts["by_table"].items():
        if numbers["read"]:
            line = f"{table}: {numbers['read']:,} rows read, {numbers['kept']:,} kept, {numbers['rejected']:,} rejected"
            line += f", {numbers['skipped']:,} skipped{why}" if numbers["skipped"] else ""
            over = numbers.get("over_cap", 0)
            lines.append(line + (f", {over:,} too old (--max_events_per_user)" if over else ""))
    reasons = sorted(counts["rejected_by_reason"].items(), key=lambda pair: (-pair[1], pair[0]))
    lines += [f"  rejected: {reason}: {number:,}" for reason, number in reasons[:SHOWN_REASONS]]
    if len(reasons) > SHOWN_REASONS:
        lines.append(f"  rejected: {len(reasons) - SHOWN_REASONS} more reasons, in dataset.json")
    if counts["event_types"]:
        types = sorted(counts["event_types"].items(), key=lambda pair: (-pair[1], pair[0]))
        lines.append("event types: " + ", ".join(f"{number:,} {name}" for name, number in types))
    examples = ", ".join(f"{number:,} {split}" for split, number in counts["examples"].items())
    lines.append(f"{counts['users']:,} users, {counts['products']:,} products; examples: {examples}")
    return lines
