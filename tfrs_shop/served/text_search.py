"""Text search in graph: how well each product fits a query's words and its meaning."""

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.errors import UserError
from tfrs_shop.lexicon import Lexicon
from tfrs_shop.served.lexicon import ServedLexicon
from tfrs_shop.served.query_forms import cleaned

# Of the cosine of meaning, beside a lexical score whose most is about 1.
VECTOR_WEIGHT = 1.5
# Products that are scored again with what the first ones say of the query.
CANDIDATES = 1_000
# Pseudo-relevance feedback (Rocchio 1971; for vectors Li et al. 2021, arXiv 2108.11044): how many of the first products,
# and the weight of their mean beside the query's own vector.
FEEDBACK, FEEDBACK_WEIGHT = 5, 0.6
OUT = -1e9


class TextSearch(tf.Module):
    """Scores products for a query: BM25 over the catalogue, and the cosine of the encoder's vectors where there are any.

    Args:
        data: the products, their words, and the name of the encoder.
        lexicon: of the products.
        encoder: from texts ``[batch]`` to vectors ``[batch, width]``, or None.
    """

    def __init__(self, data: ShopData, lexicon: Lexicon, encoder: Any):
        super().__init__(name="text_search")
        self.lexicon = ServedLexicon(lexicon, data.catalogue.size)
        self.encoder = encoder
        if encoder is not None:
            vectors = data.catalogue.text_vector
            norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
            self.vectors = tf.Variable(vectors / norms, trainable=False, name="search_vectors")

    def best(self, queries: tf.Tensor, allowed: tf.Tensor, most: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the scores and the products ``[batch, most]`` for raw ``queries`` ``[batch]``, best first.

        The score is 0 and the product 0 for "no more", and where a query has no words.

        Args:
            queries: as they were typed.
            allowed: ``[batch, products + 1]`` or ``[1, products + 1]`` bool, what may be answered.
            most: at most the number of products.
        """
        text = cleaned(queries)
        lexical = self.lexicon.scores(text)
        if self.encoder is None:
            scores, products = tf.math.top_k(tf.where(allowed & (lexical > 0.0), lexical, OUT), most)
            return _without_gaps(scores, products)
        has_words = tf.strings.regex_full_match(text, r"(?s).*[\pL\pN].*")
        vector = tf.math.l2_normalize(self.encoder(text), 1)
        scores = lexical + VECTOR_WEIGHT * tf.matmul(vector, self.vectors, transpose_b=True)
        count = min(self.lexicon.products, max(most, CANDIDATES))
        scores, products = tf.math.top_k(tf.where(allowed & has_words[:, None], scores, OUT), count)
        vectors = tf.gather(self.vectors, products)
        first = tf.cast(scores > OUT, tf.float32)[:, :FEEDBACK, None]
        feedback = tf.math.l2_normalize(tf.reduce_sum(vectors[:, :FEEDBACK] * first, 1), 1)
        vector = tf.math.l2_normalize(vector + FEEDBACK_WEIGHT * feedback, 1)
        again = tf.gather(lexical, products, batch_dims=1) + VECTOR_WEIGHT * tf.einsum("bd,bnd->bn", vector, vectors)
        scores, order = tf.math.top_k(tf.where(scores > OUT, again, OUT), most)
        return _without_gaps(scores, tf.gather(products, order, batch_dims=1))


def _without_gaps(scores: tf.Tensor, products: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    found = scores > OUT
    return tf.where(found, scores, 0.0), tf.where(found, products, 0)


def text_encoder(data: ShopData) -> Any:
    """Return the encoder that made the products' vectors, as a layer; None where they have none."""
    about = data.manifest.text
    if not about.get("width"):
        return None
    from tfrs_shop.text import EncoderHandles, TextEncoder, default_encoder

    handles = default_encoder()
    if about["encoder"] != "default":
        handles = EncoderHandles(about["preprocessor"], about["encoder"])
    try:
        return TextEncoder(handles, sequence_length=max(64, about["sequence_length"]))
    except OSError as error:
        raise UserError(f"the text encoder {about['encoder']} is needed where it was ({error}).") from None
