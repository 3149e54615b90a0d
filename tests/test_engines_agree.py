"""All engines write what the direct engine writes, byte for byte where order does not matter."""

import collections
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import engines
from pipelines.engines import engine, engine_options, missing

ROOT = Path(__file__).resolve().parent.parent
ENGINES_DIR = ROOT / ".engines"


def write_shop(folder):
    """Write the events of 60 users on 40 products, with bad rows of each kind, and some equal times."""
    products = [
        {
            "product_id": f"P{number}",
            "title": f"Ünïque &amp; fine Item {number}",
            "description": f"<p>Text of item {number}</p> good for {'tea' if number % 3 else 'coffee'}",
            "category": f"Home > {'Kitchen' if number % 2 else 'Garden'}",
            "brand": f"Brand {number % 7}" if number % 5 else None,
            "price": round(1.1 * number + 0.33, 2),
            "rating_mean": 1 + number % 5,
            "rating_count": number,
        }
        for number in range(40)
    ]
    lines = [json.dumps(product, ensure_ascii=False) for product in products]
    lines += [lines[3], '{"title": "no id"}', '{"product_id": "P40", "title": "half a letter \\ud83d"}', "{broken"]
    (folder / "products.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    header = "user_id,product_id,event_type,timestamp,session_id,rating,query,quantity,price"
    rows = []
    for user in range(60):
        for step in range(3 + user % 13):
            product = (user * 7 + step * step) % 40
            time = 1_700_000_000 + user * 50 + (step // 2) * 86_400  # pairs of events share their time
            kind = ("view", "cart", "purchase", "rating", "gift")[(user + step) % 5]
            rating = str(1 + step % 5) if kind == "rating" else ""
            rows.append(
                f"U{user},P{product},{kind},{time},S{user}-{step // 4},{rating},,{step % 3 + 1},{0.1 * product:.2f}"
            )
        if user % 6 == 0:
            rows.append(f"U{user},,search,1700000{user:03d},S{user}-0,,Grüner  Tee {user % 4},,")
    bad = [
        ",P1,view,1700000000,,,,,",
        "U1,P1,view,yesterday,,,,,",
        "U1,P999,view,1700000000,,,,,",
        "U1,P1,rating,1700000000,,five,,,",
        "U1,P1,view",
        "U\udcff,P1,view,1700000000,,,,,",
    ]
    for place, row in enumerate(bad):
        rows.insert(place * 50, row)
    users = [f"U{user},{('Oslo', 'Åbo', '')[user % 3]},{20 + user % 40}" for user in range(50)]
    (folder / "users.csv").write_text("\n".join(["user_id,city,age", *users, users[7]]) + "\n", encoding="utf-8")
    half = len(rows) // 2
    for file, part in (("events-1.csv", rows[:half]), ("events-2.csv", rows[half:])):
        # "surrogateescape" makes the byte 0xff, which is not UTF-8, of "\udcff".
        (folder / file).write_bytes("\n".join([header, *part, ""]).encode("utf-8", "surrogateescape"))


# Two jobs that take between them all ways through the graph: a catalogue of its own, or one read out of the events;
# leave-one-out, or by time with cuts as a side input; without and with profiles.
JOBS = {
    "by_user": ["--products", "products.jsonl"],
    "by_time": ["--users", "users.csv", "--split", "time"],
}


def preprocess(shop, job, output, flags):
    """Run a job from its command line in a process of its own, as people do, and return what it wrote."""
    choices = ["--output", str(output), "--text_encoder", "none", "--max_bad_rows", "0.2", "--shards", "2"]
    command = [sys.executable, "-m", "pipelines.preprocess", "--events", "events-*.csv", *JOBS[job], *choices, *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=shop, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return contents(output)


def tf_records(folder):
    """Count the records of all files of a folder. A TFRecord is: length, its checksum, the bytes, their checksum."""
    found = collections.Counter()
    for file in folder.glob("*.tfrecord"):
        content, place = file.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            found[content[place + 12 : place + 12 + length]] += 1
            place += length + 16
    return found


def contents(output):
    """Return all of a data directory that must not depend on the engine: everything but who wrote which shard."""
    manifest = json.loads((output / "dataset.json").read_text(encoding="utf-8"))
    shards = manifest.pop("files")
    found = {"manifest": manifest, "file names": {f: [entry["name"] for entry in shards[f]] for f in shards}}
    for folder in ("products", "users", "train", "validation", "test"):
        found[folder] = tf_records(output / folder)
    for folder in ("rejected", "vocabularies"):
        for file in sorted((output / folder).iterdir()):
            lines = file.read_text(encoding="utf-8").splitlines()
            # A vocabulary is ranked; rejected rows have no order.
            found[f"{folder}/{file.name}"] = lines if folder == "vocabularies" else collections.Counter(lines)
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    return folder


@pytest.fixture(scope="module")
def reference(shop):
    return {job: preprocess(shop, job, shop / f"direct-{job}", engine_options("direct")) for job in JOBS}


@pytest.mark.slow
def test_the_direct_engine_counts_what_was_put_in(reference):
    by_user = reference["by_user"]
    counts = by_user["manifest"]["counts"]
    assert counts["products"] == by_user["products"].total() == 40
    assert counts["users"] == by_user["users"].total() == 60
    # 6 events; a repeated, a nameless, a half-lettered and a broken product
    assert counts["rows_rejected"] == 10
    for found in reference.values():
        for split in ("train", "validation", "test"):
            assert found["manifest"]["counts"]["examples"][split] == found[split].total() > 0
        rejected = [lines for name, lines in found.items() if name.startswith("rejected/")]
        assert sum(lines.total() for lines in rejected) == found["manifest"]["counts"]["rows_rejected"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in engines.ENGINES if name != "direct"])
def test_every_engine_writes_what_the_direct_engine_writes(name, shop, reference):
    lack = missing(name, ENGINES_DIR)
    if lack:
        pytest.skip(f"not compared on {name}: {lack}")
    with engine(name, ENGINES_DIR) as flags:
        for job, expected in reference.items():
            found = preprocess(shop, job, shop / f"{name}-{job}", flags)
            assert found.keys() == expected.keys()
            for part, right in expected.items():
                assert found[part] == right, f"{part} of {job} differs on {name}"
