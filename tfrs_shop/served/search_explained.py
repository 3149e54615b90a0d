"""Search with a reason: which words of each title the query asked for, to be shown in bold.

It is a signature of its own, as TensorFlow Serving answers all outputs of a signature to everybody.
"""

from typing import Any

import tensorflow as tf

from tfrs_shop.served.lookup import named
from tfrs_shop.served.question import STRINGS, Requests, Samples
from tfrs_shop.served.search import Search
from tfrs_shop.served.shop import Answer
from tfrs_shop.served.tracing import traced


class SearchExplained(tf.Module):
    """What a query asks for, and which words of the titles say so.

    Args:
        search: which answers.
    """

    answers_for_ever = False

    def __init__(self, search: Search):
        super().__init__(name="search_explained")
        self.search = search

    def signatures(self) -> dict[str, Any]:
        """Return the signature ``search_explained``."""
        return {"search_explained": traced(self.search_explained, named(STRINGS, "query"))}

    def requests(self, samples: Samples) -> Requests:
        """Yield a request for the title of a product."""
        yield "search_explained", {"query": tf.constant([samples.query])}

    def search_explained(self, query: tf.Tensor) -> Answer:
        """Answer queries ``[batch]`` string as `Search.search` does, with the words that are in the query.

        Returns:
            As `Search.search`, and ``title_word`` ``[batch, k, words]`` string, the title cut at its blanks and padded
            with ""; and ``title_word_weight`` float32: 0 for a word that the query has nothing to do with, else the
            more, the fewer products have it; less for a word that is only near to what was typed. A product that is
            found by its meaning, its brand or its category alone has no such word.
        """
        answer, terms = self.search.with_terms(query)
        title = answer["title"]
        words = tf.strings.split(tf.reshape(title, [-1]))
        row = tf.cast(words.value_rowids(), tf.int32) // tf.shape(title)[1]
        weights = words.with_values(self.search.text.lexicon.word_weights(terms, words.values, row))
        shape = tf.concat([tf.shape(title), tf.cast(words.bounding_shape()[1:], tf.int32)], 0)
        return {
            **answer,
            "title_word": tf.reshape(words.to_tensor(b""), shape),
            "title_word_weight": tf.reshape(weights.to_tensor(0.0), shape),
        }
