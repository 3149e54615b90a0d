"""Explanation by words: what each word of the history's texts adds to a product's score.

A text's vector is the mean of its tokens' vectors, so what a text adds (see ``tfrs_shop.served.explain``) is exactly
the sum of what its tokens add along the same line. A token's vector is the encoder's last: it was read in its context.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import ShopData
from tfrs_shop.schema import joined_product_text
from tfrs_shop.served.explain import Explain, read_rows
from tfrs_shop.served.lookup import named
from tfrs_shop.served.question import LISTS, STRINGS, Requests, Samples
from tfrs_shop.served.shop import Answer
from tfrs_shop.served.tracing import Plain, traced

# Texts that are read again by the encoder for a request.
EVENTS = 5


def event_texts(data: ShopData) -> list[str]:
    """Return what the encoder read of each product, product 0 first, and then of each search, ``""`` first."""
    catalogue = data.catalogue
    columns = zip(catalogue.title, catalogue.brand_name, catalogue.category_name, strict=True)
    products = [joined_product_text(*(part.decode() for part in parts)) for parts in columns]
    return [*products, "", *(query.decode() for query in data.values["query"])]


class ExplainWords(tf.Module):
    """Which words of which events speak for a product.

    Args:
        explain: of the same shop.
        texts: of `event_texts`.
        encoder: which made the shop's text vectors, a ``TextEncoder`` with pooling "mean".
        sequence_length: tokens of each text that it read.
    """

    answers_for_ever = True

    def __init__(self, explain: Explain, texts: list[str], encoder: Any, sequence_length: int):
        super().__init__(name="explain_words")
        self.explain, self.shop = explain, explain.shop
        self.texts = tf.Variable(texts, trainable=False, dtype=tf.string, name="event_text")
        # The text search keeps its weights.
        self.encoder, self.sequence_length = Plain(encoder), sequence_length
        self.once = Plain(tf.function(self._explained, autograph=False))

    def signatures(self) -> dict[str, Any]:
        """Return the signatures ``explain_words`` and ``explain_words_for_history``."""
        history = named(LISTS, "history_product_id"), named(LISTS, "history_event_type")
        product = named(STRINGS, "product_id")
        return {
            "explain_words": traced(self.explain_words, named(STRINGS, "user_id"), product),
            "explain_words_for_history": traced(self.explain_words_for_history, *history, product),
        }

    def requests(self, samples: Samples) -> Requests:
        """Yield a request for one user, and one for a history."""
        product = tf.constant(samples.products[:1])
        yield "explain_words", {"user_id": tf.constant(samples.users[:1]), "product_id": product}
        yield "explain_words_for_history", {**samples.history, "product_id": product}

    def explain_words(self, user_id: tf.Tensor, product_id: tf.Tensor) -> Answer:
        """Explain by words what the behaviour text adds to the score of a product for stored users.

        Args:
            user_id, product_id: ``[batch]`` string.

        Returns:
            Of the five events whose texts add most, those that add most first and padded with "":
            ``event_product_id``, ``event_title`` ``[batch, 5]`` string (of a search "" and its query) and
            ``event_share`` float32; ``word`` ``[batch, 5, words]`` string, title, brand and category cut at their
            blanks, and ``word_share`` float32, which sum to the event's share.
        """
        return self.once.value(read_rows(self.shop.stored(user_id)[0]), self.shop.products_of(product_id))

    def explain_words_for_history(
        self, history_product_id: tf.Tensor, history_event_type: tf.Tensor, product_id: tf.Tensor
    ) -> Answer:
        """Explain by words after fresh histories ``[batch, events]`` string, as `explain_words` does."""
        rows, _, _ = self.shop.fresh(history_product_id, history_event_type)
        return self.once.value(read_rows(rows), self.shop.products_of(product_id))

    def _explained(self, rows: dict[str, tf.Tensor], product: tf.Tensor) -> Answer:
        shop = self.shop
        mean = shop.layers.query_tower.text_mean
        slopes = self.explain.once.value(rows, product)[1]
        known = tf.reduce_any(slopes != 0.0, [1, 2])[:, None] & (rows["history_event_type"] > 0)
        vectors = shop.query_inputs(rows)["text_vectors"]
        length = tf.norm(vectors, axis=2)
        known &= length > 0.0
        unit = tf.math.divide_no_nan(vectors, length[..., None])
        spread = tf.norm(unit - mean, axis=2)
        # As ``centred`` does it, a sum over tokens: [scale of a token's vector, scale of what is taken off].
        root = float(np.sqrt(mean.shape[0]))
        scale = tf.where(known, tf.math.divide_no_nan(root, spread), 0.0)
        shares = scale * tf.reduce_sum(slopes * (unit - mean), 2)
        count = min(EVENTS, shop.length)
        best, place = tf.math.top_k(tf.where(known, shares, -np.inf), count)
        shown = best > -np.inf
        chosen = {name: tf.gather(rows[f"history_{name}"], place, batch_dims=1) for name in ("product", "query")}
        chosen = {name: tf.where(shown, values, 0) for name, values in chosen.items()}
        searches = shop.titles.shape[0] + chosen["query"]
        text = tf.gather(self.texts, tf.where(chosen["product"] > 0, chosen["product"], searches))
        words, adds = self.encoder.value.word_vectors(tf.reshape(text, [-1]), self.sequence_length)
        slope, length, scale = (
            tf.reshape(tf.gather(values, place, batch_dims=1), tf.concat([[-1], tf.shape(values)[2:]], 0))
            for values in (slopes, length, scale)
        )
        of_word = words.value_rowids()
        number = tf.cast(tf.maximum(words.row_lengths(), 1), tf.float32)
        moved = tf.math.divide_no_nan(adds.values, tf.gather(length, of_word)[:, None])
        moved -= mean / tf.gather(number, of_word)[:, None]
        share = tf.gather(scale, of_word) * tf.reduce_sum(tf.gather(slope, of_word) * moved, 1)
        shape = tf.concat([tf.shape(place), tf.cast(words.bounding_shape()[1:], tf.int32)], 0)
        return {
            "event_product_id": tf.gather(shop.product_ids, chosen["product"]),
            "event_title": shop.event_titles(chosen["product"], chosen["query"]),
            "event_share": tf.where(shown, best, 0.0),
            "word": tf.reshape(words.to_tensor(b""), shape),
            "word_share": tf.reshape(words.with_values(share).to_tensor(0.0), shape),
        }
