"""The list of files that a bundle carries, and whether the files are all there and as listed."""

import hashlib
import json
from pathlib import Path, PurePosixPath

from serving.model_server.status import Code, ServingError

FILE_LIST = "assets.extra/files.json"
_CHUNK = 1 << 20


def has_file_list(version_dir: Path) -> bool:
    """Whether a version directory carries a list of its files."""
    return (version_dir / FILE_LIST).is_file()


def check_files(version_dir: Path) -> None:
    """Raise FAILED_PRECONDITION naming the first file that is missing, of another size, or of another content.

    The list is ``{"files": {"relative/path": {"bytes": 12, "sha256": "…"}}}``.
    """
    try:
        listed = json.loads((version_dir / FILE_LIST).read_bytes())["files"]
        entries = sorted((str(name), int(entry["bytes"]), str(entry["sha256"])) for name, entry in listed.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _incomplete(f"its list {FILE_LIST} cannot be read ({type(error).__name__})") from None
    # All sizes before any content: a copy under way is found out without reading gigabytes.
    for name, size, _ in entries:
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise _incomplete(f"its list {FILE_LIST} names a file outside of it: {name}")
        path = version_dir / name
        if not path.is_file():
            raise _incomplete(f"{name} is missing")
        if path.stat().st_size != size:
            raise _incomplete(f"{name} has {path.stat().st_size} of {size} bytes")
    for name, _, sha256 in entries:
        if _sha256(version_dir / name) != sha256.lower():
            raise _incomplete(f"{name} differs from its listed sha256")


def fingerprint(version_dir: Path) -> tuple[int, int, int]:
    """Count, total bytes and newest change (ns) of a directory's files: differs after anything was written."""
    count = size = newest = 0
    try:
        for path in [version_dir, *version_dir.rglob("*")]:
            stat = path.stat()
            count += 1
            size += stat.st_size
            newest = max(newest, stat.st_mtime_ns)
    except OSError:
        return (-1, size, newest)
    return (count, size, newest)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _incomplete(why: str) -> ServingError:
    return ServingError(Code.FAILED_PRECONDITION, f"The version directory is not complete: {why}")
