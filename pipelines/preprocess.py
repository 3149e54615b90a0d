"""The preprocessing job: raw events and a catalogue in, a data directory out.

    python -m pipelines.preprocess --events events.csv.gz --products products.jsonl.gz --output data

Rows are read, mapped, cleaned and checked; bad ones go to ``rejected/`` with file, row, field and reason. Events are
joined with their products, grouped by user, ordered, split, and turned into examples. Vocabularies and statistics
are counted with combiners. Texts are encoded once each. What is written, and how to read it, is in ``dataset.json``.
"""

import dataclasses
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from pipelines import graph, write
from pipelines.examples import BY_TIME, SplitRule
from pipelines.options import PreprocessOptions, check_flags, usage
from pipelines.rows import column_names, match_files
import tfrs_shop
from tfrs_shop.errors import UserError
from tfrs_shop.features import profile_feature
from tfrs_shop.manifest import MANIFEST_VERSION, Manifest
from tfrs_shop.mapping import Mapping, load_mapping
from tfrs_shop.schema import RowError, RowParser

Say = Callable[[str], None]
SHOWN_REASONS = 5


def run(arguments: list[str], say: Say = print) -> Manifest:
    """Run the job with command line `arguments` and return the manifest that it wrote.

    Args:
        arguments: the job's own flags and any runner's.
        say: takes one line of progress.

    Raises:
        UserError: something given cannot be used, or more rows are bad than ``--max_bad_rows`` allows.
    """
    try:
        pipeline_options = PipelineOptions(arguments)
        options = pipeline_options.view_as(PreprocessOptions)
        check_flags(options, arguments)
    except SystemExit:
        raise UserError("the flags above cannot be used; see --help.") from None
    # Beam's own DirectRunner would first try to download another engine; this is what it falls back to.
    if pipeline_options.view_as(StandardOptions).runner in (None, "DirectRunner"):
        pipeline_options.view_as(StandardOptions).runner = "FnApiRunner"
    job, mapping_name = plan(options), options.mapping
    folders = [*job.folders, "rejected", write.PARTS, "vocabularies"]
    started = time.monotonic()
    with write.output_directory(options.output, folders) as staging:
        job = dataclasses.replace(job, output=staging)
        for table, files in job.files.items():
            say(f"Reading {table}: {', '.join(files[:3])}{' ...' if len(files) > 3 else ''}")
        with _heartbeat(say):
            pipeline = beam.Pipeline(options=pipeline_options)
            graph.build(pipeline, job)
            pipeline.run().wait_until_finish()
        manifest = finish(job, options, mapping_name)
        write.write_manifest(staging, manifest.to_json())
    for line in summary(manifest):
        say(line)
    say(f"Wrote {options.output} in {time.monotonic() - started:.0f} s.")
    return manifest


def plan(options: PreprocessOptions) -> graph.Job:
    """Look at the flags and the files' columns, and say what the job does.

    Raises:
        UserError: a file or a column that is needed is missing.
    """
    mapping = load_mapping(options.mapping)
    files = {
        table: match_files(f"--{table}", patterns)
        for table, patterns in (("events", options.events), ("products", options.products), ("users", options.users))
        if patterns
    }
    columns = {
        table: {path: column_names(path, getattr(mapping, table)) for path in paths} for table, paths in files.items()
    }
    mapping = _derive_products(mapping) if "products" not in files else mapping
    order_by = _order_by(options, mapping, columns.get("events", {}))
    parsers = {
        "events": RowParser("events", mapping.events, order_by),
        "products": RowParser("products", mapping.products),
        "users": RowParser("users", mapping.users),
    }
    for table, names in columns.items():
        for path, present in names.items():
            if not present:
                raise UserError(f"{path}: is empty; --{table} needs at least a header and a row.")
            missing = parsers[table].missing_columns(present)
            if missing:
                raise UserError(
                    f"{path}: has no column {missing[0]}; it has {', '.join(present)}. "
                    "Name the columns with --mapping (see docs/mappings.md)."
                )
    handles, text = graph.text_settings(options.text_encoder, options.text_preprocessor, options.text_length)
    attributes = sorted(
        {
            name
            for path in columns.get("users", {})
            for name in parsers["users"].attribute_names(columns["users"][path]).values()
        }
    )
    return graph.Job(
        files=files,
        mapping=mapping,
        parsers=parsers,
        rule=_rule(options, order_by),
        order_by=order_by,
        cuts_by_share=(options.validation_share, options.test_share)
        if options.split == BY_TIME and not options.test_from
        else None,
        profile=tuple(profile_feature(name, numeric=name in mapping.users.numeric) for name in attributes),
        max_events_per_user=options.max_events_per_user,
        max_vocabulary=options.max_vocabulary,
        shards=options.shards,
        handles=handles,
        text=text,
    )


def _derive_products(mapping: Mapping) -> Mapping:
    """Return the mapping with which products are read out of event rows, whose ``rating`` is not a mean."""
    columns = {"rating_mean": "rating_mean", **mapping.products.columns}
    return dataclasses.replace(mapping, products=dataclasses.replace(mapping.products, columns=columns))


