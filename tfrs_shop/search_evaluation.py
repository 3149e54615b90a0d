"""Search evaluation: a bundle is asked graded queries, and its answers are held against the judgments.

Measures, averaged over the queries that have a relevant judgment: ``ndcg@10`` over the whole catalogue, gains
2^grade - 1, a product without a judgment counts 0; ``ndcg@10_judged_pool``, only the judged products in the order of
the answer; ``recall@100`` of the products with the highest grade there is; ``mrr`` of the first relevant product. A
judgment of a product that is not in the catalogue is left out: nothing could find it.
"""

import csv
import gzip
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from tfrs_shop.errors import UserError, suggest

Say = Callable[[str], None]
CUTOFF, RECALL_CUTOFF = 10, 100
BATCH = 16
Judgments = dict[str, dict[str, float]]


def evaluate_search(bundle: str | Path, queries: str | Path, judgments: str | Path, say: Say = print) -> dict[str, Any]:
    """Return the measures of `bundle`, and what was counted.

    Args:
        bundle: a version's directory.
        queries: rows of ``query_id`` and ``query``; CSV or JSON lines, ``.gz`` too.
        judgments: rows of ``query_id``, ``product_id`` and ``grade``, a number of 0 or more.
        say: takes one line of progress.

    Raises:
        UserError: a file or the bundle cannot be used.
    """
    texts = read_queries(queries)
    graded, repeated = read_judgments(judgments)
    without_query = sorted(set(graded) - set(texts))
    if without_query and not set(graded) & set(texts):
        raise UserError(
            f"{judgments}: none of its query ids is in {queries} (such as {without_query[0]!r}); give files that fit."
        )
    asked = [name for name in texts if name in graded]
    index = SearchIndex(bundle)
    say(f"Asking {len(asked):,} queries of {index.size:,} products.")
    result: dict[str, Any] = {"bundle": str(bundle)}
    rows: list[dict[str, float]] = []
    missing = 0
    left_out = 0
    top = max((grade for of_query in graded.values() for grade in of_query.values()), default=0.0)
    for name, ranked in zip(asked, index.rankings([texts[name] for name in asked]), strict=True):
        # No search of this catalogue could find the others.
        grades = {product: grade for product, grade in graded[name].items() if product in index.products}
        missing += len(graded[name]) - len(grades)
        if max(grades.values(), default=0.0) <= 0:
            left_out += 1
            continue
        rows.append(measures(ranked, grades, top))
    if not rows:
        raise UserError(
            f"{judgments}: no query has a product of the bundle with a grade above 0; nothing can be found."
        )
    for key in (f"ndcg@{CUTOFF}", f"ndcg@{CUTOFF}_judged_pool", f"recall@{RECALL_CUTOFF}", "mrr"):
        found = [row[key] for row in rows if key in row]
        result[key] = round(float(np.mean(found)), 6) if found else None
    result["counts"] = {
        "queries": len(texts),
        "queries_measured": len(rows),
        "queries_without_judgments": len(texts) - len(asked),
        "queries_without_relevant": left_out,
        "judgments": sum(len(of_query) for of_query in graded.values()),
        "judgments_repeated": repeated,
        "judgments_of_unknown_queries": sum(len(graded[name]) for name in without_query),
        "judged_products_not_in_catalogue": missing,
        "products": index.size,
    }
    result["top_grade"] = top
    return result


def measures(ranked: Sequence[str], grades: dict[str, float], top: float) -> dict[str, float]:
    """Return the measures of one query.

    Args:
        ranked: product ids, best first; as much of the catalogue as was answered, in which all judged ones are ranked
            that are in the catalogue.
        grades: product id to grade.
        top: the grade whose products recall asks for; a query without one has no recall.
    """
    pool = [product for product in ranked if product in grades]
    wanted = {product for product, grade in grades.items() if grade == top}
    first = next((place for place, product in enumerate(ranked, 1) if grades.get(product, 0.0) > 0), 0)
    found = {
        f"ndcg@{CUTOFF}": ndcg([grades.get(product, 0.0) for product in ranked], list(grades.values())),
        f"ndcg@{CUTOFF}_judged_pool": ndcg([grades[product] for product in pool], list(grades.values())),
        "mrr": 1.0 / first if first else 0.0,
    }
    if wanted:
        found[f"recall@{RECALL_CUTOFF}"] = len(wanted.intersection(ranked[:RECALL_CUTOFF])) / len(wanted)
    return found


def ndcg(ranked: Sequence[float], judged: Sequence[float], cutoff: int = CUTOFF) -> float:
    """Return the normalised discounted cumulative gain (Järvelin and Kekäläinen 2002) of grades, gains 2^grade - 1.

    Args:
        ranked: the grades of the answer, best place first.
        judged: the grades of all judged products; the best order of them is 1.
        cutoff: places that count.
    """
    best = _dcg(sorted(judged, reverse=True)[:cutoff])
    return _dcg(ranked[:cutoff]) / best if best else 0.0


