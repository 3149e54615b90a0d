"""The one feature spec: what a record of a data directory holds, declared once.

From these declarations come the Beam writer (``serialize``), the ``tf.io.parse_example`` spec (``parsing_spec``),
the vocabularies that the pipeline counts, and the names of the serving signatures' inputs.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from tfrs_shop.example_proto import example_class

DType = Literal["string", "int64", "float32"]
Tower = Literal["query", "product", "target", ""]


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a record.

    Attributes:
        name: its key in the TFRecord's ``tf.train.Example``.
        dtype: ``string``, ``int64`` or ``float32``. A float that the source lacks is NaN, an int64 is -1.
        size: 1 for a scalar, N for a vector of N values, 0 for a list of any length (ragged).
        source: the field of ``tfrs_shop.schema`` that it is made from.
        vocabulary: the vocabulary that indexes its values, or "".
        tower: which part of the model reads it; "" is for ids and for people.
    """

    name: str
    dtype: DType
    size: int = 1
    source: str = ""
    vocabulary: str = ""
    tower: Tower = ""


HISTORY_FEATURES = (
    Feature("history_product_id", "string", 0, "product_id", "product_id", "query"),
    Feature("history_event_type", "string", 0, "event_type", "event_type", "query"),
    Feature("history_timestamp", "int64", 0, "timestamp", tower="query"),
    Feature("history_query", "string", 0, "query", "query", "query"),
    Feature("history_session_id", "string", 0, "session_id"),
    Feature("history_rating", "float32", 0, "rating"),
    Feature("history_price", "float32", 0, "price"),
    Feature("history_quantity", "float32", 0, "quantity"),
)
TARGET_FEATURES = (
    Feature("target_product_id", "string", 1, "product_id", "product_id", "target"),
    Feature("target_event_type", "string", 1, "event_type", "event_type", "target"),
    Feature("target_timestamp", "int64", 1, "timestamp", tower="target"),
    Feature("target_session_id", "string", 1, "session_id"),
    Feature("target_rating", "float32", 1, "rating", tower="target"),
    Feature("target_price", "float32", 1, "price"),
    Feature("target_quantity", "float32", 1, "quantity"),
)
USER_FEATURES = (
    Feature("user_id", "string", 1, "user_id"),
    *HISTORY_FEATURES,
    # Products of still older events, which the history does not show: to tell what was seen before, not to learn from.
    Feature("older_product_id", "string", 0, "product_id", "product_id"),
    # What the user comes back to, over all earlier sessions, and how much each weighs; see pipelines/habits.py. Not in
    # training examples, nor where the target is of the same session as the event before it.
    Feature("usual_product_id", "string", 0, "product_id", "product_id"),
    Feature("usual_weight", "float32", 0, "product_id"),
    Feature("behavior_text", "string", 1, "title", tower="query"),
)
EXAMPLE_FEATURES = (
    *USER_FEATURES,
    # How many earlier events of the user the example does not show.
    Feature("history_offset", "int64", 1, "position"),
    # Whether a purchase comes after each event in its session: 1, 0, or -1 unknown; see pipelines/sessions.py.
    Feature("history_purchase_follows", "int64", 0, "event_type", tower="target"),
    *TARGET_FEATURES,
)
PRODUCT_FEATURES = (
    Feature("product_id", "string", 1, "product_id", "product_id", "product"),
    Feature("title", "string", 1, "title"),
    Feature("description", "string", 1, "description"),
    Feature("category", "string", 0, "category", "category", "product"),
    Feature("brand", "string", 1, "brand", "brand", "product"),
    Feature("price", "float32", 1, "price", tower="product"),
    Feature("rating_mean", "float32", 1, "rating_mean", tower="product"),
    Feature("rating_count", "float32", 1, "rating_count", tower="product"),
    Feature("sales_rank", "float32", 1, "sales_rank", tower="product"),
    Feature("on_sale_from", "int64", 1, "on_sale_from"),
    Feature("on_sale_to", "int64", 1, "on_sale_to"),
    Feature("words", "string", 0, "title", "words"),
    # Events of the training split only: anything else would tell the model of its targets.
    Feature("train_count", "int64", 1, "product_id", tower="product"),
)


