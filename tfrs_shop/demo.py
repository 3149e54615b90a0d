"""The demo: every step from raw events to a page in the browser, each as the command that a person would type."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tfrs_shop.client import ShopClient, request_body
from tfrs_shop.errors import UserError, suggest

Say = Callable[[str], None]
SOURCES = ("simulated", "movielens")
# A busy machine takes a minute or two to answer the warm-up requests.
READY_SECONDS = 300


def demo(source: str, work: Path, say: Say) -> None:
    """Get data, preprocess, train, evaluate, export, serve, and ask; say each command before it runs.

    In a terminal the server then stays until Ctrl-C, for the storefront page.

    Args:
        source: ``simulated`` or ``movielens``.
        work: a directory for what the steps write; one that an earlier demo left there is replaced.
        say: takes one line.

    Raises:
        UserError: a step failed, or `work` holds something else.
    """
    if source not in SOURCES:
        raise UserError(f"--data {source}: is none of {', '.join(SOURCES)}.{suggest(source, SOURCES)}")
    _fresh(work)
    started = time.monotonic()
    raw, data, run, models = work / "raw", work / "data", work / "run", work / "models"
    users = ["--users", str(raw / "users.csv.gz")] if source == "simulated" else []
    steps = {
        "Get raw events and a catalogue": [
            "data",
            "simulate" if source == "simulated" else source,
            "--output",
            str(raw),
        ],
        "Preprocess them with Apache Beam": [
            *("preprocess", "--events", str(raw / "events.csv.gz"), "--products", str(raw / "products.jsonl.gz")),
            *(*users, "--output", str(data)),
        ],
        "Train the two towers": ["train", "--data", str(data), "--output", str(run), "--config", _config(work)],
        "Evaluate: every product ranked for every user": ["evaluate", "--run", str(run), "--split", "test"],
        "Export one SavedModel with its index": ["export", "--run", str(run), "--output", str(models / "shop")],
    }
    for number, (title, arguments) in enumerate(steps.items(), 1):
        say(f"\n[{number}/{len(steps) + 1}] {title}, {time.monotonic() - started:.0f} s so far")
        say(f"$ tfrs-shop {' '.join(arguments)}")
        if subprocess.run([sys.executable, "-m", "tfrs_shop.cli", *arguments], check=False).returncode:
            raise UserError(f"the step above failed; what it wrote is in {work}.")
    port = _free_port()
    flags = [
        "--model_name=shop",
        f"--model_base_path={(models / 'shop').absolute()}",
        f"--rest_api_port={port}",
        "--port=0",
        "--storefront",
    ]
    say(f"\n[{len(steps) + 1}/{len(steps) + 1}] Serve it, {time.monotonic() - started:.0f} s so far")
    say(f"$ python -m serving.model_server {' '.join(flags)}")
    with _server(flags) as process:
        client = ShopClient(f"http://127.0.0.1:{port}")
        client.wait_until_ready(READY_SECONDS)
        user, titles = _some_user(data)
        say(f"\nUser {user} last saw: {'; '.join(titles)}")
        body = request_body("serving_default", {"user_id": [user]})
        say(f"\nRequest:\n$ curl -d '{json.dumps(body)}' {client.url}{client.path}:predict")
        answer = client.predict(body)["outputs"]
        say("\nAnswer: product_id, score, title")
        for row in list(zip(answer["product_id"][0], answer["score"][0], answer["title"][0], strict=True))[:10]:
            say(f"  {row[0]:12}  {row[1]:7.4f}  {row[2]}")
        say(f"\nDone in {time.monotonic() - started:.0f} s. The storefront is at {client.url}/storefront/")
        if sys.stdin.isatty():
            _show(f"{client.url}/storefront/", process, say)
    say("\nTo serve it again, with the storefront at http://127.0.0.1:8501/storefront/ :")
    say(f"$ tfrs-shop serve {' '.join(flags[:2])} --rest_api_port=8501 --port=8500 --storefront")


def _show(address: str, process: "subprocess.Popen[bytes]", say: Say) -> None:
    """Open the page where there is a screen, and wait for Ctrl-C or the server's end."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)
    say("The server stays until Ctrl-C.")
    try:
        process.wait()
    except KeyboardInterrupt:
        say("\nStopping the server.")


def _fresh(work: Path) -> None:
    marker = work / ".tfrs_shop_demo"
    if work.exists():
        if not work.is_dir() or (any(work.iterdir()) and not marker.exists()):
            raise UserError(f"--work {work}: is not empty and not of an earlier demo; give another directory.")
        shutil.rmtree(work)
    work.mkdir(parents=True)
    marker.touch()


def _config(work: Path) -> str:
    """Write the settings of a model that is trained in a minute or two."""
    path = work / "demo.yaml"
    path.write_text("towers:\n  width: 64\n  dropout: 0.3\ntraining:\n  epochs: 15\n  batch_size: 64\n")
    return str(path)


def _some_user(data: Path) -> tuple[str, list[str]]:
    """Return a user's id and the titles of the last three products of the history."""
    from tfrs_shop.dataset import open_data

    opened = open_data(data)
    users = opened.users()
    titles = dict(zip(opened.catalogue.product_id.tolist(), opened.catalogue.title.tolist(), strict=True))
    seen = [titles[product].decode() for product in users["history_product_id"][0] if product in titles and product]
    return users["user_id"][0].decode(), seen[:-4:-1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _server(flags: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-m", "serving.model_server", *flags])
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
