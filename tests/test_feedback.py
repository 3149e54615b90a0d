"""The request-log job: what users did and what they were shown, out of the embedded server's own log."""

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.testing.util import assert_that, equal_to
from preprocess_support import preprocess, records, write_jsonl
from tensorflow_serving.apis import prediction_log_pb2

from pipelines.request_log import history_id, longest, main, run
from tfrs_shop.errors import UserError

VIEWED = (("A", "view"), ("B", "view"))
CARTED = (*VIEWED, ("B", "cart"))


def predict_log(signature: str, inputs: dict[str, Any], answer: dict[str, Any]) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.name = "shop"
    log.predict_log.request.model_spec.signature_name = signature
    for name, value in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    for name, value in answer.items():
        log.predict_log.response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return log.SerializeToString()


def shown(*rows: list[str]) -> dict[str, Any]:
    return {"product_id": list(rows), "score": [[0.5, 0.25][: len(row)] for row in rows], "title": list(rows)}


def history(products: list[list[str]], kinds: list[list[str]]) -> dict[str, Any]:
    return {"history_product_id": products, "history_event_type": kinds}


FIRST = [
    predict_log("", {"user_id": ["U1"]}, shown(["A", "B"])),
    # Two rows; what is padded, and an answer's empty place, are nothing.
    predict_log(
        "recommend_for_history",
        history([["", "A", "B"], ["C", "", ""]], [["", "view", "view"], ["view", "", ""]]),
        shown(["C", ""], ["A", "B"]),
    ),
    b"\xff\xff\xff",
    prediction_log_pb2.PredictionLog(classify_log=prediction_log_pb2.ClassifyLog()).SerializeToString(),
    predict_log("user_profile", {"user_id": ["U1"]}, {"profile": [[1.0]]}),
    predict_log("recommend", {"user_id": ["U1"]}, {"product_id": [["A", "B"]], "score": [[0.5]]}),
    predict_log("recommend_for_history", {"history_product_id": [["A"]]}, shown(["A"])),
    predict_log("recommend", {"user_id": "U1"}, shown(["A"])),
]
SECOND = [predict_log("recommend_for_history", history([["A", "B", "B"]], [["view", "view", "cart"]]), shown(["C"]))]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("logs")
    for name, found in (("1.tfrecord", FIRST), ("2.tfrecord", SECOND), ("3.tfrecord", SECOND)):
        with tf.io.TFRecordWriter(str(directory / name)) as writer:
            for record in found:
                writer.write(record)
    whole = (directory / "3.tfrecord").read_bytes()
    (directory / "3.tfrecord").write_bytes(whole + whole[:-5])
    return directory


@pytest.fixture(scope="module")
def feedback(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    output = tmp_path_factory.mktemp("feedback") / "out"
    counts = run(["--request_log", f"{logs}/*.tfrecord", "--output", str(output)], lambda line: None)
    return output, counts


def rows(output: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / name).read_text(encoding="utf-8").split("\n") if line]


def test_what_a_history_says_becomes_events_and_only_the_longest_counts(feedback) -> None:
    events = {
        (row["user_id"], row["position"], row["product_id"], row["event_type"])
        for row in rows(feedback[0], "events.jsonl")
    }
    assert events == {
        (history_id((("C", "view"),)), 0, "C", "view"),
        (history_id(CARTED), 0, "A", "view"),
        (history_id(CARTED), 1, "B", "view"),
        (history_id(CARTED), 2, "B", "cart"),
    }


def test_histories_that_part_are_all_kept_and_equal_ones_once() -> None:
    other = (*VIEWED, ("D", "view"))
    wanted = [
        {"user_id": history_id(history), "product_id": product, "event_type": kind, "position": position}
        for history in (CARTED, other)
        for position, (product, kind) in enumerate(history)
    ]
    with beam.Pipeline("FnApiRunner") as pipeline:
        found = longest(pipeline | beam.Create([VIEWED, other, CARTED, CARTED, VIEWED]))
        assert_that(found, equal_to(wanted))