# Edges of the transition graph and of the complement graph.
EDGE_FEATURES = (
    Feature("product_id", "string", 1, "product_id", "product_id"),
    Feature("neighbor_product_id", "string", 0, "product_id", "product_id"),
    # Whole numbers; see pipelines/transitions.py and pipelines/complements.py.
    Feature("neighbor_weight", "int64", 0, "position"),
    # The weight of all edges that lead to the product, also of those that are not kept.
    Feature("in_weight", "int64", 1, "position"),
)

# One record a term of the catalogue's texts; see pipelines/lexicon.py.
LEXICON_FEATURES = (
    Feature("term", "string", 1, "title"),
    Feature("idf", "float32", 1, "title"),
    # Words as they are written, and the number of products that have each.
    Feature("form", "string", 0, "title"),
    Feature("form_count", "int64", 0, "title"),
    # The products that have the term, and what it adds to their scores.
    Feature("product_id", "string", 0, "product_id", "product_id"),
    Feature("weight", "float32", 0, "title"),
)


def profile_feature(attribute: str, *, numeric: bool) -> Feature:
    """Return the feature of a user attribute; its name gets the prefix ``profile_``."""
    name = f"profile_{attribute}"
    return Feature(name, "float32" if numeric else "string", 1, attribute, "" if numeric else name, "query")


def text_vector_feature(width: int) -> Feature:
    """Return the feature of an encoded text, `width` floats."""
    return Feature("text_vector", "float32", width, "title", tower="product")


def query_features(width: int) -> tuple[Feature, ...]:
    """Return the features of an encoded search query: the text and its vector of `width` floats."""
    return (Feature("query", "string", 1, "query", "query", "query"), text_vector_feature(width))


def serialize(features: Iterable[Feature], row: dict[str, Any]) -> bytes:
    """Return `row` as a serialized ``tf.train.Example`` with just `features`; None becomes the missing value."""
    example = example_class()()
    message = example.features.feature
    for feature in features:
        value = row[feature.name]
        items: Sequence[Any] = (value,) if feature.size == 1 else value
        if feature.size > 1 and len(items) != feature.size:
            raise ValueError(f"{feature.name}: {len(items)} values where the spec says {feature.size}")
        entry = message[feature.name]
        if feature.dtype == "string":
            # Even an empty list must say of what it is one, or nothing would be written for the feature.
            entry.bytes_list.SetInParent()
            entry.bytes_list.value.extend([(item or "").encode("utf-8") for item in items])
        elif feature.dtype == "int64":
            entry.int64_list.SetInParent()
            entry.int64_list.value.extend([-1 if item is None else item for item in items])
        else:
            entry.float_list.SetInParent()
            entry.float_list.value.extend([math.nan if item is None else item for item in items])
    serialized: bytes = example.SerializeToString(deterministic=True)
    return serialized


def deserialize(features: Iterable[Feature], record: bytes) -> dict[str, Any]:
    """Return the row that `serialize` made `record` of; a missing number comes back as NaN or -1."""
    entries = example_class().FromString(record).features.feature
    row: dict[str, Any] = {}
    for feature in features:
        entry = entries[feature.name]
        if feature.dtype == "string":
            values = [value.decode("utf-8") for value in entry.bytes_list.value]
        else:
            values = list(entry.int64_list.value if feature.dtype == "int64" else entry.float_list.value)
        row[feature.name] = values[0] if feature.size == 1 else values
    return row


def parsing_spec(features: Iterable[Feature]) -> dict[str, Any]:
    """Return the ``tf.io.parse_example`` spec of `features`: dense for fixed sizes, ragged (int32 splits) for lists."""
    import tensorflow as tf

    spec: dict[str, Any] = {}
    for feature in features:
        dtype = tf.dtypes.as_dtype(feature.dtype)
        if feature.size == 0:
            spec[feature.name] = tf.io.RaggedFeature(dtype)
        else:
            spec[feature.name] = tf.io.FixedLenFeature([] if feature.size == 1 else [feature.size], dtype)
    return spec


def to_json(features: Iterable[Feature]) -> list[dict[str, Any]]:
    """Return `features` as plain data for the manifest."""
    return [dataclasses.asdict(feature) for feature in features]


def from_json(data: Iterable[dict[str, Any]]) -> tuple[Feature, ...]:
    """Return the features that a manifest lists."""
    return tuple(Feature(**entry) for entry in data)
