"""``make bench-serving``: the embedded server under load and faults, beside the same calls without a server.

``python -m benchmarks.serving --bundle models/shop/1`` asks the bundle's own golden requests, prints one table with
the bars of the promises, and writes ``bench-results/serving.json``. The load generator runs on the same machine and
takes its share of it, as does whatever else runs: the load average is among the results.
"""

import argparse
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tfrs_shop  # noqa: F401  (before TensorFlow: it asks for Keras 2)
from benchmarks.serving_bundle import MODEL, Questions, in_process, questions
from benchmarks.serving_faults import interrupted_copies, machine, place_version, sigterm, summary_of_swaps, swaps
from benchmarks.serving_fuzz import deadline, fuzz, slow_clients
from benchmarks.serving_load import PROTOCOLS, run_load
from benchmarks.serving_process import ServerProcess
from benchmarks.serving_transport import transport_alone

SIGNATURES = ("serving_default", "recommend_for_history")
CONCURRENCY = (1, 8, 32)
BATCHING = (
    "max_batch_size {{ value: 32 }} batch_timeout_micros {{ value: 8000 }} num_batch_threads {{ value: {threads} }}"
)


def measure(bundle: Path, *, seconds: float, swap_count: int, copies: int, fuzzed: int) -> dict[str, Any]:
    """All measurements, in one run."""
    asked = [questions(bundle, signature) for signature in SIGNATURES]
    before = machine()
    direct = in_process(bundle, asked, clients=max(CONCURRENCY), seconds=seconds)
    transport = transport_alone(bundle, asked, clients=max(CONCURRENCY), seconds=seconds)
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as name:
        base = Path(name) / MODEL
        base.mkdir()
        place_version(bundle, base, 1)
        batching = Path(name) / "batching.config"
        batching.write_text(BATCHING.format(threads=os.cpu_count() or 1))
        # A batch thread for each core: threads within an operation would only take each other's core.
        flags = ["--enable_batching", f"--batching_parameters_file={batching}", "--tensorflow_intra_op_parallelism=1"]
        server = ServerProcess(base, *flags)
        ready = {"seconds": server.ready_seconds, "memory_mb": server.memory_mb()}
        try:
            served = {
                questions.signature: {protocol: _loads(server, questions, protocol, seconds) for protocol in PROTOCOLS}
                for questions in asked
            }
            strange = fuzz(server, asked, requests=fuzzed)
            slow = slow_clients(server, asked[0])
            swapped = swaps(server, base, bundle, asked[0], swaps=swap_count, clients=8)
            copied = interrupted_copies(server, base, bundle, asked[0], copies=copies, clients=2)
            terminated = sigterm(server, asked[0], clients=8)
        finally:
            server.kill()
    return {
        "bundle": str(bundle),
        "machine": {"before": before, "after": machine()},
        "ready": ready,
        "in_process": direct,
        "transport_alone": transport,
        "served": served,
        "fuzz": strange,
        "slow_clients": slow,
        "deadline": deadline(),
        "swaps": {**swapped, **summary_of_swaps(swapped)},
        "interrupted_copies": copied,
        "sigterm": terminated,
    }


def _loads(server: ServerProcess, asked: Questions, protocol: str, seconds: float) -> dict[str, Any]:
    return {
        str(clients): run_load(protocol, server.port(protocol), asked.over(protocol), clients, seconds).summary()
        for clients in CONCURRENCY
    }


