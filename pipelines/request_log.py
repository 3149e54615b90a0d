"""The request-log job: what the embedded server logged becomes what users did, and what they were shown.

    python -m pipelines.request_log --request_log 'logs/shop/*.tfrecord' --output feedback
    tfrs-shop preprocess --events feedback/events.jsonl --products catalogue.jsonl --output data

A record is a ``PredictionLog`` of a request and its answer. Read honestly, it says two things:

- ``events.jsonl``: a request with a history says what somebody did, in order. As it names no user, each history is a
  user of its own, under a hash of it. A client asks again after every click: of histories that a longer one goes on
  with, only the longest counts.
- ``impressions.jsonl``: the products that were answered, in their places, and to whom (a user id, or that hash). To be
  shown something is no behaviour, so these are for analysis, and no events.

What cannot be used goes to ``rejected.jsonl`` with file, record and reason.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import TaggedOutput

from pipelines.command import exit_code
from pipelines.directory import is_local
from pipelines.files import match_names, one_line
from pipelines.options import FlagParser, engine_options
from pipelines.plan import Say
from pipelines.preprocess import run_graph
from pipelines.write import WriteJson
from tfrs_shop.errors import UserError
from tfrs_shop.whole_directory import whole_directory, writable

DEFAULT_SIGNATURE = "serving_default"
COUNTS = "counts.json"
FILES = ("events.jsonl", "impressions.jsonl", "rejected.jsonl", COUNTS)

History = tuple[tuple[str, str], ...]


class ReadLogs(beam.DoFn):
    """Yields the history of each request of a file; tags: ``impressions``, ``rejected``, ``tallies``."""

    def process(self, path: str) -> Iterator[Any]:
        """Read one file."""
        number = 0
        try:
            for number, record in enumerate(_records(path), 1):
                try:
                    request, answer = _predict_log(record)
                except (ValueError, KeyError, TypeError, IndexError) as error:
                    reason = str(error) if isinstance(error, ValueError) else f"is odd ({one_line(error)})"
                    yield TaggedOutput("rejected", {"file": path, "record": number, "reason": reason})
                    continue
                yield TaggedOutput("tallies", (("requests", request["signature"]), 1))
                for shown, user in enumerate(request["users"]):
                    yield from _impressions(path, number, request["signature"], user, answer, shown)
                yield from filter(None, request["histories"])
        except (ValueError, OSError) as error:
            yield TaggedOutput("rejected", {"file": path, "record": number + 1, "reason": one_line(error)})


def _records(path: str) -> Iterator[bytes]:
    """Yield the records of a TFRecord file.

    Raises:
        ValueError: it is cut off or damaged; what came before has been yielded.
    """
    from apache_beam.io.tfrecordio import _TFRecordUtil

    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        while (record := _TFRecordUtil.read_record(stream)) is not None:
            yield record


def _predict_log(record: bytes) -> tuple[dict[str, Any], dict[str, list[list[Any]]]]:
    """Return what a record says of its request, and the columns of its answer.

    Raises:
        ValueError: it is no log of a predict request with an answer of products.
    """
    import numpy as np
    import tensorflow as tf
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow_serving.apis import prediction_log_pb2

    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError:
        raise ValueError("is no PredictionLog") from None
    kind = log.WhichOneof("log_type")
    if kind != "predict_log":
        raise ValueError(f"is a {kind or 'record without content'}, not a predict_log")
    request, response = log.predict_log.request, log.predict_log.response
    try:
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        answer = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"holds a tensor that cannot be read ({one_line(error)})") from None
    if "product_id" not in answer:
        raise ValueError("its answer names no products")

    def text(values: Any) -> list[Any]:
        return [[_text(value) for value in row] for row in np.atleast_2d(values)]

    products = text(answer["product_id"])
    histories: list[History] = [() for _ in products]
    if "history_product_id" in inputs:
        pairs = zip(text(inputs["history_product_id"]), text(inputs["history_event_type"]), strict=True)
        histories = [tuple((p, t or "view") for p, t in zip(*pair, strict=True) if p) for pair in pairs]
    users = [_text(value) for value in inputs.get("user_id", ())] or [history_id(history) for history in histories]
    scores = np.atleast_2d(answer["score"]).tolist() if "score" in answer else [[None] * len(row) for row in products]
    if not len(users) == len(histories) == len(products) == len(scores):
        raise ValueError("its request and its answer have different numbers of rows")
    if any(len(row) != len(numbers) for row, numbers in zip(products, scores, strict=True)):
        raise ValueError("its answer has different numbers of products and scores")
    about = {
        "signature": request.model_spec.signature_name or DEFAULT_SIGNATURE,
        "users": users,
        "histories": histories,
    }
    return about, {"product_id": products, "score": scores}


def _text(value: Any) -> str:
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise ValueError("has an id that is not UTF-8") from None


def history_id(history: History) -> str:
    """Return the name of whoever has this history: a hash of it; "" for an empty one."""
    return [*_ids(history)][-1] if history else ""


def _ids(history: History) -> Iterator[str]:
    """Yield the name of each of the history's beginnings, the history itself last."""
    digest = hashlib.sha256()
    for event in history:
        digest.update(repr(event).encode())
        yield f"history-{digest.hexdigest()}"


