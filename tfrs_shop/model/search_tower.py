"""The search tower: what search events teach of which products a query's words and meaning ask for.

A query and a product are each the sum of an adapted text vector and of the embeddings of their terms; both share the
terms' embeddings, and their cosine is the score. A product has no id here, so that a new one is found as any other.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_shop.lexicon import Lexicon

WIDTH, HIDDEN = 128, 512
_DEVIATION = 0.05
_AT_ONCE = 8_192


@dataclasses.dataclass(frozen=True)
class SearchWeights:
    """A search tower at rest.

    Attributes:
        terms: what each row of the embedding stands for, but for row 0, "unknown".
        arrays: name to weight.
        weight: of the tower's cosine in the score.
    """

    terms: list[bytes]
    arrays: dict[str, np.ndarray]
    weight: float

    def save(self, path: Path) -> None:
        """Write it as one ``.npz`` file."""
        terms = np.frombuffer(b"\n".join(self.terms), np.uint8)
        np.savez(path, terms=terms, weight=np.float64(self.weight), **self.arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "SearchWeights | None":
        """Read what `save` wrote; None where there is nothing."""
        if not path.exists():
            return None
        with np.load(path) as found:
            arrays = {name: found[name] for name in found.files}
        terms = arrays.pop("terms").tobytes().split(b"\n")
        return cls(terms, arrays, float(arrays.pop("weight")))

    def for_terms(self, terms: list[bytes]) -> "SearchWeights":
        """Return it with the embedding's rows in the order of `terms`, of another catalogue; new terms are zeros."""
        rows = {term: place for place, term in enumerate(self.terms, 1)}
        order = [0, *(rows.get(term, 0) for term in terms)]
        return SearchWeights(
            terms, {**self.arrays, "terms_embedding": self.arrays["terms_embedding"][order]}, self.weight
        )


def new_weights(terms: list[bytes], text_mean: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return the weights before training; ``text_mean`` ``[text width]`` is centred away, width 0: no text vectors."""
    random = np.random.default_rng(seed)
    embedding = random.normal(0, _DEVIATION, (len(terms) + 1, WIDTH))
    embedding[0] = 0
    arrays = {"terms_embedding": embedding, "text_mean": text_mean}
    if len(text_mean):
        for side in ("query", "product"):
            arrays[f"{side}_hidden"] = random.normal(0, (1 / len(text_mean)) ** 0.5, (len(text_mean), HIDDEN))
            arrays[f"{side}_bias"] = np.zeros(HIDDEN)
            arrays[f"{side}_output"] = random.normal(0, (1 / HIDDEN) ** 0.5, (HIDDEN, WIDTH))
    return {name: value.astype(np.float32) for name, value in arrays.items()}


class Bags(NamedTuple):
    """Terms of rows, in any order.

    Attributes:
        terms: ``[terms]`` int32, 0 unknown.
        rows: ``[terms]`` int32, of which row each is.
        weights: ``[terms]`` float32.
        count: of the rows.
    """

    terms: tf.Tensor
    rows: tf.Tensor
    weights: tf.Tensor
    count: tf.Tensor


class SearchTower(tf.Module):
    """Gives queries and products their vectors ``[..., WIDTH]``, of length 1.

    Args:
        arrays: of `SearchWeights` or `new_weights`.
        dropout: in training, of terms and of text vectors.
    """

    def __init__(self, arrays: dict[str, np.ndarray], dropout: float = 0.0):
        super().__init__(name="search_tower")
        self.dropout = dropout
        self.text_mean = tf.constant(arrays["text_mean"])
        self.uses_text = self.text_mean.shape[0] > 0
        self.weights = {name: tf.Variable(value, name=name) for name, value in arrays.items() if name != "text_mean"}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the weights as they are now."""
        return {"text_mean": self.text_mean.numpy(), **{name: value.numpy() for name, value in self.weights.items()}}

    def vectors(self, side: str, text: tf.Tensor | None, bags: "Bags") -> tf.Tensor:
        """Return ``[rows, WIDTH]``.

        Args:
            side: ``query`` or ``product``.
            text: ``[rows, text width]`` float32, of length 1; None without an encoder.
            bags: the terms of each row.
        """
        weights = bags.weights
        if self.dropout:
            weights = weights * tf.cast(tf.random.uniform(tf.shape(weights)) >= self.dropout, tf.float32)
        embedded = tf.gather(self.weights["terms_embedding"], bags.terms) * weights[:, None]
        total = tf.math.unsorted_segment_sum(embedded, bags.rows, bags.count)
        squares = tf.math.unsorted_segment_sum(tf.square(weights), bags.rows, bags.count)
        found = total * tf.math.rsqrt(squares + 1e-6)[:, None]
        if self.uses_text and text is not None:
            # Of unit variance, as what is learnt from is.
            scaled = (text - self.text_mean) * float(self.text_mean.shape[0]) ** 0.5
            if self.dropout:
                scaled = tf.nn.dropout(scaled, 0.2)
            hidden = tf.nn.gelu(tf.matmul(scaled, self.weights[f"{side}_hidden"]) + self.weights[f"{side}_bias"])
            found += tf.matmul(hidden, self.weights[f"{side}_output"])
        return tf.math.l2_normalize(found, 1)


def product_terms(lexicon: Lexicon, products: int) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Return the terms of each product ``[products + 1, (terms)]`` int32 and their weights float32.

    Args:
        lexicon: of the catalogue.
        products: of the catalogue.
    """
    terms = np.repeat(np.arange(len(lexicon.idf), dtype=np.int32), np.diff(lexicon.starts))
    order = np.argsort(lexicon.products, kind="stable")
    lengths = np.bincount(lexicon.products, minlength=products + 1)
    found = tf.RaggedTensor.from_row_lengths(tf.constant(terms[order]), tf.constant(lengths, tf.int64))
    return found, found.with_values(tf.constant(lexicon.weights[order]))


def ragged_bags(terms: tf.RaggedTensor, weights: tf.Tensor) -> Bags:
    """Return the bags of ``terms`` ``[rows, (terms)]`` int32 and their flat ``weights``."""
    return Bags(terms.values, tf.cast(terms.value_rowids(), tf.int32), weights, tf.cast(terms.nrows(), tf.int32))


def product_vectors(
    tower: SearchTower, terms: tf.RaggedTensor, weights: tf.RaggedTensor, text: tf.Tensor | None
) -> np.ndarray:
    """Return ``[products + 1, WIDTH]`` float32 of the whole catalogue, some thousands at a time; row 0 is zeros."""
    parts = []
    for start in range(0, int(terms.nrows()), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        bags = ragged_bags(terms[some], weights[some].values)
        parts.append(tower.vectors("product", None if text is None else text[some], bags).numpy())
    vectors: np.ndarray = np.concatenate(parts)
    vectors[0] = 0
    return vectors
