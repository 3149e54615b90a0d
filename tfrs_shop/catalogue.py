"""The catalogue as the model sees it: one row of numbers a product, row 0 for "no product"."""

import dataclasses
from typing import Any

import numpy as np

from tfrs_shop.manifest import Manifest

POPULARITY = "train_count"
# Numbers of a product that the tower reads as buckets.
BUCKETED = ("price", "rating_mean", "rating_count", "sales_rank", POPULARITY)


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """All products; row i is the product with vocabulary index i, and row 0 is padding.

    Attributes:
        product_id: ``[products + 1]`` bytes.
        title: ``[products + 1]`` bytes.
        description: ``[products + 1]`` bytes.
        brand_name: ``[products + 1]`` bytes.
        category_name: ``[products + 1]`` bytes, the whole path as one text.
        text_vector: ``[products + 1, text width]`` float32; zeros where no text was encoded. Width 0: none was.
        category: ``[products + 1, depth]`` int32, vocabulary indices of the path's prefixes, 0 padded.
        brand: ``[products + 1]`` int32, 0 unknown.
        words: ``[products + 1, most]`` int32, vocabulary indices of the words of title, brand and category, each once,
            0 padded.
        buckets: ``[products + 1, len(BUCKETED)]`` int32, 0 missing, else 1 + the number of quantiles below.
        price: ``[products + 1]`` float32, NaN missing.
        on_sale_from: ``[products + 1]`` int64 milliseconds since 1970, from when a product is on sale; -1: always.
        on_sale_to: the same, up to when, and not including it.
        train_count: ``[products + 1]`` int64, events of the training split.
        embedding: ``[products + 1]`` int32, its row in the model's id embedding; 0 for a product that it did not know.
        embeddings: rows of the id embedding, without the padding row.
        text_mean: ``[text width]`` mean of the text vectors that the model was trained on.

    A product without training events is new: it has no popularity (bucket 0), and no id embedding, which would be
    untrained noise.
    """

    product_id: np.ndarray
    title: np.ndarray
    description: np.ndarray
    brand_name: np.ndarray
    category_name: np.ndarray
    text_vector: np.ndarray
    category: np.ndarray
    brand: np.ndarray
    words: np.ndarray
    buckets: np.ndarray
    price: np.ndarray
    on_sale_from: np.ndarray
    on_sale_to: np.ndarray
    train_count: np.ndarray
    embedding: np.ndarray
    embeddings: int
    text_mean: list[float]

    @property
    def size(self) -> int:
        """Products, without the padding row."""
        return len(self.product_id) - 1

    def features(self) -> dict[str, np.ndarray]:
        """Return what the product tower reads, by the names of its inputs; a new product has ``index`` 0."""
        return {
            "index": self.embedding,
            "text_vector": self.text_vector,
            "category": self.category,
            "brand": self.brand,
            "words": self.words,
            "buckets": self.buckets,
        }


def build_catalogue(
    rows: list[dict[str, Any]], manifest: Manifest, vocabularies: dict[str, dict[bytes, int]]
) -> Catalogue:
    """Return the catalogue of parsed product records.

    Args:
        rows: of ``products/``: feature name to value, as ``tf.io.parse_example`` gives it, in any order.
        manifest: whose statistics give the bucket edges.
        vocabularies: name to value to index, which starts at 1.
    """
    indices = vocabularies["product_id"]
    size = len(indices) + 1
    depth = max([len(row["category"]) for row in rows] + [1])
    width = manifest.text.get("width", 0)
    text = {name: np.full(size, b"", object) for name in ("product_id", "title", "description", "brand", "path")}
    vectors = np.zeros((size, width), np.float32)
    category = np.zeros((size, depth), np.int32)
    brand = np.zeros(size, np.int32)
    numbers = np.full((size, len(BUCKETED)), np.nan, np.float64)
    on_sale = np.full((size, 2), -1, np.int64)
    for row in rows:
        place = indices[row["product_id"]]
        for name in ("product_id", "title", "description", "brand"):
            text[name][place] = row[name]
        path = [vocabularies["category"].get(prefix, 0) for prefix in row["category"]]
        category[place, : len(path)] = path
        text["path"][place] = row["category"][-1] if len(row["category"]) else b""
        brand[place] = vocabularies["brand"].get(row["brand"], 0)
        if width:
            vectors[place] = row["text_vector"]
        numbers[place] = [row[name] for name in BUCKETED]
        on_sale[place] = row["on_sale_from"], row["on_sale_to"]
    counts = np.nan_to_num(numbers[:, BUCKETED.index(POPULARITY)]).astype(np.int64)
    numbers[counts == 0, BUCKETED.index(POPULARITY)] = np.nan
    buckets = np.stack([bucketize(numbers[:, i], bucket_edges(manifest, name)) for i, name in enumerate(BUCKETED)], 1)
    buckets[0] = 0
    return Catalogue(
        product_id=text["product_id"],
        title=text["title"],
        description=text["description"],
        brand_name=text["brand"],
        category_name=text["path"],
        text_vector=vectors,
        category=category,
        brand=brand,
        words=_words(rows, indices, vocabularies["words"]),
        buckets=buckets,
        price=numbers[:, 0].astype(np.float32),
        on_sale_from=on_sale[:, 0],
        on_sale_to=on_sale[:, 1],
        train_count=counts,
        embedding=np.where(counts > 0, np.arange(size), 0).astype(np.int32),
        embeddings=size - 1,
        text_mean=_text_mean(vectors),
    )


def bucket_edges(manifest: Manifest, name: str) -> np.ndarray:
    """Return the rising, distinct quantiles of the product number `name`; none where no product has it."""
    return np.unique(np.asarray(manifest.statistics.get(name, {}).get("quantiles", []), np.float64))


def word_counts(words: np.ndarray, size: int) -> np.ndarray:
    """Return how many products have each word of a vocabulary of `size`: ``[size + 1]`` int64, padding 0."""
    counts = np.bincount(words.ravel(), minlength=size + 1)
    counts[0] = 0
    return counts


def bucketize(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the bucket of each value: 0 for NaN, else 1 + the number of edges below it. int32."""
    return np.where(np.isnan(values), 0, 1 + np.searchsorted(edges, values)).astype(np.int32)


def _words(rows: list[dict[str, Any]], products: dict[bytes, int], vocabulary: dict[bytes, int]) -> np.ndarray:
    found = {products[row["product_id"]]: {vocabulary.get(word, 0) for word in row["words"]} - {0} for row in rows}
    table = np.zeros((len(products) + 1, max([len(words) for words in found.values()] + [1])), np.int32)
    for place, words in found.items():
        table[place, : len(words)] = sorted(words)
    return table


def _text_mean(vectors: np.ndarray) -> list[float]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    known = norms[:, 0] > 0
    if not vectors.shape[1]:
        return []
    unit = vectors[known] / norms[known]
    return (unit.mean(0) if len(unit) else np.zeros(vectors.shape[1])).astype(float).tolist()
