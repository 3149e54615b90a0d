"""A training that is killed again and again, beside one that is not: ``python -m benchmarks.resume DATA``.

Both train the same settings on the data directory DATA. One is ended by SIGKILL at drawn steps and started again with
the same command. Printed, and written to ``bench-results/resume.json``: the validation metrics of each epoch of both,
and how many steps each kill lost, which must be at most the steps between two checkpoints.
"""

import argparse
import json
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.beauty import CLI, RESULTS

SEED, LOG_EVERY = 17, 10
PROGRESS = re.compile(r"epoch (\d+)/\d+, step (\d+)/(\d+)")


def killed_after(command: list[str], step: int) -> int | None:
    """Run `command` until its progress says that `step` steps are done, and kill it.

    Returns:
        The steps that it said it had done, or None where it came to its end first.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        found = PROGRESS.search(line)
        if found is None:
            continue
        epoch, place, steps = map(int, found.groups())
        done = (epoch - 1) * steps + place
        if done >= step:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return done
    if process.wait():
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    return None


def checkpointed(run: Path) -> int:
    """Return the steps that the last checkpoint of `run` has behind it, asked in a process of its own."""
    code = f"from pathlib import Path; from tfrs_shop.training import steps_done; print(steps_done(Path({str(run)!r})))"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(asked.stdout.split()[-1])


def history(run: Path) -> list[dict[str, float]]:
    """Return the validation metrics of each epoch of `run`."""
    return [json.loads(line)["metrics"] for line in (run / "history.jsonl").read_text().splitlines()]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure what killing a training costs.")
    parser.add_argument("data", type=Path, help="a data directory")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--checkpoint_every", type=int, default=50)
    given = parser.parse_args(arguments)
    work = RESULTS / "resume"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    training = {"epochs": given.epochs, "log_every": LOG_EVERY, "checkpoint_every": given.checkpoint_every}
    (work / "config.yaml").write_text(yaml.safe_dump({"training": training}))

    def command(run: Path) -> list[str]:
        settings = ["--config", str(work / "config.yaml")]
        return [sys.executable, "-m", CLI, "train", "--data", str(given.data), "--output", str(run), *settings]

    whole, broken = work / "whole", work / "broken"
    first = subprocess.run(command(whole), check=True, capture_output=True, text=True).stdout
    steps = [int(found[3]) for line in first.splitlines() if (found := PROGRESS.search(line))]
    total = steps[-1] * given.epochs
    kills = []
    for step in sorted(random.Random(SEED).sample(range(LOG_EVERY, total), given.kills)):
        done = killed_after(command(broken), step)
        if done is None:
            break
        kept = checkpointed(broken)
        kills.append({"done": done, "kept": kept, "lost": done - kept})
        print(f"killed at step {done:,} of {total:,}: {kept:,} kept, {done - kept} lost", flush=True)
    if killed_after(command(broken), total + 1) is not None:
        raise AssertionError("a training went beyond its last step")
    names = ("recall@10", "ndcg@10")
    result = {
        "steps": total,
        "checkpoint_every": given.checkpoint_every,
        "kills": kills,
        "whole": [{name: metrics[name] for name in names} for metrics in history(whole)],
        "broken": [{name: metrics[name] for name in names} for metrics in history(broken)],
    }
    (RESULTS / "resume.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
