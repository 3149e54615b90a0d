"""The preprocessing job: raw events and a catalogue in, a data directory out.

    python -m pipelines.preprocess --events events.csv.gz --products products.jsonl.gz --output data

Rows are read, mapped, cleaned and checked; bad ones go to ``rejected/`` with file, row, field and reason. Events are
joined with their products, grouped by user, ordered, split, and turned into examples. Vocabularies and statistics
are counted with combiners. Texts are encoded once each. What is written, and how to read it, is in ``dataset.json``
(docs/data.md).
"""

import contextlib
import dataclasses
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineResult

from pipelines import graph, outcome, progress
from pipelines.command import exit_code
from pipelines.directory import REJECTED, output_directory, write_manifest
from pipelines.files import one_line
from pipelines.options import parse_flags, usage
from pipelines.plan import Say, plan
from pipelines.write import PARTS, read_facts
from tfrs_shop import output
from tfrs_shop.errors import UserError
from tfrs_shop.manifest import SPLITS, Manifest

FOLDERS = (
    *("products", "users", *SPLITS, "queries", "transitions", "complements", "lexicon", "vocabularies"),
    *(REJECTED, PARTS),
)
SECONDS_BETWEEN_SIGNS = 10


def run(arguments: list[str], say: Say = print) -> Manifest:
    """Run the job with command line `arguments` and return the manifest that it wrote.

    Args:
        arguments: the job's own flags and any runner's.
        say: takes one line of progress.

    Raises:
        UserError: something given cannot be used, or more rows are bad than ``--max_bad_rows`` allows.
    """
    options, pipeline_options = parse_flags(arguments)
    job = plan(options, say)
    started = time.monotonic()
    with output_directory(options.output, FOLDERS) as staging:
        job = dataclasses.replace(job, output=staging)
        for table, files in job.files.items():
            say(f"Reading {table}: {', '.join(files[:3])}{' ...' if len(files) > 3 else ''}")
        with signs_of_life(say):
            run_graph(pipeline_options, lambda pipeline: graph.build(pipeline, job))
        manifest = outcome.make_manifest(job, options, read_facts(staging))
        write_manifest(staging, manifest.to_json())
    for line in outcome.summary(manifest):
        say(line)
    say(f"Wrote {options.output} in {time.monotonic() - started:.0f} s.")
    return manifest


def run_graph(options: PipelineOptions, build: Callable[[beam.Pipeline], Any]) -> PipelineResult:
    """Run the graph that `build` adds to a pipeline on the engine that `options` name, and return its counters.

    Raises:
        UserError: the engine failed.
    """
    # Beam's own DirectRunner would first try to download another engine; this is what it falls back to.
    if options.view_as(StandardOptions).runner in (None, "DirectRunner"):
        options.view_as(StandardOptions).runner = "FnApiRunner"
    try:
        pipeline = beam.Pipeline(options=options)
        build(pipeline)
        result = pipeline.run()
        result.wait_until_finish()
        return result
    except Exception as error:  # An engine raises what its workers and its network raise.
        runner = options.view_as(StandardOptions).runner
        with tempfile.NamedTemporaryFile("w", prefix="preprocess-", suffix=".log", delete=False) as log:
            traceback.print_exc(file=log)
        raise UserError(f"the job failed on {runner}: {one_line(error)} (all of it is in {log.name}).") from None


@contextlib.contextmanager
def signs_of_life(say: Say) -> Iterator[None]:
    """Say every ten seconds that the job is still running, and how far it is."""
    progress.begin()
    started = time.monotonic()
    over = threading.Event()

    def beat() -> None:
        while not over.wait(SECONDS_BETWEEN_SIGNS):
            say(progress.NOW.line(time.monotonic() - started))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def main(arguments: list[str] | None = None) -> int:
    """Run the job from the command line; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--help" in arguments or "-h" in arguments:
        print(usage())
        return 0
    return exit_code(lambda _: _command(arguments))


def _command(arguments: list[str]) -> None:
    options, _ = parse_flags(arguments)
    json_file = Path(options.json) if options.json else None
    manifest = run(arguments, say=output.progress(options.quiet, json_file))
    output.write_result(json_file, {"data": options.output, **manifest.counts})


if __name__ == "__main__":
    sys.exit(main())
