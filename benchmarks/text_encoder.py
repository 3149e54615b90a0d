"""Speed of the offline text encoder: ``python -m benchmarks.text_encoder``."""

import time

from tfrs_shop.sources.simulator import simulate_shop
from tfrs_shop.text import encode_texts


def main() -> None:
    import gzip
    import json
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        simulate_shop(Path(folder) / "shop", users=200, products=1500)
        with gzip.open(Path(folder) / "shop" / "products.jsonl.gz", "rt") as lines:
            texts = sorted({json.loads(line)["title"] for line in lines})
    encode_texts(texts[:64], sequence_length=32)
    started = time.monotonic()
    encode_texts(texts, sequence_length=32)
    seconds = time.monotonic() - started
    print(f"encode_texts: {len(texts)} distinct titles in {seconds:.1f} s, {len(texts) / seconds:.0f} a second")


if __name__ == "__main__":
    main()
