"""What a refresh keeps: records of a bundle's own data directory, for what the new files do not say."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from tfrs_shop.features import Feature, deserialize
from tfrs_shop.manifest import Manifest
from tfrs_shop.schema import joined_product_text


@dataclasses.dataclass(frozen=True)
class Kept:
    """A data directory to take from.

    Attributes:
        directory: where it is.
        manifest: what it says.
        has_events: whether new events are given, so that nothing that is counted from events is kept.
    """

    directory: str
    manifest: Manifest
    has_events: bool

    @property
    def profile(self) -> tuple[Feature, ...]:
        """The features of user attributes."""
        return tuple(feature for feature in self.manifest.features["users"] if feature.name.startswith("profile_"))

    def records(self, pipeline: Any, folder: str) -> Any:
        """Return the rows of `folder`: feature name to value."""
        files = [f"{self.directory}/{folder}/{entry['name']}" for entry in self.manifest.files.get(folder, ())]
        features = self.manifest.features.get(folder, ())
        return (
            pipeline
            | f"KeptFiles_{folder}" >> beam.Create(files)
            | f"ReadKept_{folder}" >> beam.io.ReadAllFromTFRecord()
            | f"ParseKept_{folder}" >> beam.Map(_parsed, features)
        )

    def counts(self, products: Any) -> Any:
        """Return ``(product id, its count of training events)`` of kept rows."""
        return products | "KeptCounts" >> beam.Map(lambda row: (row["product_id"], row["train_count"]))

    def profiles(self, pipeline: Any) -> Any:
        """Return ``(user id, attributes)`` of each user."""
        return self.records(pipeline, "users") | "KeptProfiles" >> beam.Map(_profile, self.profile)

    def vectors(self, products: Any) -> Any:
        """Return ``(text, vector)`` of all texts that are encoded already."""
        of_products = products | "KeptVectors" >> beam.Map(_product_vector)
        queries = self.records(products.pipeline, "queries")
        of_queries = queries | "KeptQueryVectors" >> beam.Map(lambda row: (row["query"], row["text_vector"]))
        return (of_products, of_queries) | "AllKeptVectors" >> beam.Flatten()


@beam.typehints.with_output_types(tuple[str, Any])
class FromCache(beam.DoFn):
    """Yields ``(text, vector)`` of the texts asked for that have one; those that have none go to the tag ``new``."""

    def process(self, element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[Any]:
        """Look at one text."""
        text, groups = element
        if not any(True for _ in groups["asked"]):
            return
        vector = next(iter(groups["cached"]), None)
        if vector is None:
            yield beam.pvalue.TaggedOutput("new", text)
        else:
            yield text, vector


def _parsed(record: bytes, features: tuple[Feature, ...]) -> dict[str, Any]:
    return deserialize(features, record)


def _profile(row: dict[str, Any], features: tuple[Feature, ...]) -> tuple[str, dict[str, Any]]:
    # A number that is missing comes back as NaN.
    return row["user_id"], {
        feature.source: None if (value := row[feature.name]) != value else value for feature in features
    }


def _product_vector(row: dict[str, Any]) -> tuple[str, list[float]]:
    # The last prefix of a path is the whole path.
    return joined_product_text(row["title"], row["brand"], (row["category"] or [""])[-1]), row["text_vector"]
