"""Search against BM25: ``python -m benchmarks.search`` (docs/search.md has the figures).

Everything is built from the raw files with the defaults of the command line, and BM25 over all text is measured in the
same run, on the same queries. Parts: ``esci`` (amazon_esci, graded by people, nothing is trained on), ``simulator``
(held-out queries of a simulated shop, trained on its searches), ``unseen_simulator`` (the same of a shop on which
nothing was chosen), ``known_items`` (amazon_beauty: queries made from titles), ``latency`` (100,000 products, one query
at a time), ``weak`` (amazon_esci: the tower of weak queries at each of its weights, with and without the encoder).
"""

import argparse
import csv
import dataclasses
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bm25 import Bm25
from benchmarks.steps import run_step
from tfrs_shop.search_evaluation import SearchIndex, measures, read_judgments, read_queries

PARTS = ("esci", "simulator", "unseen_simulator", "known_items", "latency", "weak")
DATA = Path(__file__).parents[2] / "shared" / "data"
KEYS = ("ndcg@10", "ndcg@10_judged_pool", "recall@100", "mrr")
FIELDS = ("title", "brand", "category", "description", "bullet_points", "color")
SEED, KNOWN_ITEMS, LATENCY_PRODUCTS = 20240229, 500, 100_000


def build(folder: Path, products: Path, *more: str) -> Path:
    """Return the bundle of a catalogue, made with the defaults; one that is there already is taken."""
    bundle = folder / "shop" / "1"
    if not bundle.exists():
        if not (folder / "data").exists():
            run_step("tfrs_shop.cli", "preprocess", "--products", str(products), "--output", f"{folder}/data", *more)
        if not (folder / "run" / "run.json").exists():
            run_step("tfrs_shop.cli", "train", "--data", f"{folder}/data", "--output", f"{folder}/run")
        run_step("tfrs_shop.cli", "export", "--run", f"{folder}/run", "--output", f"{folder}/shop")
    return bundle


