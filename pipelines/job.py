"""The job: all that is decided before the graph is built."""

import dataclasses
from typing import TYPE_CHECKING, Any

from pipelines.examples import SplitRule
from pipelines.kept import Kept
from pipelines.row_parser import RowParser
from tfrs_shop import features as spec
from tfrs_shop.errors import UserError
from tfrs_shop.manifest import SPLITS
from tfrs_shop.mapping import Mapping

if TYPE_CHECKING:
    from tfrs_shop.text.minilm import EncoderHandles

TABLES = ("events", "products", "users")


@dataclasses.dataclass(frozen=True)
class Job:
    """What is read, how it is split, and what is written.

    Attributes:
        files: table to its files.
        mapping: how the files' columns become fields.
        parsers: table to the parser of its rows.
        rule: how examples are made.
        order_by: ``timestamp`` or ``position``, or "" without events.
        cuts_by_share: by time, where no times are given: the shares of events in validation and test.
        profile: the features of user attributes.
        max_events_per_user: how many of a user's events are kept, the newest.
        max_vocabulary: most values of one vocabulary.
        shards: files of each record folder.
        handles: the text encoder, or None.
        text: what the manifest says of the text encoder.
        output: the directory that is written into.
        kept: of a refresh: the data directory of the bundle.
    """

    files: dict[str, list[str]]
    mapping: Mapping
    parsers: dict[str, RowParser]
    rule: SplitRule
    order_by: str
    cuts_by_share: tuple[float, float] | None
    profile: tuple[spec.Feature, ...]
    max_events_per_user: int
    max_vocabulary: int
    shards: int
    handles: "EncoderHandles | None"
    text: dict[str, Any]
    output: str = ""
    kept: Kept | None = None

    @property
    def features(self) -> dict[str, tuple[spec.Feature, ...]]:
        """The feature spec of each record kind."""
        vector = (spec.text_vector_feature(self.text["width"]),) if self.handles else ()
        kinds = {
            "products": (*spec.PRODUCT_FEATURES, *vector),
            "users": (*spec.USER_FEATURES, *self.profile),
            "examples": (*spec.EXAMPLE_FEATURES, *self.profile),
            "transitions": spec.EDGE_FEATURES,
            "complements": spec.EDGE_FEATURES,
            "lexicon": spec.LEXICON_FEATURES,
        }
        if self.handles:
            kinds["queries"] = spec.query_features(self.text["width"])
        return kinds

    @property
    def catalogue_from_events(self) -> bool:
        """Whether products are read out of the rows of the events files."""
        return "products" not in self.files

    def folder_features(self, folder: str) -> tuple[spec.Feature, ...]:
        """Return the feature spec of the records of `folder`."""
        return self.features["examples" if folder in SPLITS else folder]


def text_settings(encoder: str, preprocessor: str, length: int) -> tuple["EncoderHandles | None", dict[str, Any]]:
    """Return the encoder's handles and what the manifest says of it, for the flags given."""
    if encoder == "none":
        return None, {}
    from tfrs_shop.text import EncoderHandles, default_encoder, encode_texts

    handles = default_encoder() if encoder == "default" else EncoderHandles(preprocessor, encoder)
    try:
        width = encode_texts(["width"], handles=handles, sequence_length=length).shape[1]
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise UserError(
            f"--text_encoder {encoder}: cannot be loaded ({reason}); give a TF-Hub handle or path."
        ) from None
    settings = {"encoder": encoder, "preprocessor": preprocessor, "width": width, "sequence_length": length}
    return handles, settings