def test_what_was_answered_are_impressions_in_their_places_and_no_events(feedback) -> None:
    found = [
        (
            Path(row["file"]).name,
            row["record"],
            row["row"],
            row["signature"],
            row["user_id"],
            row["place"],
            row["product_id"],
        )
        for row in rows(feedback[0], "impressions.jsonl")
    ]
    assert sorted(found) == [
        ("1.tfrecord", 1, 0, "serving_default", "U1", 1, "A"),
        ("1.tfrecord", 1, 0, "serving_default", "U1", 2, "B"),
        ("1.tfrecord", 2, 0, "recommend_for_history", history_id(VIEWED), 1, "C"),
        ("1.tfrecord", 2, 1, "recommend_for_history", history_id((("C", "view"),)), 1, "A"),
        ("1.tfrecord", 2, 1, "recommend_for_history", history_id((("C", "view"),)), 2, "B"),
        ("2.tfrecord", 1, 0, "recommend_for_history", history_id(CARTED), 1, "C"),
        ("3.tfrecord", 1, 0, "recommend_for_history", history_id(CARTED), 1, "C"),
    ]


def test_what_cannot_be_used_is_named_with_file_record_and_reason(feedback) -> None:
    found = [(Path(row["file"]).name, row["record"], row["reason"]) for row in rows(feedback[0], "rejected.jsonl")]
    first = sorted(found)[:6]
    assert first == [
        ("1.tfrecord", 3, "is no PredictionLog"),
        ("1.tfrecord", 4, "is a classify_log, not a predict_log"),
        ("1.tfrecord", 5, "its answer names no products"),
        ("1.tfrecord", 6, "its answer has different numbers of products and scores"),
        ("1.tfrecord", 7, "is odd ('history_event_type')"),
        ("1.tfrecord", 8, "is odd (iteration over a 0-d array)"),
    ]
    assert sorted(found)[6][:2] == ("3.tfrecord", 2)
    assert len(found) == 7


def test_the_counts_say_how_much_there_was(feedback) -> None:
    output, counts = feedback
    assert counts == {
        "events": 4,
        "impressions": 7,
        "rejected": 7,
        "recommend_for_history": 3,
        "serving_default": 1,
    }
    assert json.loads((output / "counts.json").read_text()) == counts


def test_preprocess_takes_the_events(feedback, tmp_path) -> None:
    products = write_jsonl(tmp_path / "p.jsonl", [{"product_id": name, "title": name} for name in "ABC"])
    manifest, _ = preprocess(tmp_path / "data", "--events", feedback[0] / "events.jsonl", "--products", products)
    assert manifest.counts["by_table"]["events"]["kept"] == 4
    users = {row["user_id"]: row["history_product_id"] for row in records(tmp_path / "data", "users")}
    assert users == {history_id(CARTED): ["A", "B", "B"], history_id((("C", "view"),)): ["C"]}


def test_nothing_that_can_be_used_is_an_error_and_writes_nothing(tmp_path) -> None:
    (tmp_path / "a.tfrecord").write_bytes(b"no records at all")
    with pytest.raises(UserError, match=r"a\.tfrecord: record 1 .*, and no other can be used"):
        run(["--request_log", str(tmp_path / "a.tfrecord"), "--output", str(tmp_path / "out")], lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tfrecord"]


def test_an_output_that_cannot_be_written_and_an_engine_that_fails_are_one_sentence(logs, tmp_path, capsys) -> None:
    (tmp_path / "file").touch()
    log = ["--request_log", f"{logs}/1.tfrecord", "--output"]
    assert main([*log, f"{tmp_path}/file/out"]) == 2
    assert main([*log, f"{tmp_path}/out", "--runner", "Nothing"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"Error: --output {tmp_path}/file/out: cannot be written (File exists)")
    assert second.startswith("Error: the job failed on Nothing: ")


def test_missing_flags_and_files_are_one_sentence(tmp_path, capsys) -> None:
    assert main(["--output", str(tmp_path / "out")]) == 2
    assert main(["--request_log", f"{tmp_path}/none.tfrecord", "--output", str(tmp_path / "out")]) == 2
    log = ["--request_log", f"{tmp_path}/none.tfrecord", "--output"]
    assert main([*log, str(tmp_path / "out"), "--shard", "2"]) == 2
    assert main([*log, "gs://bucket/out"]) == 2
    assert capsys.readouterr().err.split("\n") == [
        "Error: --request_log and --output are needed: the log's files, and the directory to write.",
        f"Error: --request_log {tmp_path}/none.tfrecord: no such file; check the path.",
        "Error: unknown flag --shard. See --help.",
        "Error: --output gs://bucket/out: is not on this machine; give a local directory.",
        "",
    ]
