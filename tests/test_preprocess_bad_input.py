"""What cannot be used ends the job with one sentence and exit code 2, and leaves what was there as it was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from preprocess_support import preprocess, rejected, write_csv, write_jsonl

from pipelines import graph
from pipelines.preprocess import main
from tfrs_shop.errors import UserError
from tfrs_shop.manifest import load_manifest

ROOT = Path(__file__).resolve().parent.parent
GOOD = [
    {"user_id": f"U{number % 3}", "product_id": f"P{number % 4}", "event_type": "view", "position": number}
    for number in range(40)
]
PRODUCTS = [{"product_id": f"P{number}", "title": f"Mug {number}"} for number in range(4)]


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with good files, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "events.csv", GOOD)
    write_jsonl(tmp_path / "products.jsonl", PRODUCTS)
    return tmp_path


@pytest.fixture
def refusal(shop, capsys):
    """Return a function that runs the command line, and returns the one sentence with which it ends."""

    def run(*flags, output="data"):
        before = sorted(path.name for path in shop.iterdir())
        code = main(["--text_encoder=none", *map(str, flags), *(["--output", output] if output else [])])
        error = capsys.readouterr().err
        assert code == 2, error
        assert error.startswith("Error: ")
        assert error.count("\n") == 1
        left = sorted(path.name for path in shop.iterdir())
        assert [name for name in left if name not in before and name != "data.rejected.jsonl"] == []
        return error.removeprefix("Error: ").rstrip("\n")

    return run


# --- files and columns ---


def test_a_missing_file(refusal):
    assert refusal("--events", "evnets.csv") == "--events evnets.csv: no such file; check the path."


def test_a_missing_column_names_column_and_file_and_what_there_is(shop, refusal):
    write_csv(shop / "e.csv", [{"user": "A", "product_id": "P", "event_type": "view", "position": 1}])
    assert refusal("--events", "e.csv") == (
        "./e.csv: has no column user_id, which --events needs; it has user, product_id, event_type, position. "
        "Name the columns with --mapping (see docs/mappings.md)."
    )


def test_one_file_of_several_that_lacks_a_column(shop, refusal):
    write_csv(shop / "events-2.csv", [{"user_id": "A", "event_type": "view", "position": 1, "sku": 3}])
    write_csv(shop / "e.csv", [{"user_id": "A"}])
    assert refusal("--events", "events.csv", "e.csv").startswith(
        "./e.csv: has neither a timestamp nor a position column"
    )
    assert refusal("--events", "events.csv", "e.csv", "--order_by", "position").startswith(
        "./e.csv: has no column event_type,"
    )


def test_events_given_as_products(refusal):
    assert refusal("--products", "events.csv", "--events", "products.jsonl").startswith(
        "./products.jsonl: has neither a timestamp nor a position column, so events have no order; it has product_id, "
    )


def test_products_with_other_columns(shop, refusal):
    write_csv(shop / "p.csv", [{"sku": "P1", "name": "Mug"}])
    assert refusal("--events", "events.csv", "--products", "p.csv") == (
        "./p.csv: has no column product_id, which --products needs; it has sku, name. "
        "Name the columns with --mapping (see docs/mappings.md)."
    )


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.jsonl"])
def test_an_empty_file(shop, refusal, name):
    (shop / name).write_bytes(
        b"" if name != "e.csv.gz" else b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00" + b"\0" * 8
    )
    assert refusal("--events", name) == f"./{name}: is empty; it needs at least a row."


def test_a_file_with_a_header_and_no_rows(shop, refusal):
    (shop / "e.csv").write_text("user_id,product_id,event_type,position\n")
    assert (
        refusal("--events", "e.csv", "--products", "products.jsonl") == "./e.csv: no rows; give a file that has some."
    )


def test_a_gzip_file_that_is_cut_off_in_the_middle(shop, refusal):
    path = write_csv(shop / "e.csv.gz", [{**row, "session_id": os.urandom(8).hex()} for row in GOOD * 300])
    path.write_bytes(path.read_bytes()[:-50_000])
    assert refusal("--events", "e.csv.gz", "--products", "products.jsonl") == (
        "./e.csv.gz: is cut off or not gzip (Compressed file ended before the end-of-stream marker was reached); "
        "get the file again."
    )


def test_an_unknown_format_and_a_json_array_that_is_cut_off(shop, refusal):
    (shop / "e.xlsx").write_text("x")
    assert refusal("--events", "e.xlsx").startswith("./e.xlsx: unknown format; known endings: .csv")
    (shop / "e.json").write_text('[{"user_id": "A"}, {"user')
    assert refusal("--events", "e.json").startswith("./e.json: is no whole JSON array: after element 1: Unterminated")


# --- rows ---


def test_too_many_bad_rows_stop_the_job_and_are_kept_beside_the_output(shop, refusal):
    manifest, _ = preprocess(shop / "data", "--events", "events.csv")
    bad = [{**GOOD[0], "position": "first"}] * 3
    write_csv(shop / "e.csv", [*GOOD, *bad])
    assert refusal("--events", "e.csv") == (
        "./e.csv: 3 of 43 rows are bad (7.0%, --max_bad_rows allows 5.0%), most often 'position not a number'; "
        "mend what data.rejected.jsonl lists, or allow more."
    )
    assert rejected(shop / "data.rejected.jsonl") == [
        ("events", row, "position", "not a number: 'first'") for row in (42, 43, 44)
    ]
    assert load_manifest(shop / "data") == manifest  # as it was
    preprocess(shop / "data", "--events", "e.csv", "--max_bad_rows", 0.08)


def test_all_rows_bad(shop, refusal):
    write_csv(shop / "e.csv", [{**row, "user_id": ""} for row in GOOD])
    assert refusal("--events", "e.csv").startswith("./e.csv: 40 of 40 rows are bad (100.0%, ")
    (shop / "p.jsonl").write_text("{\n{\n")
    assert refusal("--products", "p.jsonl").startswith("./p.jsonl: has no column product_id")


def test_a_catalogue_of_another_shop(shop, refusal):
    write_jsonl(shop / "p.jsonl", [{"product_id": "other"}])
    assert refusal("--events", "events.csv", "--products", "p.jsonl").startswith(
        "./events.csv: 40 of 40 rows are bad (100.0%, --max_bad_rows allows 5.0%), most often 'product_id unknown "
    )


def test_a_mapping_that_skips_every_row(shop, refusal):
    (shop / "m.yaml").write_text("events: {skip: {user_id: 'U.*'}}")
    assert refusal("--events", "events.csv", "--products", "products.jsonl", "--mapping", "m.yaml") == (
        "./events.csv: no row is left; the mapping skips 40 of them."
    )


@pytest.mark.parametrize("name", ["e.csv", "p.jsonl", "u.csv"])
def test_bytes_that_are_not_utf_8_cost_their_row_alone(shop, name):
    files = {"e.csv": "events.csv", "p.jsonl": "products.jsonl"}
    write_csv(shop / "users.csv", [{"user_id": f"U{number}", "city": "Oslo"} for number in range(30)])
    content = (shop / files.get(name, "users.csv")).read_bytes()
    bad = {
        "e.csv": b"U\xff,P1,view,1\n",
        "p.jsonl": b'{"product_id": "P9", "title": "half \\ud83d"}\n',
        "u.csv": b"U99,\xe5bo\n",
    }
    (shop / name).write_bytes(content + bad[name])
    given = {"events": "events.csv", "products": "products.jsonl", "users": "users.csv"}
    table = {"e": "events", "p": "products", "u": "users"}[name[0]]
    flags = [part for key, file in {**given, table: name}.items() for part in (f"--{key}", file)]
    manifest, _ = preprocess(shop / "data", *flags, "--max_bad_rows", 0.3)
    assert manifest.counts["by_table"][table]["rejected"] == 1
    ((found, _, _, reason),) = rejected(shop / "data")
    assert (found, reason.split(":")[0]) == (table, "bad UTF-8")


# --- flags ---


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--evnets", "e.csv"], "unknown flag --evnets. Did you mean '--events'?"),
        (["--event", "e.csv"], "unknown flag --event. Did you mean '--events'?"),
        (["--frobnicate", "3"], "unknown flag --frobnicate. See --help."),
        (["--direct_num_worker=2"], "unknown flag --direct_num_worker. Did you mean '--direct_num_workers'?"),
        (["e.csv"], "unexpected argument 'e.csv'; every file needs its flag (--events, --products, --users)."),
        (["--shards", "x"], "--shards: invalid int value: 'x'; see --help."),
        (["--split", "random"], "--split: invalid choice: 'random' (choose from 'leave_one_out', 'time'); see --help."),
        (["--max_bad_rows", "5"], "--max_bad_rows 5.0: must be a share from 0 to 1."),
        (["--max_history", "0"], "--max_history 0: must be at least 1."),
        (
            ["--validation_share=0.5", "--test_share=0.5"],
            "--validation_share and --test_share leave nothing for training",
        ),
        (["--test_from", "2024"], "--validation_from and --test_from go together; give both or neither."),
        (["--split=time"], "--split time needs a timestamp in every event; these events have only a position."),
        (["--mapping", "rees47"], "--mapping rees47: no such file, and no mapping of that name ships"),
        (["--text_encoder", "x"], "--text_encoder with a handle needs its --text_preprocessor too."),
        (["--users", "none.csv"], "--users none.csv: no such file; check the path."),
    ],
)
def test_a_wrong_flag(refusal, flags, message):
    given = [] if "e.csv" in flags[:1] else ["--events", "events.csv"]
    assert refusal(*given, *flags).startswith(message)


def test_flags_that_are_missing(refusal):
    assert refusal("--events", "events.csv", output="") == "--output is missing: give the data directory to write."
    assert refusal() == "--events and --products are both missing: give at least one of them."
    assert refusal("--users", "u.csv", "--products", "p.csv").startswith(
        "--users without --events: profiles are of use"
    )


def test_times_that_are_none_or_in_the_wrong_order(shop, refusal):
    write_csv(shop / "e.csv", [{**row, "timestamp": row["position"]} for row in GOOD])
    flags = ["--events", "e.csv", "--split", "time", "--test_from", "2024-01-01", "--validation_from"]
    assert refusal(*flags, "soon") == (
        "--validation_from soon: is not a time; write it like 2024-05-31 or 2024-05-31T12:00Z."
    )
    assert refusal(*flags, "2025-01-01") == "--validation_from must not be after --test_from."


def test_a_mapping_whose_column_no_file_has_is_noted(shop):
    (shop / "m.yaml").write_text("events: {columns: {price: positon}}")
    _, said = preprocess(shop / "data", "--events", "events.csv", "--mapping", "m.yaml")
    assert "Note: no file of --events has the mapping's column positon (price). Did you mean 'position'?" in said


# --- output ---


def test_an_output_that_holds_other_files_is_left_alone(shop, refusal):
    (shop / "mine").mkdir()
    (shop / "mine" / "thesis.txt").write_text("years of work")
    message = refusal("--events", "events.csv", output="mine")
    assert message.endswith("mine holds other files (thesis.txt); give a new or empty directory.")
    assert (shop / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_output_that_holds_the_input_or_cannot_be_written(shop, refusal):
    (shop / "train").mkdir()
    write_csv(shop / "train" / "products", GOOD).rename(shop / "train" / "e.csv")
    assert refusal("--events", "train/e.csv", output="train") == (
        "--output train: holds the input file train/e.csv; give another directory."
    )
    assert refusal("--events", "events.csv", output="events.csv").endswith(
        "events.csv is a file; give a directory to write into."
    )
    assert refusal("--events", "events.csv", output="events.csv/data").startswith(
        "--output events.csv/data: cannot be written ("
    )


def test_a_job_that_fails_on_its_engine_ends_in_one_sentence_with_its_log(refusal, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of luck\nwith details")

    monkeypatch.setattr(graph, "finished_product", broken)
    message = refusal("--events", "events.csv")
    assert message.startswith("the job failed on FnApiRunner: out of luck")
    log = Path(message.split("(all of it is in ")[1].removesuffix(")."))
    assert "Traceback" in log.read_text()
    log.unlink()


def test_a_job_that_is_killed_leaves_nothing_that_looks_whole_and_runs_again(shop):
    write_csv(shop / "many.csv", [{**row, "position": place} for place, row in enumerate(GOOD * 3000)])
    command = [sys.executable, "-m", "pipelines.preprocess", "--events", "many.csv", "--output", "data"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    job = subprocess.Popen([*command, "--text_encoder", "none"], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(shop.glob(".data.partial-*/rejected")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    job.send_signal(signal.SIGKILL)
    assert job.wait() == -signal.SIGKILL
    assert not (shop / "data").exists()
    (partial,) = shop.glob(".data.partial-*")
    with pytest.raises(UserError, match=r"has no dataset\.json, so it is no finished data directory"):
        load_manifest(partial)
    preprocess(shop / "data", "--events", "events.csv")
