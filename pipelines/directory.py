"""The data directory as a whole: written beside its place, finished by its manifest, put in place at once."""

import contextlib
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from apache_beam.io.filesystems import FileSystems

from pipelines.write import PARTS
from tfrs_shop.manifest import MANIFEST_NAME
from tfrs_shop.whole_directory import whole_directory, writable

REJECTED = "rejected"


def is_local(path: str) -> bool:
    """Tell whether `path` is on this machine's file system."""
    return "://" not in path


@contextlib.contextmanager
def output_directory(output: str, folders: Collection[str]) -> Iterator[str]:
    """Yield the directory that a job writes into; at the end it takes its place as `output`.

    On a local file system that is a sibling, and a rename puts it in place: the directory is whole or absent.
    Elsewhere the job writes in place, and the manifest, without which nothing is read, is written last.

    Args:
        output: a directory that is absent, empty, or was written by an earlier job.
        folders: every folder that this or an earlier job may write.
    """
    if not is_local(output):
        manifest = f"{output.rstrip('/')}/{MANIFEST_NAME}"
        if FileSystems.exists(manifest):
            FileSystems.delete([manifest])
        yield output.rstrip("/")
        return
    with writable(output), whole_directory(Path(output), {*folders, MANIFEST_NAME}) as staging:
        for folder in folders:
            (staging / folder).mkdir()
        yield str(staging)
        for folder in folders:
            with contextlib.suppress(OSError):  # it has files
                (staging / folder).rmdir()


def write_manifest(directory: str, manifest: str) -> None:
    """Remove the parts that it was made from, and write the manifest as the last file of `directory`."""
    FileSystems.delete([f"{directory}/{PARTS}"])
    with FileSystems.create(f"{directory}/{MANIFEST_NAME}") as stream:
        stream.write(manifest.encode("utf-8"))


def keep_rejected(directory: str, output: str) -> str:
    """Save the rejected rows of a job that stops, beside `output`, and return the file that they are in."""
    if not is_local(output):
        return f"{output.rstrip('/')}/{REJECTED}/{REJECTED}.jsonl"
    kept = Path(f"{output.rstrip('/')}.{REJECTED}.jsonl")
    with writable(kept):
        shutil.copyfile(Path(directory) / REJECTED / f"{REJECTED}.jsonl", kept)
    return str(kept)