def _order_by(options: PreprocessOptions, mapping: Mapping, columns: dict[str, list[str]]) -> str:
    if not columns:
        return ""
    if options.order_by != "auto":
        return str(options.order_by)
    for name in ("timestamp", "position"):
        parser = RowParser("events", mapping.events, name)
        field = next(field for field in parser.fields if field.name == name)
        if all(set(parser.columns(field)) & set(present) for present in columns.values()):
            return name
    raise UserError(
        f"{next(iter(columns))}: has neither a timestamp nor a position column, so events have no order; "
        "name one with --mapping (see docs/mappings.md)."
    )


def _rule(options: PreprocessOptions, order_by: str) -> SplitRule:
    targets = frozenset(name.strip() for name in options.target_events.split(",") if name.strip())
    if options.split != BY_TIME:
        return SplitRule(options.split, options.max_history, targets)
    if order_by == "position":
        raise UserError("--split time needs a timestamp in every event; these events have only a position.")
    times = []
    for flag in ("validation_from", "test_from"):
        value = getattr(options, flag)
        try:
            parsed = RowParser("events", Mapping().events, "timestamp").parse(
                {"user_id": "-", "product_id": "-", "event_type": "-", "timestamp": value or "1970-01-01"}
            )
        except RowError as error:
            raise UserError(f"--{flag} {value}: {error.reason}.") from None
        times.append(parsed["timestamp"])
    if times[0] > times[1]:
        raise UserError("--validation_from must not be after --test_from.")
    return SplitRule(BY_TIME, options.max_history, targets, *times)


def finish(job: graph.Job, options: PreprocessOptions, mapping_name: str) -> Manifest:
    """Read the parts that the job wrote, judge them, and return the manifest.

    Raises:
        UserError: a file was broken, too many rows were bad, or nothing is left.
    """
    fatal = write.read_part(job.output, "fatal")
    if fatal:
        raise UserError(sorted(fatal)[0])
    numbers = dict(write.read_part(job.output, "counts"))
    reasons = dict(write.read_part(job.output, "reasons"))
    counts = graph.manifest_counts(numbers, write.read_part(job.output, "event_types"), reasons)
    if counts["rows_read"] == 0:
        raise UserError(f"{next(iter(job.files.values()))[0]}: holds no rows.")
    for table in job.files:
        table_counts = counts["by_table"][table]
        share = table_counts["rejected"] / max(1, table_counts["read"])
        if share > options.max_bad_rows:
            kept = write.keep_rejected(job.output, options.output)
            common = max(reasons, key=lambda reason: reasons[reason])
            raise UserError(
                f"{table}: {table_counts['rejected']:,} of {table_counts['read']:,} rows are bad ({share:.1%}, "
                f"--max_bad_rows allows {options.max_bad_rows:.1%}), most often {common}; they are in {kept}."
            )
    if counts["products"] == 0:
        raise UserError(f"{next(iter(job.files.values()))[0]}: no product is left after checking the rows.")
    cuts = write.read_part(job.output, "cuts")
    split: dict[str, Any] = {"rule": job.rule.rule}
    if job.rule.rule == BY_TIME:
        split.update(zip(("validation_from", "test_from"), cuts[0] if cuts else _times(job.rule), strict=True))
    return Manifest(
        source={
            "files": job.files,
            "mapping": mapping_name,
            "target_events": sorted(job.rule.target_events),
        },
        split=split,
        order_by=job.order_by,
        max_history=job.rule.max_history,
        features=job.features,
        vocabularies={
            name: {"file": f"vocabularies/{name}.txt", "size": size}
            for name, size in sorted(write.read_part(job.output, "vocabularies"))
        },
        statistics=dict(sorted(write.read_part(job.output, "statistics"))),
        counts=counts,
        text=job.text,
        files=write.list_files(job.output, [*job.folders, "vocabularies"]),
        versions={
            "manifest": str(MANIFEST_VERSION),
            "tfrs_shop": tfrs_shop.__version__,
            "apache_beam": beam.__version__,
        },
    )


def _times(rule: SplitRule) -> tuple[int, int]:
    return rule.validation_from, rule.test_from


def summary(manifest: Manifest) -> list[str]:
    """Return the lines that tell a person what the job did."""
    counts = manifest.counts
    lines = []
    for table, numbers in counts["by_table"].items():
        if numbers["read"]:
            skipped = f", {numbers['skipped']:,} skipped by the mapping" if numbers["skipped"] else ""
            lines.append(
                f"{table}: {numbers['read']:,} rows read, {numbers['kept']:,} kept, {numbers['rejected']:,} rejected{skipped}"
            )
    for reason, number in sorted(counts["rejected_by_reason"].items(), key=lambda pair: -pair[1])[:SHOWN_REASONS]:
        lines.append(f"  rejected: {reason}: {number:,}")
    examples = ", ".join(f"{number:,} {split}" for split, number in counts["examples"].items())
    lines.append(f"{counts['users']:,} users, {counts['products']:,} products; examples: {examples}")
    return lines


class _heartbeat:  # noqa: N801 - used as a context manager
    """Says every ten seconds that the job is still running."""

    def __init__(self, say: Say):
        self.say = say
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self.started = time.monotonic()
        self.thread.start()

    def _beat(self) -> None:
        while not self.over.wait(10):
            self.say(f"  ... Beam is working, {time.monotonic() - self.started:.0f} s so far")

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def main(arguments: list[str] | None = None) -> int:
    """Run the job from the command line; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--help" in arguments or "-h" in arguments:
        print(usage())
        return 0
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        run(arguments, say=lambda line: print(line, flush=True))
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