def _dcg(grades: Sequence[float]) -> float:
    return sum((2.0**grade - 1.0) / math.log2(place + 2) for place, grade in enumerate(grades))


class SearchIndex:
    """The search of a bundle, asked for its whole ranking.

    Args:
        bundle: a version's directory.

    Raises:
        UserError: it is no bundle, or has no search.
    """

    def __init__(self, bundle: str | Path):
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  (registers the query's ops)
        from scann.scann_ops.py import scann_ops  # noqa: F401  (registers the index's ops)

        from tfrs_shop.inspection import check_files

        bundle = Path(bundle)
        if not (bundle / "saved_model.pb").is_file():
            raise UserError(f"--bundle {bundle}: is no bundle; give a version's directory, such as models/shop/1.")
        check_files(bundle)
        try:
            self._loaded = tf.saved_model.load(str(bundle))
        except (OSError, ValueError, tf.errors.OpError) as error:
            reason = str(error).split("\n", 1)[0]
            raise UserError(f"--bundle {bundle}: cannot be loaded ({reason}).") from None
        if not hasattr(self._loaded, "search_ranking"):
            raise UserError(f"--bundle {bundle}: has no search; preprocess, train and export again with this version.")
        self._rank, self.signatures = self._loaded.search_ranking, self._loaded.signatures
        self._ids = self._loaded.shop.product_ids.numpy()
        self.products = {value.decode("utf-8") for value in self._ids[1:]}
        self.size = len(self._ids) - 1

    def rankings(self, queries: Sequence[str]) -> Iterator[list[str]]:
        """Yield the ids of the catalogue's products for each query, best first."""
        import tensorflow as tf

        for start in range(0, len(queries), BATCH):
            batch = [query.encode("utf-8", "replace") for query in queries[start : start + BATCH]]
            for row in self._rank(tf.constant(batch)).numpy():
                yield [self._ids[place].decode("utf-8") for place in row if place > 0]


def read_queries(path: str | Path) -> dict[str, str]:
    """Return query id to text; of an id that comes twice the first text counts.

    Raises:
        UserError: the file or a row cannot be used.
    """
    found: dict[str, str] = {}
    for row in read_rows(path, ("query_id", "query")):
        found.setdefault(row["query_id"], row["query"])
    if not found:
        raise UserError(f"{path}: has no query.")
    return found


def read_judgments(path: str | Path) -> tuple[Judgments, int]:
    """Return query id to product id to grade, and how many rows were repeated; of those the highest grade counts.

    Raises:
        UserError: the file or a row cannot be used.
    """
    found: Judgments = {}
    repeated = 0
    for number, row in enumerate(read_rows(path, ("query_id", "product_id", "grade")), 1):
        try:
            grade = float(row["grade"])
        except ValueError:
            grade = math.nan
        if not 0.0 <= grade <= 100.0:
            raise UserError(f"{path}: row {number}: the grade {row['grade']!r} is no number from 0 to 100.")
        of_query = found.setdefault(row["query_id"], {})
        repeated += row["product_id"] in of_query
        of_query[row["product_id"]] = max(grade, of_query.get(row["product_id"], 0.0))
    if not found:
        raise UserError(f"{path}: has no judgment.")
    return found, repeated


def read_rows(path: str | Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV (``.csv``, ``.tsv``) or JSON lines file (``.jsonl``, ``.json``), ``.gz`` too, as text.

    Raises:
        UserError: the file is missing or broken, or lacks a column.
    """
    name = str(path).lower().removesuffix(".gz")
    try:
        with _open(path) as opened, io.TextIOWrapper(opened, "utf-8-sig", errors="replace", newline="") as text:
            if name.endswith((".jsonl", ".json", ".ndjson")):
                rows: Iterator[Any] = (json.loads(line) for line in text if line.strip())
            else:
                rows = csv.DictReader(text, delimiter="\t" if name.endswith(".tsv") else ",")
            for number, row in enumerate(rows, 1):
                if not isinstance(row, dict):
                    raise UserError(f"{path}: row {number} is no JSON object; write one object a line.")
                for column in columns:
                    if row.get(column) is None:
                        near = suggest(column, [key for key in row if key])
                        raise UserError(
                            f"{path}: row {number} has no {column}; it has {', '.join(map(str, row))}.{near}"
                        )
                yield {column: _text(row[column]) for column in columns}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except (EOFError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: is broken ({error}); get the file again.") from None


def _open(path: str | Path) -> IO[bytes]:
    compressed = str(path).lower().endswith(".gz")
    return gzip.open(path, "rb") if compressed else Path(path).open("rb")  # type: ignore[return-value]


def _text(value: Any) -> str:
    # 7.0 of a JSON or pandas file is the id 7.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()
