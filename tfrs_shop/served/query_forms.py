"""A query in graph: cleaned as the pipeline cleans texts, and in forms as ``tfrs_shop.text.terms`` makes them."""

import tensorflow as tf
import tensorflow_text as tf_text

from tfrs_shop.text.terms import ALONE, APOSTROPHES
from tfrs_shop.text.tokenize import STOP_WORDS

# More of a query is not read: a paste of 10,000 characters must not cost what a hundred queries do.
MOST_CHARACTERS = 1_000
MOST_FORMS = 64
LONGEST_FORM = 40
_ENTITIES = (("&nbsp;", " "), ("&quot;", '"'), ("&#0*39;", "'"), ("&apos;", "'"), ("&lt;", "<"), ("&gt;", ">"))
_STOP = f"^(?:{'|'.join(sorted(STOP_WORDS))})$"


def cleaned(queries: tf.Tensor) -> tf.Tensor:
    """Return ``queries`` ``[batch]`` string as one line of normalised Unicode, without tags and common entities."""
    text = tf.strings.unicode_transcode(queries, "UTF-8", "UTF-8", errors="replace", replacement_char=32)
    text = tf.strings.substr(text, 0, MOST_CHARACTERS, unit="UTF8_CHAR")
    text = tf.strings.regex_replace(text, "&(?:amp;)+", "&")
    for entity, char in _ENTITIES:
        text = tf.strings.regex_replace(text, entity, char)
    text = tf.strings.regex_replace(text, "</?(?:a|b|br|div|em|i|li|p|span|strong|sub|sup|u|ul)(?:\\s[^<>]*)?/?>", " ")
    text = tf.strings.regex_replace(text, r"[\x{2122}\x{2120}]", "")
    text = tf.strings.regex_replace(text, r"[\pZ\t\n\v\f\r]", " ")
    text = tf.strings.regex_replace(text, r"[\p{Cc}\p{Cf}\p{Co}\x{FFFD}]", "")
    text = tf_text.normalize_utf8(text, "NFKC")
    return tf.strings.strip(tf.strings.regex_replace(text, r"[\s\pZ]+", " "))


def query_forms(texts: tf.Tensor) -> tf.RaggedTensor:
    """Return the distinct forms of cleaned ``texts`` ``[batch]``, ``[batch, (forms)]`` string, in order.

    Of a hyphenated word only the parts are returned: the whole is a pair of neighbours, see `joined_neighbors`.
    """
    text = tf_text.normalize_utf8(texts, "NFKC")
    text = tf_text.normalize_utf8(tf.strings.lower(text, encoding="utf-8"), "NFD")
    text = tf_text.normalize_utf8(tf.strings.regex_replace(text, r"[\x{0300}-\x{036F}]", ""), "NFC")
    text = tf.strings.regex_replace(text, "\u03c2", "\u03c3")
    for _ in range(2):
        text = tf.strings.regex_replace(text, "([0-9]),([0-9]{3})", r"\1\2")
    text = tf.strings.regex_replace(text, "_", " ")
    for _ in range(2):
        text = tf.strings.regex_replace(text, r"([0-9])\.([0-9])", r"\1_\2")
    text = tf.strings.regex_replace(text, rf"[^\pL\pN\pM{APOSTROPHES}_-]", " ")
    text = tf.strings.regex_replace(text, f"([{ALONE}])", r" \1 ")
    text = tf.strings.regex_replace(text, f"[{APOSTROPHES}]s( |$)", r"\1")
    text = tf.strings.regex_replace(text, f"[{APOSTROPHES}]", "")
    words = tf.strings.split(tf.strings.regex_replace(text, "-", " "))
    words = tf.ragged.boolean_mask(words, ~tf.strings.regex_full_match(words, _STOP))
    words = words[:, :MOST_FORMS]
    return words.with_values(tf.strings.substr(words.values, 0, LONGEST_FORM, unit="UTF8_CHAR"))


def joined_neighbors(forms: tf.RaggedTensor) -> tf.RaggedTensor:
    """Return each two neighbours of ``forms`` ``[batch, (forms)]`` as one word: "t shirt" may be written "tshirt"."""
    return tf.strings.ngrams(forms, 2, separator="")