def texts_of(products: Path) -> tuple[list[str], list[str]]:
    """Return the ids and all the text of the products of a raw file."""
    with gzip.open(products, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    texts = []
    for row in rows:
        parts = [row.get(name) or "" for name in FIELDS]
        texts.append(" ".join(" ".join(part) if isinstance(part, list) else part for part in parts))
    return [row["product_id"] for row in rows], texts


def graded(bundle: Path, products: Path, queries: Path, judgments: Path) -> dict[str, Any]:
    """Return what search, BM25 and the encoder alone reach on graded queries, and the paired test of the first two."""
    from tfrs_shop.metrics.uncertainty import paired_test

    asked, (grades, _) = read_queries(queries), read_judgments(judgments)
    names = [name for name in asked if name in grades]
    ids, texts = texts_of(products)
    bm25, index = Bm25(texts), SearchIndex(bundle)
    rankings = {
        "search": list(index.rankings([asked[name] for name in names])),
        "BM25 all text": [
            [ids[place] for place in np.argsort(-bm25.scores(asked[name]), kind="stable")] for name in names
        ],
        "encoder alone": encoder_rankings(bundle, [asked[name] for name in names]),
    }
    top = max(grade for of_query in grades.values() for grade in of_query.values())
    found = {
        method: [measures(ranked, grades[name], top) for name, ranked in zip(names, of_method, strict=True)]
        for method, of_method in rankings.items()
    }
    result: dict[str, Any] = {
        method: {key: round(float(np.mean([row[key] for row in rows if key in row])), 4) for key in KEYS}
        for method, rows in found.items()
    }
    first, second = (np.array([row["ndcg@10"] for row in found[method]]) for method in ("search", "BM25 all text"))
    result["paired ndcg@10, search - BM25"] = paired_test(first, second)
    result["queries"] = len(names)
    return result


def encoder_rankings(bundle: Path, queries: list[str]) -> list[list[str]]:
    """Return all products in the order of the cosine of the encoder's vectors, without words and without training."""
    from tfrs_shop.bundle_source import data_directory
    from tfrs_shop.dataset import open_data
    from tfrs_shop.text import encode_texts

    catalogue = open_data(data_directory(bundle)).catalogue
    vectors = catalogue.text_vector[1:]
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    order = np.argsort(-encode_texts(queries, sequence_length=64) @ vectors.T, axis=1, kind="stable")
    ids = [value.decode() for value in catalogue.product_id[1:]]
    return [[ids[place] for place in row] for row in order]


def esci(work: Path, data: Path) -> dict[str, Any]:
    raw = data / "amazon_esci"
    bundle = build(work / "esci", raw / "products.jsonl.gz")
    return graded(bundle, raw / "products.jsonl.gz", raw / "queries.csv.gz", raw / "judgments.csv.gz")


def simulator(work: Path, data: Path) -> dict[str, Any]:
    return simulated(work / "simulator", seed=7)


def unseen_simulator(work: Path, data: Path) -> dict[str, Any]:
    return simulated(work / "unseen_simulator", seed=8)


def simulated(work: Path, seed: int) -> dict[str, Any]:
    """Measure on the simulated shop of a seed; 7 is the one that weights were chosen on."""
    raw = work / "raw"
    if not raw.exists():
        run_step("tfrs_shop.cli", "data", "simulate", "--seed", str(seed), "--output", str(raw))
    more = ["--events", f"{raw}/events.csv.gz", "--users", f"{raw}/users.csv.gz"]
    bundle = build(work, raw / "products.jsonl.gz", *more)
    result = graded(bundle, raw / "products.jsonl.gz", raw / "queries.csv.gz", raw / "judgments.csv.gz")
    print(json.dumps(result, indent=2), flush=True)
    result["personal"] = personal(bundle, work / "data")
    return result


def personal(bundle: Path, directory: Path) -> dict[str, Any]:
    """Return the MRR of what held-out users took right after a search, with and without their history.

    The answers are as long as the bundle's k; what is not among them counts 0. What history counts was chosen on shop 7
    with both splits in sight: ``unseen_simulator`` is the test of it.
    """
    import tensorflow as tf

    from tfrs_shop.dataset import open_data, read_records
    from tfrs_shop.metrics.uncertainty import paired_test

    index = SearchIndex(bundle)
    signatures = index.signatures
    data = open_data(directory)
    plain, own, tested = [], [], []
    for split in ("validation", "test"):
        for batch in read_records(directory, data.manifest, split).as_numpy_iterator():
            found = (batch[f"history_{name}"] for name in ("query", "product_id", "event_type"))
            columns = [value.to_list() if hasattr(value, "to_list") else list(value) for value in found]
            for queries, products, kinds, target in zip(*columns, batch["target_product_id"], strict=True):
                if len(queries) == 0 or not queries[-1] or products[-1]:
                    continue
                past = [(product, kind) for product, kind in zip(products, kinds, strict=True) if product]
                if not past:
                    continue
                query = {"query": tf.constant([queries[-1]])}
                history = {
                    "history_product_id": tf.constant([[product for product, _ in past]]),
                    "history_event_type": tf.constant([[kind for _, kind in past]]),
                }
                plain.append(_reciprocal(signatures["search"](**query), target))
                own.append(_reciprocal(signatures["search_for_history"](**query, **history), target))
                tested.append(split == "test")
    result: dict[str, Any] = {}
    for name, rows in (("all", np.ones(len(own), bool)), ("test", np.array(tested))):
        first, second = np.array(own)[rows], np.array(plain)[rows]
        result[name] = {"events": len(first), "mrr with history": first.mean(), "mrr without": second.mean()}
        result[name]["paired"] = paired_test(first, second)
    return result


def _reciprocal(answer: dict[str, Any], target: bytes) -> float:
    places = np.flatnonzero(answer["product_id"].numpy()[0] == target)
    return 1.0 / (places[0] + 1) if len(places) else 0.0


def known_items(work: Path, data: Path) -> dict[str, Any]:
    """Return MRR on queries made of titles: a part of the words, in another order, and one of them misspelt."""
    products = data / "amazon_beauty" / "products.jsonl.gz"
    bundle = build(work / "beauty", products)
    with gzip.open(products, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    queries = known_item_queries([(row["product_id"], row["title"]) for row in rows], KNOWN_ITEMS)
    ids, texts = texts_of(products)
    bm25, index = Bm25(texts), SearchIndex(bundle)
    searched = list(index.rankings([query for _, query in queries]))
    encoded = encoder_rankings(bundle, [query for _, query in queries])
    scored = [np.argsort(-bm25.scores(query), kind="stable") for _, query in queries]
    ranks = {
        "search": [ranked.index(product) for (product, _), ranked in zip(queries, searched, strict=True)],
        "BM25 all text": [
            [ids[place] for place in order].index(product) for (product, _), order in zip(queries, scored, strict=True)
        ],
        "encoder alone": [ranked.index(product) for (product, _), ranked in zip(queries, encoded, strict=True)],
    }
    result: dict[str, Any] = {
        name: {"mrr": round(float(np.mean(1.0 / (np.array(found) + 1))), 4)} for name, found in ranks.items()
    }
    result["examples"] = [query for _, query in queries[:5]]
    return result


def known_item_queries(titles: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """Return ``(product id, query)``: two to five of a title's words, shuffled; in one of the longer a slip.

    A slip drops, doubles or swaps a letter that is not the first. The same for a seed.
    """
    random = np.random.default_rng(SEED)
    queries: list[tuple[str, str]] = []
    for place in random.permutation(len(titles)):
        product, title = titles[int(place)]
        words = [word.strip(",.()[]&;:").lower() for word in title.split()]
        words = [word for word in dict.fromkeys(words) if any(char.isalnum() for char in word)]
        if len(words) < 4:
            continue
        chosen = list(random.choice(words, size=int(random.integers(2, 6)) if len(words) > 5 else 3, replace=False))
        longer = [number for number, word in enumerate(chosen) if len(word) > 4 and word.isalpha()]
        if longer:
            number = int(random.choice(longer))
            word, at = chosen[number], int(random.integers(1, len(chosen[number]) - 1))
            slips = (word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:])
            swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
            chosen[number] = (*slips, swapped)[int(random.integers(3))]
        queries.append((product, " ".join(chosen)))
        if len(queries) == count:
            break
    return queries


def latency(work: Path, data: Path) -> dict[str, Any]:
    """Return the milliseconds of one query, BERT included, on amazon_esci repeated to 100,000 products."""
    import tensorflow as tf

    from tfrs_shop.dataset import open_data
    from tfrs_shop.served.text_search import TextSearch, text_encoder

    bundle = build(work / "esci", data / "amazon_esci" / "products.jsonl.gz")
    opened = open_data(bundle / "assets.extra" / "source" / "data")
    catalogue, lexicon = opened.catalogue, opened.lexicon
    assert lexicon is not None
    size = catalogue.size
    times = -(-LATENCY_PRODUCTS // size)
    # Each product as often as it takes; a word's postings grow in the same way as the catalogue.
    terms = np.repeat(np.arange(len(lexicon.idf)), np.diff(lexicon.starts))
    repeated = np.concatenate([lexicon.products + size * number for number in range(times)]).astype(np.int32)
    kept = repeated <= LATENCY_PRODUCTS
    order = np.argsort(np.tile(terms, times)[kept], kind="stable")
    lengths = np.bincount(np.tile(terms, times)[kept], minlength=len(lexicon.idf))
    large = dataclasses.replace(
        lexicon,
        products=repeated[kept][order],
        weights=np.tile(lexicon.weights, times)[kept][order],
        starts=np.concatenate([[0], np.cumsum(lengths)]),
    )

    def tiled(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows[:1], np.concatenate([rows[1:]] * times)[:LATENCY_PRODUCTS]])

    vectors = tiled(catalogue.text_vector)
    wide = dataclasses.replace(catalogue, product_id=tiled(catalogue.product_id), text_vector=vectors)
    text = TextSearch(dataclasses.replace(opened, catalogue=wide), large, text_encoder(opened), None)
    allowed = tf.ones([1, LATENCY_PRODUCTS + 1], tf.bool)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def search(query: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return text.best(query, text.terms(query), allowed, 20)

    with gzip.open(data / "amazon_esci" / "queries.csv.gz", "rt", encoding="utf-8") as stream:
        queries = [row["query"] for row in csv.DictReader(stream)]
    for query in queries[:10]:
        search(tf.constant([query]))
    taken, of_processor = [], []
    for query in queries:
        started, worked = time.perf_counter(), time.process_time()
        search(tf.constant([query]))[1].numpy()
        taken.append(1000 * (time.perf_counter() - started))
        of_processor.append(1000 * (time.process_time() - worked))
    result: dict[str, Any] = {"products": LATENCY_PRODUCTS, "queries": len(queries)}
    # Where the machine has other work, the second is what can be compared.
    for name, values in (("milliseconds", taken), ("milliseconds of all cores", of_processor)):
        result[name] = {f"p{share}": round(float(np.percentile(values, share)), 1) for share in (50, 90, 99)}
    return result


def weak(work: Path, data: Path) -> dict[str, Any]:
    """Return the NDCG@10 on amazon_esci with a tower that has learnt from weak queries, at each weight it may have."""
    import tensorflow as tf

    from tfrs_shop.config import Config
    from tfrs_shop.dataset import open_data
    from tfrs_shop.metrics.uncertainty import paired_test
    from tfrs_shop.model.search_tower import SearchWeights
    from tfrs_shop.search_training import WEAK_WEIGHTS, weak_tower
    from tfrs_shop.served.text_search import TextSearch, text_encoder

    raw, folder = data / "amazon_esci", work / "esci" / "data"
    if not folder.exists():
        run_step("tfrs_shop.cli", "preprocess", "--products", f"{raw}/products.jsonl.gz", "--output", str(folder))
    opened = open_data(folder)
    lexicon, ids = opened.lexicon, [value.decode() for value in opened.catalogue.product_id]
    assert lexicon is not None
    started = time.process_time()
    tower, _ = weak_tower(opened, lexicon, Config().search.steps, Config().training.seed)
    assert tower is not None
    result: dict[str, Any] = {"processor seconds of training": round(time.process_time() - started)}
    asked, (grades, _) = read_queries(raw / "queries.csv.gz"), read_judgments(raw / "judgments.csv.gz")
    names, known = [name for name in asked if name in grades], set(ids)
    judged = [{product: grade for product, grade in grades[name].items() if product in known} for name in names]
    queries = tf.constant([asked[name].encode() for name in names])
    everything = (tf.range(opened.catalogue.size + 1) > 0)[None]
    for label, encoder in (("with the encoder", text_encoder(opened)), ("without", None)):
        text = TextSearch(opened, lexicon, encoder, SearchWeights(lexicon.terms, tower.arrays(), 0.0))
        terms = text.terms(queries)
        reached: dict[float, np.ndarray] = {}
        for weight in WEAK_WEIGHTS:
            text.tower_weight = weight
            ranked = text.best(queries, terms, everything, 100)[1].numpy()
            rows = zip(ranked, judged, strict=True)
            reached[weight] = np.array([measures([ids[p] for p in row if p], of, 3.0)["ndcg@10"] for row, of in rows])
            result[f"ndcg@10 {label}, weight {weight:g}"] = {
                "mean": round(float(reached[weight].mean()), 4),
                "p_value": paired_test(reached[weight], reached[0.0])["p_value"] if weight else None,
            }
    return result


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, choices=[*PARTS, []])
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the real data sets")
    parser.add_argument("--work", type=Path, default=Path("bench-results/search"))
    given = parser.parse_args(arguments)
    steps = {
        "esci": esci,
        "simulator": simulator,
        "unseen_simulator": unseen_simulator,
        "known_items": known_items,
        "latency": latency,
        "weak": weak,
    }
    for name in given.parts:
        result = steps[name](given.work, given.data)
        given.work.mkdir(parents=True, exist_ok=True)
        (given.work / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"\n{name}")
        for key, value in result.items():
            print(f"  {key}: {json.dumps(value)}")


if __name__ == "__main__":
    main()
