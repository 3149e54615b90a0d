"""The manifest ``dataset.json``: all that is known of a data directory, which is read by it alone."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from tfrs_shop.errors import UserError
from tfrs_shop.features import Feature, from_json, to_json

MANIFEST_NAME = "dataset.json"
MANIFEST_VERSION = 1
FORMAT = "tfrs_shop dataset"
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What ``dataset.json`` says.

    Attributes:
        source: the files read, the mapping and the options, for people.
        split: the rule and its parameters.
        order_by: the field that orders a user's events.
        max_history: the longest history in an example.
        features: record kind (``examples``, ``products``, ``users``, ``queries``) to its feature spec.
        vocabularies: name to ``{"file", "size"}``; a vocabulary file has one value a line, most frequent first.
        statistics: numbers over products and events: count, mean, std, min, max, quantiles.
        counts: rows read, kept, rejected; users, products, examples by split; event types; reasons of rejection.
        text: the frozen text encoder whose vectors the records hold, or {}.
        files: folder to a list of ``{"name", "bytes", "records"}``; of a vocabulary, records are its values.
        versions: of the package and of Beam.
    """

    source: dict[str, Any]
    split: dict[str, Any]
    order_by: str
    max_history: int
    features: dict[str, tuple[Feature, ...]]
    vocabularies: dict[str, dict[str, Any]]
    statistics: dict[str, Any]
    counts: dict[str, Any]
    text: dict[str, Any]
    files: dict[str, list[dict[str, Any]]]
    versions: dict[str, str]

    def to_json(self) -> str:
        """Return the manifest as the text of ``dataset.json``."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data["features"] = {kind: to_json(features) for kind, features in self.features.items()}
        return json.dumps({"format": FORMAT, "version": MANIFEST_VERSION, **data}, indent=2) + "\n"


def load_manifest(directory: str | Path) -> Manifest:
    """Read the manifest of `directory` and check that every file it lists is there, whole.

    Raises:
        UserError: the directory is missing or is no data directory, its manifest is of another version or broken,
            or a file is missing or cut off.
    """
    directory = Path(directory)
    path = directory / MANIFEST_NAME
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory; make one with 'tfrs-shop preprocess --output {directory}'.")
    if not path.exists():
        raise UserError(
            f"{directory}: has no {MANIFEST_NAME}, so it is no finished data directory; "
            "make it with 'tfrs-shop preprocess'."
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data.pop("version")
        if data.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        if version != MANIFEST_VERSION:
            raise UserError(
                f"{path}: manifest version {version!r}, but this tfrs_shop reads version {MANIFEST_VERSION}; "
                "run 'tfrs-shop preprocess' again with this version."
            )
        data["features"] = {kind: from_json(features) for kind, features in data["features"].items()}
        manifest = Manifest(**data)
        files = [
            (directory / folder / entry["name"], int(entry["bytes"]))
            for folder, entries in manifest.files.items()
            for entry in entries
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is not a manifest ({error}); run 'tfrs-shop preprocess' again.") from None
    for file, size in files:
        check_file(file, size)
    return manifest


def check_file(path: Path, size: int) -> None:
    """Raise ``UserError`` unless `path` is a file of `size` bytes."""
    if not path.exists():
        raise UserError(f"{path}: is missing, though the manifest lists it; run 'tfrs-shop preprocess' again.")
    found = path.stat().st_size
    if found != size:
        raise UserError(
            f"{path}: has {found:,} bytes where the manifest says {size:,}: it is cut off or changed; "
            "run 'tfrs-shop preprocess' again."
        )
