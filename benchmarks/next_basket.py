"""What a shopper's next basket holds, on Online Retail: ``python -m benchmarks.next_basket``.

The last basket of each user with two or more is held out. Everything before it goes the way that a user goes, with
default settings: preprocess, train, export; then the bundle is asked ``recommend`` by user id. Beside it: what the user
bought most often (of equals the latest), the user's latest products, and what is popular, each filled up with what is
popular. Recall@10 is what was found, of at most ten. Needs the data set beside the checkout
(``../shared/data/online_retail``, or TFRS_SHOP_DATA). Writes ``bench-results/next_basket.json``.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.beauty import CLI, RESULTS, SHARED
from benchmarks.complements import Baskets, without_last_baskets
from benchmarks.steps import run_step
from tfrs_shop.metrics.uncertainty import paired_test

WORK = RESULTS / "next_basket"
TOP, BATCH = 10, 256


def peers(known: Baskets, users: Iterable[str]) -> dict[str, list[list[str]]]:
    """Return the ten products that each baseline answers for each of `users`."""
    own: dict[str, list[list[str]]] = {}
    for (user, _), basket in known.items():
        own.setdefault(user, []).append(basket)
    counts = Counter(product for basket in known.values() for product in basket)
    popular = [product for product, _ in counts.most_common(200)]
    answers: dict[str, list[list[str]]] = {"most frequent": [], "latest": [], "popular": []}
    for user in users:
        latest = list(dict.fromkeys(product for basket in reversed(own[user]) for product in basket))
        often = Counter(product for basket in own[user] for product in basket)
        # A stable sort: of equals the latest comes first.
        frequent = sorted(latest, key=lambda product: -often[product])
        for name, products in (("most frequent", frequent), ("latest", latest), ("popular", [])):
            answers[name].append(list(dict.fromkeys([*products, *popular]))[:TOP])
    return answers


def bundle_answers(bundle: Path, users: Sequence[str]) -> list[list[str]]:
    """Return the ten products that ``recommend`` of `bundle` answers for each of `users`."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  (registers the texts' ops)
    from scann.scann_ops.py import scann_ops  # noqa: F401  (registers the index's ops)

    recommend = tf.saved_model.load(str(bundle)).signatures["recommend"]
    found: list[list[str]] = []
    for first in range(0, len(users), BATCH):
        answer = recommend(user_id=tf.constant(list(users[first : first + BATCH])))["product_id"].numpy()
        found += [[value.decode() for value in row[:TOP]] for row in answer.tolist()]
    return found


def recalls(answers: list[list[str]], asked: Sequence[Sequence[str]]) -> np.ndarray:
    """Return Recall@10 of each answer."""
    pairs = zip(answers, asked, strict=True)
    return np.array([len(set(answer) & set(basket)) / min(TOP, len(basket)) for answer, basket in pairs])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure recommend on next baskets.")
    parser.add_argument("--config", default="", help="settings of tfrs-shop train")
    parser.add_argument("--index", default="scann", help="of the exported bundle")
    given = parser.parse_args(arguments)
    if not (SHARED / "online_retail").is_dir():
        print(f"next_basket: left out, {SHARED / 'online_retail'} is not there")
        return
    known, held_out, files = without_last_baskets(WORK)
    data, run, models = str(WORK / "data"), str(WORK / "run"), str(WORK / "models" / "shop")
    config = ["--config", given.config] if given.config else []
    took = {
        "preprocess": run_step(CLI, "preprocess", *files, "--output", data),
        "train": run_step(CLI, "train", "--data", data, "--output", run, *config),
        "export": run_step(CLI, "export", "--run", run, "--output", models, "--index", given.index),
    }
    users, asked = [user for user, _ in held_out], list(held_out.values())
    answers = {"recommend": bundle_answers(WORK / "models" / "shop" / "1", users), **peers(known, users)}
    found = {name: recalls(products, asked) for name, products in answers.items()}
    info = json.loads((WORK / "run" / "run.json").read_text())
    result = {
        "users": len(users),
        "took": took,
        "weights": {name: info[name] for name in ("transition_weight", "habit_weight", "bought_again")},
        "recall@10": {name: float(values.mean()) for name, values in found.items()},
        "hit@10": {name: float((values > 0).mean()) for name, values in found.items()},
        "test": paired_test(found["recommend"], found["most frequent"]),
    }
    (RESULTS / "next_basket.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
