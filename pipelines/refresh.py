"""The refresh job: a new catalogue, and new events if there are any, become the data directory of a trained model.

It is the preprocessing job with what the model has learned held fast: the vocabularies (but for product ids and
queries), the statistics that numbers are bucketed by, and the features. No event is held out. A text that the bundle
has a vector of is not encoded again. Without new events, users, transition graph and popularity stay as they are.
"""

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.runner import PipelineResult

from pipelines import graph, outcome
from pipelines.directory import keep_rejected, output_directory, write_manifest
from pipelines.examples import EVERYTHING, SplitRule
from pipelines.job import Job, text_settings
from pipelines.kept import Kept
from pipelines.options import parse_flags
from pipelines.plan import Say, plan
from pipelines.preprocess import FOLDERS, run_graph, signs_of_life
from pipelines.write import read_facts
from tfrs_shop.errors import UserError
from tfrs_shop.manifest import SPLITS, Manifest, load_manifest

OF_EVENTS = ("users", "transitions", "complements", "queries")
FIXED = (
    *("--users", "--target_events", "--max_history", "--text_encoder", "--text_preprocessor", "--text_length"),
    *("--split", "--validation_share", "--test_share", "--validation_from", "--test_from"),
)


def run(arguments: list[str], directory: Path, beside: str = "", say: Say = print) -> Manifest:
    """Run the job and return the manifest that it wrote.

    Args:
        arguments: ``--products``, ``--output``, maybe ``--events`` and ``--mapping``, and any runner's flags.
        directory: the data directory inside the bundle.
        beside: rejected rows are saved as ``BESIDE.rejected.jsonl``; "": beside ``--output``.
        say: takes one line of progress.

    Raises:
        UserError: something given cannot be used, or too many rows are bad.
    """
    for argument in arguments:
        flag = argument.split("=", 1)[0]
        if flag in FIXED:
            raise UserError(f"{flag} cannot be given to refresh: it stays as it was when the model was trained.")
    # Workers may be in another directory.
    directory = directory.absolute()
    if set("*?[") & set(str(directory)):
        raise UserError(f"{directory}: Beam reads *, ? and [ in a path as a pattern; move the bundle elsewhere.")
    manifest = load_manifest(directory)
    target_events = ",".join(manifest.source["target_events"])
    fixed = ["--text_encoder", "none", "--max_history", str(manifest.max_history), "--target_events", target_events]
    options, pipeline_options = parse_flags([*arguments, *fixed])
    job = _job(plan(options, say), Kept(str(directory), manifest, bool(options.events)))
    started = time.monotonic()
    with output_directory(options.output, FOLDERS) as staging:
        job = dataclasses.replace(job, output=staging)
        with signs_of_life(say):
            result = run_graph(pipeline_options, lambda pipeline: graph.build(pipeline, job))
        written = outcome.make_manifest(job, options, read_facts(staging), beside)
        finished = _with_kept(Path(staging), written, Kept(str(directory), manifest, bool(options.events)))
        if written.counts["rows_rejected"]:
            say(f"Rejected rows are in {keep_rejected(staging, beside or options.output)}.")
        write_manifest(staging, finished.to_json())
    for line in outcome.summary(finished):
        say(line)
    say(f"Read the catalogue in {time.monotonic() - started:.0f} s; {_encoded(result):,} texts were new and encoded.")
    return finished


def _encoded(result: PipelineResult) -> int:
    """Return how many texts RunInference says that it encoded."""
    found = result.metrics().query(MetricsFilter().with_name("num_inferences"))["counters"]
    return sum(counter.result or 0 for counter in found)


def _job(job: Job, kept: Kept) -> Job:
    text, handles = kept.manifest.text, None
    if text:
        try:
            handles, found = text_settings(text["encoder"], text["preprocessor"], text["sequence_length"])
        except UserError as error:
            raise UserError(f"the bundle's own text encoder is needed where it was: {error}") from None
        if found["width"] != text["width"]:
            raise UserError(
                f"the text encoder {text['encoder']} gives vectors of {found['width']} numbers, the bundle has "
                f"{text['width']}; put the encoder back that it was made with."
            )
    rule = SplitRule(EVERYTHING, kept.manifest.max_history, job.rule.target_events)
    return dataclasses.replace(
        job, rule=rule, cuts_by_share=None, profile=kept.profile, handles=handles, text=text, kept=kept
    )


def _keep_folder(staging: Path, folder: str, files: dict[str, Any], kept: Kept) -> None:
    shutil.rmtree(staging / folder, ignore_errors=True)
    files.pop(folder, None)
    if folder in kept.manifest.files:
        shutil.copytree(Path(kept.directory) / folder, staging / folder)
        files[folder] = kept.manifest.files[folder]


def _with_kept(staging: Path, written: Manifest, kept: Kept) -> Manifest:
    """Put what is kept beside what was written, and return the manifest of both."""
    old, files = kept.manifest, dict(written.files)
    for split in SPLITS:
        shutil.rmtree(staging / split)
        del files[split]
    counts = dict(written.counts)
    if not kept.has_events:
        counts["users"] = old.counts["users"]
        for folder in OF_EVENTS:
            _keep_folder(staging, folder, files, kept)
    renewed = {"product_id"}
    if kept.has_events:
        # A model that was trained without searches has no weights to read them with; one with them keeps its weights.
        if old.vocabularies["query"]["size"] and written.vocabularies["query"]["size"]:
            renewed.add("query")
        else:
            _keep_folder(staging, "queries", files, kept)
    vocabularies: dict[str, dict[str, Any]] = {
        **old.vocabularies,
        **{name: entry for name, entry in written.vocabularies.items() if name in renewed},
    }
    names = {f"{name}.txt" for name in renewed}
    files["vocabularies"] = sorted(
        [
            *(entry for entry in files["vocabularies"] if entry["name"] in names),
            *(entry for entry in old.files["vocabularies"] if entry["name"] not in names),
        ],
        key=lambda entry: entry["name"],
    )
    for name in sorted(old.vocabularies.keys() - renewed):
        shutil.copyfile(Path(kept.directory) / "vocabularies" / f"{name}.txt", staging / "vocabularies" / f"{name}.txt")
    return dataclasses.replace(
        written,
        split={"rule": EVERYTHING},
        order_by=written.order_by or old.order_by,
        # A bundle of an older version has no lexicon; the new one has.
        features={**old.features, "lexicon": written.features["lexicon"]},
        vocabularies=vocabularies,
        statistics=old.statistics,
        counts=counts,
        files=files,
    )
