"""The lexical score in graph: BM25 by postings, and the nearest words the catalogue has for one that it has not."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_shop.dataset import lookup_table
from tfrs_shop.lexicon import Lexicon
from tfrs_shop.model.search_tower import Bags
from tfrs_shop.served.lookup import Lists
from tfrs_shop.served.query_forms import joined_neighbors, query_forms
from tfrs_shop.table_rows import table_rows

# A term's share of a product's score cannot be more than this times its idf: k1 + 1.
MOST_WEIGHT = 2.2
GRAM = 3
# English endings, commonest first, for a form that the catalogue has not: the stem is one, but no server has a stemmer.
ENDINGS = (
    *(("", "s"), ("s", ""), ("es", ""), ("", "es"), ("ies", "y"), ("y", "ies"), ("ing", ""), ("ing", "e"), ("", "ing")),
    *(("e", "ing"), ("ed", ""), ("ed", "e"), ("", "ed"), ("e", "ed")),
)
# Words of a query that are looked for by their letters, words of the catalogue that are compared with each, and how
# many of them are taken.
MOST_UNKNOWN, COMPARED, NEAREST = 6, 32, 3
# A shorter word has too many neighbours; a slip changes one letter of a short word, two of a longer one.
SHORTEST, LONG = 4, 6
# What a corrected word counts beside one that is written as in the catalogue.
CORRECTED = 0.8


class QueryTerms(NamedTuple):
    """What the catalogue knows of the words of a batch of queries.

    Attributes:
        rows: ``[terms]`` int32, of which query each is.
        terms: ``[terms]`` int32, 0 for an unknown one.
        weights: ``[terms]`` float32, below 1 for a term that is only near to what was typed.
        most: ``[batch]`` float32, the most that a product could score.
    """

    rows: tf.Tensor
    terms: tf.Tensor
    weights: tf.Tensor
    most: tf.Tensor


class ServedLexicon(tf.Module):
    """Scores all products for the words of a query.

    Args:
        lexicon: of the catalogue.
        products: its size.
    """

    def __init__(self, lexicon: Lexicon, products: int):
        super().__init__(name="lexicon")
        self.products = products
        self.table = lookup_table(lexicon.forms)
        self.term_of_form = tf.Variable(lexicon.term_of_form, trainable=False)
        self.idf = tf.Variable(lexicon.idf, trainable=False)
        self.most_idf = float(lexicon.idf.max(initial=0.0))
        self.starts = tf.Variable(lexicon.starts, trainable=False)
        # A variable may not be empty.
        self.posting_products = tf.Variable(np.append(lexicon.products, np.int32(0)), trainable=False)
        self.posting_weights = tf.Variable(np.append(lexicon.weights, np.float32(0)), trainable=False)
        self.forms = tf.Variable([b"", *lexicon.forms], trainable=False, dtype=tf.string)
        self.count = tf.Variable(lexicon.count.astype(np.float32), trainable=False)
        grams: dict[str, list[int]] = {}
        sizes = [0]
        for number, form in enumerate(lexicon.forms, 1):
            found = _grams(form.decode("utf-8"))
            sizes.append(len(found))
            for gram in found:
                grams.setdefault(gram, []).append(number)
        self.gram_table = lookup_table([gram.encode("utf-8") for gram in grams])
        self.forms_of_gram = Lists([[], *grams.values()])
        self.grams_of_form = tf.Variable(np.array(sizes, np.float32), trainable=False)

    def query(self, texts: tf.Tensor) -> "QueryTerms":
        """Return the terms of cleaned ``texts`` ``[batch]``."""
        words = query_forms(texts)
        terms = self._terms(words.values)
        rows = tf.cast(words.value_rowids(), tf.int32)
        # A word that no product has could have been the rarest.
        idf = tf.where(terms > 0, table_rows(self.idf, terms), self.most_idf)
        # Of two words that are known the one word would only count again what they count.
        unknown = terms == 0
        first = tf.where((rows[:-1] == rows[1:]) & (unknown[:-1] | unknown[1:]))[:, 0]
        joined = tf.strings.join([tf.gather(words.values, first), tf.gather(words.values, first + 1)])
        pair_terms = table_rows(self.term_of_form, tf.cast(self.table.lookup(joined), tf.int32))
        places = tf.where(unknown)[:, 0]
        unknown_rows = tf.gather(rows, places)
        before = tf.range(tf.size(places)) - tf.searchsorted(unknown_rows, unknown_rows)
        places = tf.boolean_mask(places, before < MOST_UNKNOWN)
        near_terms, near_weights = self._nearest(tf.gather(words.values, places))
        near_rows = tf.tile(tf.gather(rows, places)[:, None], [1, NEAREST])
        batch = tf.shape(texts)[0]
        return QueryTerms(
            tf.concat([rows, tf.gather(rows, first), tf.reshape(near_rows, [-1])], 0),
            tf.concat([terms, pair_terms, tf.reshape(near_terms, [-1])], 0),
            tf.concat([tf.ones_like(idf), tf.ones_like(pair_terms, tf.float32), tf.reshape(near_weights, [-1])], 0),
            tf.math.unsorted_segment_sum(idf, rows, batch) * MOST_WEIGHT,
        )

    def scores(self, query: "QueryTerms") -> tf.Tensor:
        """Return ``[batch, products + 1]`` float32: the share of the most that a product could score for the query.

        It is from 0 to 1, or a little more where a pair of words is also one word; 0 for product 0.
        """
        total = self._sum(tf.shape(query.most)[0], query.rows, query.terms, query.weights)
        return tf.math.divide_no_nan(total, query.most[:, None])

    def bags(self, query: "QueryTerms") -> Bags:
        """Return what the search tower reads of queries."""
        weights = query.weights * table_rows(self.idf, query.terms)
        return Bags(query.terms, query.rows, weights, tf.shape(query.most)[0])

    def word_weights(self, query: "QueryTerms", words: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Return ``[words]`` float32: what each word of a text has to do with its query, 0 for nothing.

        It is the idf of the query's term, times its weight where it is only near to what was typed.

        Args:
            query: terms of queries.
            words: ``[words]`` string, cleaned, each without blanks.
            rows: ``[words]`` int32, of which query each is.
        """
        terms = tf.shape(self.idf)[0]
        batch = tf.shape(query.most)[0]
        # An unknown word of a query has the term 0, as has a word of the text that is none.
        weights = tf.where(query.terms > 0, query.weights * table_rows(self.idf, query.terms), 0.0)
        asked = tf.maximum(tf.math.unsorted_segment_max(weights, query.rows * terms + query.terms, batch * terms), 0.0)
        forms = query_forms(words)
        pairs = joined_neighbors(forms)
        joined = table_rows(self.term_of_form, tf.cast(self.table.lookup(pairs.values), tf.int32))
        found = tf.concat([forms.with_values(self._terms(forms.values)), pairs.with_values(joined)], 1).to_tensor(0)
        best: tf.Tensor = tf.reduce_max(tf.gather(asked, rows[:, None] * terms + found), 1)
        # Of no columns the most is the least number there is.
        return tf.maximum(best, 0.0)

    def _terms(self, words: tf.Tensor) -> tf.Tensor:
        """Return the terms of ``words`` ``[words]``, whatever English ending they have; 0 for unknown ones."""
        form = self.table.lookup(words)
        for ending, other in ENDINGS:
            # A short word with another ending may be another word.
            with_ending = tf.strings.regex_full_match(words, rf"\pL{{3,}}{ending}")
            changed = tf.strings.regex_replace(words, f"{ending}$", other, replace_global=False)
            form = tf.where((form == 0) & with_ending, self.table.lookup(changed), form)
        return table_rows(self.term_of_form, tf.cast(form, tf.int32))

    def _sum(self, batch: tf.Tensor, rows: tf.Tensor, terms: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Return ``[batch, products + 1]``: the weighted sum of the postings of ``terms`` ``[terms]`` in each row."""
        first, last = table_rows(self.starts, terms), table_rows(self.starts, terms + 1)
        places = tf.ragged.range(first, last)
        product = table_rows(self.posting_products, places.values)
        of_term = places.value_rowids()
        added = table_rows(self.posting_weights, places.values) * tf.gather(weights, of_term)
        width = self.products + 1
        flat = tf.gather(rows, of_term) * width + product
        return tf.reshape(tf.math.unsorted_segment_sum(added, flat, batch * width), [batch, width])

    def _nearest(self, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the terms of the forms nearest to ``words`` ``[words]``, and their weights, ``[words, NEAREST]``."""
        spec = (tf.TensorSpec([NEAREST], tf.int32), tf.TensorSpec([NEAREST], tf.float32))
        found: tuple[tf.Tensor, tf.Tensor] = tf.map_fn(self._nearest_of_one, words, fn_output_signature=spec)
        return found

    def _nearest_of_one(self, word: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        letters = tf.strings.unicode_split(word, "UTF-8")
        length = tf.size(letters)
        padded = tf.concat([["^"], letters, ["$"]], 0)
        grams = tf.unique(tf.strings.ngrams(padded, GRAM, separator="")).y
        found = self.forms_of_gram.flat(self.gram_table.lookup(grams))
        # Number of common grams, of all forms.
        common = tf.math.unsorted_segment_sum(tf.ones_like(found, tf.float32), found, tf.size(self.term_of_form))
        dice = 2.0 * common / (tf.cast(tf.size(grams), tf.float32) + self.grams_of_form)
        most = min(COMPARED, self.term_of_form.shape[0])
        forms = tf.math.top_k(dice, most).indices
        others = tf.strings.unicode_split(table_rows(self.forms, forms), "UTF-8")
        distance = tf.edit_distance(
            tf.RaggedTensor.from_row_lengths(tf.tile(letters, [most]), tf.fill([most], length)).to_sparse(),
            others.to_sparse(),
            normalize=False,
        )
        # An empty form has no entry in the sparse tensor, and is none anyway.
        distance = tf.pad(distance, [[0, most - tf.shape(distance)[0]]], constant_values=99.0)
        allowed = tf.where(length >= LONG, 2.0, tf.where(length >= SHORTEST, 1.0, -1.0))
        fits = (distance <= allowed) & (forms > 0)
        least = tf.reduce_min(tf.where(fits, distance, 99.0))
        # Of equally near words the commoner ones.
        rank = tf.where(fits & (distance <= least), tf.math.log1p(table_rows(self.count, forms)), -1.0)
        # A tiny catalogue may not have so many.
        rank, forms = tf.pad(rank, [[0, NEAREST]], constant_values=-1.0), tf.pad(forms, [[0, NEAREST]])
        best, order = tf.math.top_k(rank, NEAREST)
        chosen = best > 0
        share = tf.math.divide_no_nan(best, tf.reduce_max(best)) * CORRECTED * tf.cast(chosen, tf.float32)
        return tf.where(chosen, table_rows(self.term_of_form, tf.gather(forms, order)), 0), share


def _grams(form: str) -> set[str]:
    padded = f"^{form}$"
    return {padded[place : place + GRAM] for place in range(len(padded) - GRAM + 1)}
