"""Text search in graph: how well each product fits a query's words and its meaning."""

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.errors import UserError
from tfrs_shop.lexicon import Lexicon
from tfrs_shop.model.behavior_head import leaf_categories
from tfrs_shop.model.intent_head import IntentHead, query_pieces
from tfrs_shop.model.search_tower import SearchTower, SearchWeights, product_terms, product_vectors
from tfrs_shop.served.lexicon import QueryTerms, ServedLexicon
from tfrs_shop.served.query_forms import cleaned
from tfrs_shop.served.tracing import Plain
from tfrs_shop.table_rows import table_rows

# Of the cosine of meaning, beside a lexical score whose most is about 1.
VECTOR_WEIGHT = 1.5
# Products that are scored again with what the first ones say of the query.
CANDIDATES = 1_000
# Pseudo-relevance feedback (Rocchio 1971; for vectors Li et al. 2021, arXiv 2108.11044): how many of the first
# products, and the weight of their mean beside the query's own vector.
FEEDBACK, FEEDBACK_WEIGHT = 5, 1.0
# Of the chance that the query is about a product's category, as the intent head has learnt it from searches.
INTENT_WEIGHT = 0.2
# Of the cosine to a history's taste, beside the tower's weight.
TASTE = 0.2
# Reading the vectors of all products takes most of the time. Of more than so many products the candidates are found in
# the directions in which vectors differ most, and scored exactly after that.
LARGE, FIRST_WIDTH = 20_000, 128
OUT = -1e9


