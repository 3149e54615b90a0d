"""Writing: TFRecords, vocabularies, small JSON parts; and a finished directory put in place at once."""

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from tfrs_shop.errors import UserError
from tfrs_shop.features import Feature, serialize
from tfrs_shop.manifest import MANIFEST_NAME
from tfrs_shop.whole_directory import whole_directory

PARTS = "_parts"


class WriteRecords(beam.PTransform):
    """Writes rows as TFRecords of ``tf.train.Example`` into ``directory/folder/``."""

    def __init__(self, directory: str, folder: str, features: tuple[Feature, ...], shards: int):
        super().__init__()
        self.path = f"{directory}/{folder}/{folder}"
        self.features = features
        self.shards = shards

    def expand(self, pcoll: Any) -> Any:
        """Serialize and write."""
        return (
            pcoll
            | "Serialize" >> beam.Map(lambda row, features: serialize(features, row), self.features)
            | "Write"
            >> beam.io.WriteToTFRecord(self.path, file_name_suffix=".tfrecord", num_shards=self.shards)
        )


class WriteLines(beam.PTransform):
    """Writes lines into one file."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def expand(self, pcoll: Any) -> Any:
        """Write."""
        return pcoll | "Write" >> beam.io.WriteToText(self.path, num_shards=1, shard_name_template="")


class WriteJson(beam.PTransform):
    """Writes elements as JSON lines into one file."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def expand(self, pcoll: Any) -> Any:
        """Serialize and write."""
        return (
            pcoll
            | "ToJson" >> beam.Map(lambda element: json.dumps(element, ensure_ascii=False, sort_keys=True))
            | WriteLines(self.path)
        )


def read_part(directory: str, name: str) -> list[Any]:
    """Return the elements that ``WriteJson`` wrote as the part `name`."""
    with FileSystems.open(f"{directory}/{PARTS}/{name}.jsonl") as stream:
        return [json.loads(line) for line in stream.read().decode("utf-8").splitlines()]


def list_files(directory: str, folders: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return folder to the name and size of each of its files, sorted."""
    return {
        folder: sorted(
            (
                {"name": match.path.replace("\\", "/").rsplit("/", 1)[1], "bytes": match.size_in_bytes}
                for match in FileSystems.match([f"{directory}/{folder}/*"])[0].metadata_list
            ),
            key=lambda entry: entry["name"],
        )
        for folder in folders
    }


def is_local(path: str) -> bool:
    """Tell whether `path` is on this machine's file system."""
    return "://" not in path


@contextlib.contextmanager
def output_directory(output: str, folders: Iterable[str]) -> Iterator[str]:
    """Yield the directory that a job writes into; at the end it takes its place as `output`.

    On a local file system that is a sibling, and a rename puts it in place: the directory is whole or absent.
    Elsewhere the job writes in place, and the manifest, without which nothing is read, is written last.
    """
    if not is_local(output):
        yield output.rstrip("/")
        return
    try:
        with whole_directory(Path(output), {*folders, MANIFEST_NAME}) as staging:
            yield str(staging)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror or error}).") from None


def write_manifest(directory: str, manifest: str) -> None:
    """Remove the parts that it was made from, and write the manifest as the last file of `directory`."""
    FileSystems.delete([f"{directory}/{PARTS}"])
    with FileSystems.create(f"{directory}/{MANIFEST_NAME}") as stream:
        stream.write(manifest.encode("utf-8"))


def keep_rejected(directory: str, output: str) -> str:
    """Save the rejected rows of a job that stops, beside `output`, and return where they are."""
    if not is_local(output):
        return f"{output.rstrip('/')}/rejected"
    kept = Path(f"{output.rstrip('/')}.rejected")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(Path(directory) / "rejected", kept)
    return str(kept)