def bars(results: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Each bar with what was measured, and whether it is kept."""
    for signature, direct in results["in_process"].items():
        for protocol, loads in results["served"][signature].items():
            share = loads["32"]["per_second"] / direct["batched"]["rows_per_second"]
            added = loads["1"]["p50_ms"] - direct["single"]["p50_ms"]
            where = f"{signature} {protocol}"
            yield f"{where}: at 32, at least 80% of in-process batched", f"{share:.0%}", share >= 0.8
            yield f"{where}: at 1, at most 2 ms added at the median", f"{added:.2f} ms", added <= 2.0
            failed = sum(load["failed"] for load in loads.values())
            yield f"{where}: no failed request", str(failed), failed == 0
    strange, (before, after) = results["fuzz"], results["fuzz"]["memory_mb"]
    name = f"{strange['requests']:,} fuzzed requests"
    yield f"{name}: no 5xx, no crash", str(strange["server_errors"]), strange["alive"] and not strange["server_errors"]
    yield f"{name}: memory flat", f"{after - before:+.0f} MB", after - before <= max(50.0, 0.05 * before)
    slow = results["slow_clients"]
    text = f"{slow['alone_ms']:.2f} ms alone, {slow['beside_slow_ms']:.2f} ms beside them"
    yield "slow clients do not slow the others", text, slow["beside_slow_ms"] <= 1.25 * slow["alone_ms"] + 0.5
    late = results["deadline"]
    text = f"{late['most_late_ms']:.0f} ms, median {late['median_late_ms']:.0f} ms"
    yield "a passed deadline answers 504 within 50 ms", text, late["statuses"] == [504] and late["most_late_ms"] <= 50
    swapped = results["swaps"]
    name = f"{swapped['swaps']} swaps"
    yield f"{name}: no failed or wrong answer", str(swapped["during"]["failed"]), swapped["during"]["failed"] == 0
    yield f"{name}: p99 at most 2 times the steady p99", f"{swapped['p99_ratio']:.2f}", swapped["p99_ratio"] <= 2.0
    first = swapped["first_ratio"]
    yield f"{name}: first request at most 1.5 times the median", f"{first:.2f}", first <= 1.5
    grown, percent = swapped["memory_growth_mb"], swapped["memory_growth_percent"]
    text = f"{grown:+.0f} MB, {percent:+.0f}%"
    yield f"{name}: memory from swap 2 on at most +10% or +100 MB", text, grown <= 100 or percent <= 10
    copied = results["interrupted_copies"]
    bad = len(copied["served"]) + copied["failed_or_bad"]
    yield f"{copied['copies']} interrupted copies: none served, no bad answer", str(bad), bad == 0
    ended = results["sigterm"]
    for protocol in PROTOCOLS:
        lost = ended[protocol]["failed"]
        yield f"SIGTERM under load: no {protocol} request lost", str(lost), lost == 0
    text = f"{ended['exit_code']} after {ended['seconds_to_exit']:.1f} s"
    yield "SIGTERM under load: exit 0", text, ended["exit_code"] == 0


def table(results: dict[str, Any]) -> str:
    """The measurements and the bars as text."""
    ready = results["ready"]
    lines = [
        f"ready {ready['seconds']:.0f} s after the start, with {ready['memory_mb']:,.0f} MB",
        f"{'':<44} {'clients':>7} {'rows/s':>8} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}",
    ]

    def line(name: str, clients: str, row: dict[str, float], rate: float) -> str:
        return f"{name:<44} {clients:>7} {rate:>8.0f} {row['p50_ms']:>8.2f} {row['p95_ms']:>8.2f} {row['p99_ms']:>8.2f}"

    for signature, direct in results["in_process"].items():
        lines.append(line(f"{signature} in process", "-", direct["single"], direct["single"]["per_second"]))
        for together in (direct["batched"], direct["more"]):
            name = f"{signature} in process, {together['calls']}"
            lines.append(line(name, "-", together, together["rows_per_second"]))
        for protocol, loads in results["served"][signature].items():
            alone = results["transport_alone"][signature][protocol]
            name = f"{signature} {protocol}, nothing read, {alone['calls']}"
            lines.append(line(name, str(max(CONCURRENCY)), alone, alone["per_second"]))
            for clients, load in loads.items():
                lines.append(line(f"{signature} {protocol}", clients, load, load["per_second"]))
    swapped = results["swaps"]
    for name in ("steady", "during"):
        row = swapped[name]
        lines.append(line(f"swaps: {name}", str(swapped["clients"]), row, row["per_second"]))
    lines.append("")
    for name, measured, kept in bars(results):
        lines.append(f"{'kept  ' if kept else 'MISSED'} {name}: {measured}")
    load = results["machine"]["before"]["load_average"][0], results["machine"]["after"]["load_average"][0]
    lines.append(
        f"{results['machine']['before']['cores']} cores; load average before {load[0]:.1f}, after {load[1]:.1f}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the embedded server under load and faults.")
    parser.add_argument("--bundle", type=Path, required=True, help="an exported version, such as models/shop/1")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (default: 5)")
    parser.add_argument("--swaps", type=int, default=20, help="versions that take over (default: 20)")
    parser.add_argument("--copies", type=int, default=200, help="interrupted copies (default: 200)")
    parser.add_argument("--fuzz", type=int, default=10_000, help="broken requests (default: 10,000)")
    parser.add_argument("--json", type=Path, default=Path("bench-results/serving.json"))
    given = parser.parse_args()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    results = measure(
        given.bundle, seconds=given.seconds, swap_count=given.swaps, copies=given.copies, fuzzed=given.fuzz
    )
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