def _impressions(
    path: str, number: int, signature: str, user: str, answer: dict[str, list[list[Any]]], row: int
) -> Iterator[Any]:
    pairs = zip(answer["product_id"][row], answer["score"][row], strict=True)
    for place, (product, score) in enumerate(pairs, 1):
        if product:
            yield TaggedOutput(
                "impressions",
                {
                    "file": path,
                    "record": number,
                    "row": row,
                    "signature": signature,
                    "user_id": user,
                    "product_id": product,
                    "place": place,
                    "score": score,
                },
            )


def longest(histories: Any) -> Any:
    """Return the events of each history that no other one goes on with, once."""
    return (
        histories
        | "Beginnings" >> beam.FlatMap(_beginnings).with_output_types(tuple[str, tuple[bool, Any]])
        | "Longest" >> beam.CombinePerKey(_least)
        | "Events" >> beam.FlatMap(_events)
    )


def _beginnings(history: History) -> Iterator[tuple[str, tuple[bool, History]]]:
    """Yield the history under its name, and that it goes on under the names of its beginnings."""
    *others, whole = _ids(history)
    yield whole, (True, history)
    yield from ((name, (False, ())) for name in others)


def _least(found: Iterable[tuple[bool, History]]) -> tuple[bool, History]:
    # "It goes on" is less than any history, and all histories of one name are equal.
    return min(found, default=(True, ()))


def _events(element: tuple[str, tuple[bool, History]]) -> Iterator[dict[str, Any]]:
    name, (ends, history) = element
    if ends:
        for position, (product, kind) in enumerate(history):
            yield {"user_id": name, "product_id": product, "event_type": kind, "position": position}


def build(pipeline: beam.Pipeline, files: list[str], output: str) -> None:
    """Add the job's transforms to `pipeline`."""
    read = (
        pipeline
        | "Files" >> beam.Create(files)
        | "Spread" >> beam.Reshuffle()
        | "ReadLogs" >> beam.ParDo(ReadLogs()).with_outputs("impressions", "rejected", "tallies", main="main")
    )
    events = longest(read.main)
    tallies = [read.tallies]
    for name, rows in (("events", events), ("impressions", read.impressions), ("rejected", read.rejected)):
        rows | f"Write_{name}" >> WriteJson(f"{output}/{name}.jsonl")
        tallies.append(rows | f"Count_{name}" >> beam.combiners.Count.Globally() | f"Named_{name}" >> _named(name))
    totals = tallies | "AllTallies" >> beam.Flatten() | "Totals" >> beam.CombinePerKey(sum)
    totals | "WriteCounts" >> WriteJson(f"{output}/{COUNTS}")


def _named(name: str) -> beam.PTransform:
    return beam.Map(lambda count: (("rows", name), count)).with_output_types(tuple[Any, Any])


def run(arguments: list[str], say: Say = print) -> dict[str, int]:
    """Run the job, and return its counts: ``events``, ``impressions``, ``rejected``, and requests by signature.

    Args:
        arguments: the job's own flags and any runner's.
        say: takes one line of progress.

    Raises:
        UserError: something given cannot be used, or no record can.
    """
    own, others = _parser().parse_known_args(arguments)
    options = engine_options(_parser(), arguments, others)
    if not own.request_log or not own.output:
        raise UserError("--request_log and --output are needed: the log's files, and the directory to write.")
    if not is_local(own.output):
        raise UserError(f"--output {own.output}: is not on this machine; give a local directory.")
    files = match_names("--request_log", own.request_log)
    say(f"Reading {len(files)} files: {', '.join(files[:3])}{' ...' if len(files) > 3 else ''}")
    with writable(own.output), whole_directory(Path(own.output), FILES) as staging:
        run_graph(options, lambda pipeline: build(pipeline, files, str(staging)))
        lines = (staging / COUNTS).read_text(encoding="utf-8").splitlines()
        counts = {name: count for (_, name), count in map(json.loads, lines)}
        (staging / COUNTS).write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        if counts["rejected"] and not counts["events"] and not counts["impressions"]:
            reason = json.loads((staging / "rejected.jsonl").read_text(encoding="utf-8").split("\n", 1)[0])
            raise UserError(
                f"{reason['file']}: record {reason['record']} {reason['reason']}, and no other can be used; "
                "give files of --request_log_dir."
            )
    for name in sorted(counts):
        say(f"{name}: {counts[name]:,}")
    return counts


def _parser() -> FlagParser:
    parser = FlagParser(
        prog="python -m pipelines.request_log",
        description="Turn request logs of the embedded server into events.jsonl (for preprocess) and impressions.jsonl."
        " Flags of any Beam runner are taken too.",
        allow_abbrev=False,
    )
    parser.add_argument("--request_log", nargs="+", default=[], metavar="FILE", help="Log files (.tfrecord), globs.")
    parser.add_argument("--output", default="", metavar="DIR", help="The directory to write.")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the job from the command line; return the exit code."""
    return exit_code(lambda say: run(sys.argv[1:] if arguments is None else arguments, say=say))


if __name__ == "__main__":
    sys.exit(main())
