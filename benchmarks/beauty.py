"""The whole path on Amazon Beauty, by the commands of the README: ``python -m benchmarks.beauty [--config quality]``.

Needs the data set beside the checkout (``../shared/data/amazon_beauty``, or TFRS_SHOP_DATA). Writes what each step
took and reached into ``bench-results/beauty.json``, the baselines on the same split and evaluation among it.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("TFRS_SHOP_DATA", ROOT.parent / "shared" / "data"))
WORK = ROOT / "bench-results" / "beauty"


def step(name: str, *arguments: str) -> dict[str, float]:
    """Run ``tfrs-shop ARGUMENTS`` and return its seconds and the peak memory of any step so far, in GB."""
    print(f"\n$ tfrs-shop {' '.join(arguments)}", flush=True)
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "tfrs_shop.cli", *arguments], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    return {"seconds": round(time.monotonic() - started, 1), "peak_gb_so_far": round(peak, 2)}


def main(config: str = "") -> None:
    raw = SHARED / "amazon_beauty"
    if not raw.is_dir():
        print(f"beauty: left out, {raw} is not there")
        return
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    data, run, models = str(WORK / "data"), str(WORK / "run"), str(WORK / "models" / "shop")
    files = ["--events", str(raw / "events.csv.gz"), "--products", str(raw / "products.jsonl.gz")]
    result: dict[str, object] = {}
    result["preprocess"] = step("preprocess", "preprocess", *files, "--output", data)
    result["train"] = step("train", "train", "--data", data, "--output", run, *(["--config", config] if config else []))
    for protocol, exclude in (("all", []), ("exclude-seen", ["--exclude-seen"])):
        for part, alone in (("", []), (", model alone", ["--transition-weight", "0"])):
            path = str(WORK / "metrics.json")
            step("evaluate", "evaluate", "--run", run, "--split", "test", *exclude, *alone, "--json", path)
            result[protocol + part] = json.loads(Path(path).read_text())
    subprocess.run(
        [sys.executable, "-m", "benchmarks.baselines", data, "--json", str(WORK / "baselines.json")], check=True
    )
    result["baselines"] = json.loads((WORK / "baselines.json").read_text())
    result["export"] = step("export", "export", "--run", run, "--output", models, "--index", "scann")
    about = Path(models) / "1" / "assets.extra" / "bundle.json"
    result["index"] = json.loads(about.read_text())["index"]
    (WORK.parent / f"beauty{'-' + config if config else ''}.json").write_text(json.dumps(result, indent=2) + "\n")
    print("\n| step | seconds | |\n| --- | --- | --- |")
    for name in ("preprocess", "train", "export"):
        print(f"| {name} | {result[name]['seconds']:.0f} | |")  # type: ignore[index]
    for protocol in ("all", "exclude-seen", "all, model alone", "exclude-seen, model alone"):
        metrics = result[protocol]
        print(f"| evaluate, {protocol} | | Recall@10 {metrics['recall@10']:.4f}, NDCG@10 {metrics['ndcg@10']:.4f} |")  # type: ignore[index]
    print(f"| ScaNN against exact | | recall@10 {result['index']['recall@10']:.4f} |")  # type: ignore[index]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the whole path on Amazon Beauty.")
    parser.add_argument("--config", default="", help="settings of tfrs-shop train")
    main(parser.parse_args().config)
