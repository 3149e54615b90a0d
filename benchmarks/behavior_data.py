"""The data directories of ``benchmarks.behavior``: four sets, each split so that a test knows nothing of the training.

Taobao and the simulated shop are split by time. JD has one session a user, so users are split: their sessions are laid
on three days (JD publishes no dates), and the split by time then is one by user. Amazon Reviews 2023 is split leave one
out, as the ratings of a user are what is asked for.
"""

import csv
import datetime
import gzip
import os
import zlib
from pathlib import Path

from benchmarks.beauty import ROOT
from benchmarks.steps import run_step

SHARED = Path(os.environ.get("TFRS_SHOP_DATA", ROOT.parent / "shared" / "data"))
# JD's users by share: training, validation, test. There are few purchases, so the test is large.
JD_DAYS = ((0.5, "2020-01-01"), (0.6, "2020-02-01"), (1.0, "2020-03-01"))


def taobao(work: Path) -> Path:
    """Return the data directory of taobao_behavior, the last tenth of the events as test."""
    raw = SHARED / "taobao_behavior"
    return _preprocessed(work / "taobao", raw / "events.csv.gz", raw / "products.jsonl.gz", "--split", "time")


def simulated(work: Path) -> Path:
    """Return the data directory of a simulated shop of 2,000 users, the last tenth of the events as test."""
    raw = work / "simulated-raw"
    if not (raw / "events.csv.gz").exists():
        run_step("tfrs_shop.cli", "data", "simulate", "--output", str(raw))
    return _preprocessed(work / "simulated", raw / "events.csv.gz", raw / "products.jsonl.gz", "--split", "time")


def jd(work: Path) -> Path:
    """Return the data directory of jd_micro_behavior, split by user."""
    raw, events = SHARED / "jd_micro_behavior", work / "jd-events.csv"
    jd_events(raw / "events.csv.gz", events)
    cuts = ["--validation_from", JD_DAYS[1][1], "--test_from", JD_DAYS[2][1], "--max_history", "240"]
    return _preprocessed(work / "jd", events, raw / "products.jsonl.gz", "--split", "time", *cuts)


def reviews(work: Path) -> Path:
    """Return the data directory of amazon_reviews_2023, each user's last review as test."""
    raw = SHARED / "amazon_reviews_2023"
    return _preprocessed(work / "reviews", raw / "events.csv.gz", raw / "products.jsonl.gz")


def jd_events(source: Path, target: Path) -> None:
    """Write JD's events with a time and a session, each user's session on the day of the user's split."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(source, "rt", newline="") as lines, target.open("w", newline="") as written:
        writer = csv.writer(written)
        writer.writerow(("user_id", "product_id", "event_type", "position", "timestamp", "session_id"))
        for row in csv.DictReader(lines):
            share = zlib.crc32(row["user_id"].encode()) / 2**32
            day = next(day for end, day in JD_DAYS if share < end)
            elapsed = datetime.timedelta(seconds=float(row["elapsed_seconds"]))
            moment = datetime.datetime.fromisoformat(f"{day}T00:00:00+00:00") + elapsed
            names = (row[name] for name in ("user_id", "product_id", "event_type", "position"))
            writer.writerow((*names, moment.isoformat(), row["user_id"]))


def _preprocessed(output: Path, events: Path, products: Path, *options: str) -> Path:
    if not (output / "dataset.json").exists():
        files = ["--events", str(events), "--products", str(products), "--output", str(output)]
        run_step("tfrs_shop.cli", "preprocess", *files, "--text_encoder", "none", *options)
    return output
