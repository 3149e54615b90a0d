"""What may not harm anybody: versions that swap, a SIGTERM, and copies that were cut off, all under load."""

import os
import random
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.serving_bundle import MODEL, Questions
from benchmarks.serving_load import HOST, Check, Load
from benchmarks.serving_process import ServerProcess

COPIES_AT_ONCE = 20
# Copies files in a random order and kills itself, as the kernel would, after so many bytes.
_INTERRUPTED_COPY = """
import os, random, signal, sys
source, target, left, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
paths = sorted(os.path.join(top, name) for top, _, names in os.walk(source) for name in names)
random.Random(seed).shuffle(paths)
for path in paths:
    place = os.path.join(target, os.path.relpath(path, source))
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(path, "rb") as read, open(place, "wb", buffering=0) as write:
        data = read.read()
        write.write(data[:left])
    left -= len(data)
    if left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def place_version(bundle: Path, base: Path, version: int) -> None:
    """Copy the bundle as a version that is whole or absent."""
    staging = base / f".{version}.tmp"
    shutil.copytree(bundle, staging)
    staging.rename(base / str(version))


def swaps(server: ServerProcess, base: Path, bundle: Path, asked: Questions, *, swaps: int, clients: int) -> Any:
    """Versions that take over from one another under load, the old one removed afterwards."""
    good = _known_answers(server, asked)
    steady = Load("REST", server.rest_port, asked.rest, clients, good)
    steady.start()
    time.sleep(5.0)
    before = steady.stop()
    load = Load("REST", server.rest_port, asked.rest, clients, good)
    load.start()
    current = max(server.states())
    ready, memory = [], []
    for version in range(current + 1, current + 1 + swaps):
        place_version(bundle, base, version)
        while server.states().get(version, ("",))[0] != "AVAILABLE":
            time.sleep(0.02)
        ready.append(time.perf_counter())
        server.wait_for_end({version - 1})
        shutil.rmtree(base / str(version - 1))
        memory.append(server.memory_mb())
    during = load.stop()
    requests = sorted(zip(during.started, during.seconds, strict=True))
    first = [next((seconds for start, seconds in requests if start >= moment), None) for moment in ready]
    return {
        "swaps": swaps,
        "clients": clients,
        "steady": before.summary(),
        "during": during.summary(),
        "failures": during.failures,
        "first_after_swap_ms": [seconds * 1e3 for seconds in first if seconds is not None],
        "memory_mb": memory,
    }


def sigterm(server: ServerProcess, asked: Questions, *, clients: int) -> Any:
    """SIGTERM while clients of both protocols ask; the server is gone afterwards."""
    loads = {
        protocol: Load(protocol, server.port(protocol), asked.over(protocol), clients, check=bool)
        for protocol in ("REST", "gRPC")
    }
    for load in loads.values():
        load.start()
    time.sleep(2.0)
    start = time.perf_counter()
    code = server.terminate()
    seconds = time.perf_counter() - start
    outcomes = {protocol: load.stop() for protocol, load in loads.items()}
    return {
        "exit_code": code,
        "seconds_to_exit": seconds,
        "clients": clients,
        **{
            protocol: {"answered": len(outcome.seconds), "failed": outcome.failed, "failures": outcome.failures}
            for protocol, outcome in outcomes.items()
        },
    }


def interrupted_copies(
    server: ServerProcess, base: Path, bundle: Path, asked: Questions, *, copies: int, clients: int
) -> Any:
    """Copies of a version whose process was killed at random points; none may be loaded, and no answer may change."""
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    draw = random.Random(7)
    load = Load("REST", server.rest_port, asked.rest, clients, _known_answers(server, asked))
    load.start()
    served, refused, first = [], 0, max(server.states()) + 1
    for begin in range(first, first + copies, COPIES_AT_ONCE):
        versions = set(range(begin, min(begin + COPIES_AT_ONCE, first + copies)))
        for version in versions:
            command = [sys.executable, "-S", "-c", _INTERRUPTED_COPY, str(bundle), str(base / str(version))]
            subprocess.run([*command, str(draw.randrange(1, size)), str(version)], check=False, timeout=60)
        states = server.wait_for_end(versions)
        served += [version for version in versions if not states[version][1]]
        refused += sum(1 for version in versions if states[version][1])
        for version in versions:
            shutil.rmtree(base / str(version))
    outcome = load.stop()
    return {
        "copies": copies,
        "refused": refused,
        "served": served,
        "answered": len(outcome.seconds),
        "failed_or_bad": outcome.failed,
        "failures": outcome.failures,
    }


def _known_answers(server: ServerProcess, asked: Questions) -> Check:
    """Takes the products that the server answers now, and nothing else, for a good answer; scores may round."""
    known = set()
    for request in asked.rest:
        body = request.partition(b"\r\n\r\n")[2]
        url = f"http://{HOST}:{server.rest_port}/v1/models/{MODEL}:predict"
        with urllib.request.urlopen(url, data=body, timeout=60) as response:
            known.add(_products(response.read()))
    return lambda body: _products(body) in known


def _products(body: bytes) -> bytes:
    """The text of the recommended products in an answer."""
    start = body.index(b'"product_id"')
    return body[start : body.index(b"]", start)]


def summary_of_swaps(result: Any) -> dict[str, float]:
    """The figures that the bars are about."""
    steady, first, memory = result["steady"], result["first_after_swap_ms"], result["memory_mb"]
    return {
        "p99_ratio": result["during"]["p99_ms"] / steady["p99_ms"],
        "first_ratio": statistics.median(first) / steady["p50_ms"] if first else float("nan"),
        "memory_growth_mb": memory[-1] - memory[min(1, len(memory) - 1)],
        "memory_growth_percent": 100 * (memory[-1] / memory[min(1, len(memory) - 1)] - 1),
    }


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {"cores": os.cpu_count(), "load_average": os.getloadavg()}
