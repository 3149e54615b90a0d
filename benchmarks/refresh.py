"""Speed of a catalogue refresh, and what a filter adds to a request.

    python -m benchmarks.refresh --bundle models/shop/1 --products 100000     # refresh alone, new titles all of them
    python -m benchmarks.refresh --bundle models/shop/1 --filters             # filtered beside unfiltered, in process

The new catalogue has made-up titles of about a dozen words; each text is new, so each is encoded.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import tfrs_shop  # noqa: F401  (before TensorFlow)

ADJECTIVES = [
    "soft",
    "warm",
    "light",
    "organic",
    "gentle",
    "daily",
    "matte",
    "vivid",
    "classic",
    "travel",
    "deep",
    "pure",
    "natural",
    "smooth",
    "bright",
    "fresh",
]
THINGS = [
    "shampoo",
    "cream",
    "serum",
    "lipstick",
    "brush",
    "towel",
    "mask",
    "lotion",
    "soap",
    "perfume",
    "balm",
    "cleanser",
    "powder",
    "mirror",
    "sponge",
    "razor",
]
USES = [
    "for dry skin",
    "for curly hair",
    "with aloe vera",
    "with shea butter",
    "for men",
    "for sensitive skin",
    "pack of three",
    "8 oz",
]


def catalogue(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return `count` products with different titles."""
    random = np.random.default_rng(seed)
    rows = []
    for place in range(count):
        words = [*random.choice(ADJECTIVES, 4, replace=False), *random.choice(THINGS, 2, replace=False)]
        title = f"{' '.join(words)} {' '.join(random.choice(USES, 2, replace=False))} no. {place}"
        rows.append({"product_id": f"N{place:07}", "title": title, "brand": "", "price": 5.0 + place % 90})
    return rows


def measure_refresh(bundle: Path, count: int) -> None:
    """Refresh `bundle` for a catalogue of new texts, then again for the same one, whose texts are all known."""
    from tfrs_shop.refresh import refresh

    with tempfile.TemporaryDirectory() as work:
        products = Path(work) / "products.jsonl"
        products.write_text("".join(json.dumps(row) + "\n" for row in catalogue(count)), encoding="utf-8")
        for what in ("all texts new", "all texts known"):
            started, cpu = time.monotonic(), time.process_time()
            bundle = refresh(bundle, ["--products", str(products)], Path(work) / "shop", print)
            seconds = time.monotonic() - started
            size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
            print(
                f"refresh, {what}: {count:,} products in {seconds:.0f} s ({count / seconds:.0f} a second; "
                f"{time.process_time() - cpu:.0f} s of CPU), bundle {size / 1e6:.0f} MB"
            )


def measure_filters(bundle: Path, seconds: float) -> None:
    """Time one request at a time, and 32 rows at once, of each kind, one after the other in turns."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  (registers the ops of a search)
    from scann.scann_ops.py import scann_ops  # noqa: F401  (registers the index's ops)

    loaded = tf.saved_model.load(str(bundle))
    users = (bundle / "assets" / "user_ids.txt").read_bytes().split(b"\n")[:32]
    nothing = {"exclude_product_id": b"", "category": b"", "price_min": -1.0, "price_max": -1.0}
    path = next(iter(_categories(bundle)))
    kinds: dict[str, dict[str, Any] | None] = {
        "recommend": None,
        "filtered, nothing asked": nothing,
        "filtered, price": {**nothing, "price_max": 20.0},
        f"filtered, category {path} (scans all)": {**nothing, "category": path.encode()},
    }
    times: dict[tuple[str, int], list[float]] = {(kind, batch): [] for kind in kinds for batch in (1, 32)}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for (kind, batch), taken in times.items():
            inputs: dict[str, Any] = {"user_id": tf.constant((users * 32)[:batch])}
            if (wish := kinds[kind]) is not None:
                inputs |= {
                    "exclude_product_id": tf.constant([[wish["exclude_product_id"]]] * batch),
                    "category": tf.constant([wish["category"]] * batch),
                    "price_min": tf.constant([wish["price_min"]] * batch),
                    "price_max": tf.constant([wish["price_max"]] * batch),
                    "exclude_seen": tf.constant([True] * batch),
                    "now": tf.constant([0] * batch, tf.int64),
                }
            name = "recommend" if wish is None else "recommend_filtered"
            started = time.perf_counter()
            loaded.signatures[name](**inputs)["score"].numpy()
            taken.append(time.perf_counter() - started)
    for (kind, batch), taken in times.items():
        print(f"{kind}, {batch} rows: median {1000 * float(np.median(taken[1:])):.2f} ms of {len(taken) - 1}")


def _categories(bundle: Path) -> list[str]:
    from tfrs_shop.bundle_source import data_directory

    lines = (data_directory(bundle) / "vocabularies" / "category.txt").read_text(encoding="utf-8").splitlines()
    # The rarest is last.
    return lines[::-1] or ["none"]


def main() -> None:
    """Run what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--products", type=int, default=0, help="refresh for so many new products")
    parser.add_argument("--filters", action="store_true", help="time filtered requests")
    parser.add_argument("--seconds", type=float, default=20.0)
    flags = parser.parse_args()
    if flags.products:
        measure_refresh(flags.bundle.resolve(), flags.products)
    if flags.filters:
        measure_filters(flags.bundle.resolve(), flags.seconds)


if __name__ == "__main__":
    main()