class TextSearch(tf.Module):
    """Scores products for queries: words, the cosine of the encoder's vectors, and that of the trained search tower.

    The two cosines are one product of vectors: a product's two vectors stand side by side, and so do a query's, each
    times its weight.

    Args:
        data: the products, their words, and the name of the encoder.
        lexicon: of the products.
        encoder: from texts ``[batch]`` to vectors ``[batch, width]``, or None.
        trained: what was learnt from search events, or None.
        intent: trained; its categories count only where it has learnt from searches: what it makes of titles alone is
            what words and meaning say already. None: they never count.
    """

    def __init__(
        self,
        data: ShopData,
        lexicon: Lexicon,
        encoder: Any,
        trained: SearchWeights | None,
        intent: IntentHead | None = None,
    ):
        super().__init__(name="text_search")
        self.products = data.catalogue.size
        self.lexicon = ServedLexicon(lexicon, self.products)
        self.encoder, self.text_width, self.tower, self.tower_weight = encoder, 0, None, 0.0
        self.intent = Plain(intent if intent is not None and intent.knows[1] else None)
        if self.intent.value is not None:
            self.intent_weights = self.intent.value.weights
        leaf = leaf_categories(data.catalogue)
        self.leaf = tf.Variable(leaf, trainable=False, name="leaf")
        parts, text = [], None
        if encoder is not None:
            text = data.catalogue.text_vector
            text = (text / np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-9)).astype(np.float32)
            self.text_width = text.shape[1]
            parts.append(text)
        if trained is not None:
            self.tower = SearchTower(trained.for_terms(lexicon.terms).arrays)
            self.tower_weight = trained.weight
            parts.append(product_vectors(self.tower, *product_terms(lexicon, self.products), text))
            self.typical = tf.Variable(means_of(parts[-1], leaf), trainable=False, name="typical")
        if parts:
            vectors = np.concatenate(parts, 1)
            self.vectors = tf.Variable(vectors, trainable=False, name="search_vectors")
            self.projection = None
            if self.products > LARGE:
                projection = principal_directions(vectors[1:], FIRST_WIDTH)
                self.projection = tf.constant(projection)
                self.first_vectors = tf.Variable(vectors @ projection, trainable=False, name="first_vectors")

    def terms(self, queries: tf.Tensor) -> QueryTerms:
        """Return what the catalogue knows of the words of raw ``queries`` ``[batch]``."""
        return self.lexicon.query(cleaned(queries))

    def best(self, queries: tf.Tensor, terms: QueryTerms, allowed: tf.Tensor, most: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the scores and the products ``[batch, most]`` for raw ``queries`` ``[batch]``, best first.

        The score is 0 and the product 0 for "no more", and where a query has no words.

        Args:
            queries: as they were typed.
            terms: of them.
            allowed: ``[1, products + 1]`` bool, what may be answered.
            most: at most the number of products.
        """
        text = cleaned(queries)
        lexical = self.lexicon.scores(terms)
        if self.encoder is None and self.tower is None:
            scores, products = tf.math.top_k(tf.where(allowed & (lexical > 0.0), lexical, OUT), most)
            return _without_gaps(scores, products)
        vector, asked = self._vector(text, terms)
        # What does not change with the vectors.
        lexical += self._prior(text)
        scores = lexical + self._first_look(vector)
        count = min(self.products, max(most, CANDIDATES))
        scores, products = tf.math.top_k(tf.where(allowed & asked[:, None], scores, OUT), count)
        vectors = table_rows(self.vectors, products)
        lexical = tf.gather(lexical, products, batch_dims=1)
        if self.projection is not None:
            exact = lexical + tf.einsum("bd,bnd->bn", vector, vectors)
            scores, order = tf.math.top_k(tf.where(scores > OUT, exact, OUT), count)
            products, lexical, vectors = (tf.gather(x, order, batch_dims=1) for x in (products, lexical, vectors))
        if self.encoder is not None:
            first = tf.cast(scores > OUT, tf.float32)[:, :FEEDBACK, None]
            vector = self._after_feedback(vector, tf.reduce_sum(vectors[:, :FEEDBACK] * first, 1))
            again = lexical + tf.einsum("bd,bnd->bn", vector, vectors)
            scores = tf.where(scores > OUT, again, OUT)
        scores, order = tf.math.top_k(scores, most)
        return _without_gaps(scores, tf.gather(products, order, batch_dims=1))

    def taste(self, products: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, products]`` float32: what is added for how ``products`` differ from their category's others.

        It is the cosine of that difference, in the tower's vectors, to the sum of how the products of ``history``
        ``[batch, events]`` int32 differ from theirs. What a query may ask for, such as a colour or a look, tells
        tastes apart, too, and whoever likes it in one category likes it in another.
        """
        if self.tower is None:
            return tf.zeros_like(products, tf.float32)
        shown = tf.math.l2_normalize(tf.reduce_sum(self._difference(history), 1), 1)
        return TASTE * self.tower_weight * tf.einsum("bd,bnd->bn", shown, self._difference(products))

    def _difference(self, products: tf.Tensor) -> tf.Tensor:
        vectors = table_rows(self.vectors, products)[..., self.text_width :]
        typical = table_rows(self.typical, table_rows(self.leaf, products))
        return tf.where(products[..., None] > 0, tf.math.l2_normalize(vectors - typical, -1), 0.0)

    def _prior(self, text: tf.Tensor) -> tf.Tensor:
        """Return ``[batch or 1, products + 1]`` float32: what each product's category adds for cleaned ``text``."""
        if self.intent.value is None:
            return tf.zeros([1, self.products + 1])
        logits, _ = self.intent.value(*query_pieces(text), training=False)
        chance = tf.pad(tf.nn.softmax(logits), [[0, 0], [1, 0]])
        return INTENT_WEIGHT * tf.gather(chance, self.leaf, axis=1)

    def _first_look(self, vector: tf.Tensor) -> tf.Tensor:
        """Return the inner products ``[batch, products + 1]`` of all products, of a large catalogue nearly."""
        if self.projection is None:
            return tf.matmul(vector, self.vectors, transpose_b=True)
        return tf.matmul(tf.matmul(vector, self.projection), self.first_vectors, transpose_b=True)

    def _vector(self, text: tf.Tensor, terms: QueryTerms) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the weighted vectors ``[batch, width]`` of queries, and whether each asks for anything ``[batch]``."""
        parts, encoded = [], None
        if self.encoder is not None:
            encoded = tf.math.l2_normalize(self.encoder(text), 1)
            parts.append(VECTOR_WEIGHT * encoded)
            asked = tf.strings.regex_full_match(text, r"(?s).*[\pL\pN].*")
        else:
            known = tf.cast(terms.terms > 0, tf.float32)
            asked = tf.math.unsorted_segment_sum(known, terms.rows, tf.shape(text)[0]) > 0.0
        if self.tower is not None:
            parts.append(self.tower_weight * self.tower.vectors("query", encoded, self.lexicon.bags(terms)))
        return tf.concat(parts, 1), asked

    def _after_feedback(self, vector: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        """Return query vectors moved towards the sum of the first products' vectors, in the encoder's part alone."""
        encoded = vector[:, : self.text_width] / VECTOR_WEIGHT
        mean = tf.math.l2_normalize(first[:, : self.text_width], 1)
        moved = VECTOR_WEIGHT * tf.math.l2_normalize(encoded + FEEDBACK_WEIGHT * mean, 1)
        return tf.concat([moved, vector[:, self.text_width :]], 1)


def means_of(vectors: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return ``[groups, width]`` float32: the mean of the vectors of each group, zeros for one that has none.

    Args:
        vectors: ``[products + 1, width]``, row 0 of no product.
        group: ``[products + 1]`` int32 of each.
    """
    found = np.zeros([int(group.max()) + 1, vectors.shape[1]])
    np.add.at(found, group[1:], vectors[1:])
    count = np.bincount(group[1:], minlength=len(found))
    means: np.ndarray = (found / np.maximum(count, 1)[:, None]).astype(np.float32)
    return means


def principal_directions(vectors: np.ndarray, width: int, most: int = 50_000) -> np.ndarray:
    """Return ``[dimensions, width]`` float32: the orthonormal directions that keep inner products of `vectors` best."""
    sample = vectors[:: -(-len(vectors) // most)].astype(np.float64)
    _, directions = np.linalg.eigh(sample.T @ sample)
    found: np.ndarray = directions[:, ::-1][:, :width].astype(np.float32)
    return found


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
