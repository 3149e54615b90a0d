"""A directory that is whole or absent: written beside its place, then renamed into it."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tfrs_shop.errors import UserError


def check_replaceable(output: Path, names: Collection[str]) -> None:
    """Raise UserError unless `output` is absent, empty, or holds nothing but files called `names`.

    A source replaces what it wrote itself on an earlier run, never somebody's other files.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"{output} is a file; give a directory to write into.")
    foreign = sorted(entry.name for entry in output.iterdir() if entry.name not in names)
    if foreign:
        raise UserError(f"{output} holds other files ({foreign[0]}); give a new or empty directory.")


def move_into_place(written: Path, output: Path) -> None:
    """Rename the directory `written` to `output`; an `output` of before goes, and is never half there."""
    if not output.exists():
        os.replace(written, output)
        return
    # A directory cannot be renamed onto one that has files, so the old one steps aside first.
    aside = Path(tempfile.mkdtemp(prefix=f".{output.name}.old-", dir=output.parent))
    os.replace(output, aside / output.name)
    os.replace(written, output)
    shutil.rmtree(aside)


@contextmanager
def writable(output: str | Path) -> Iterator[None]:
    """Turn what the file system says against writing `output` into a UserError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--output {output}: cannot be written ({reason}); give a directory that can.") from None


@contextmanager
def whole_directory(output: Path, names: Collection[str]) -> Iterator[Path]:
    """Yield a temporary sibling of `output` to write `names` into; renamed to `output` at the end, removed on error."""
    # abspath, as "." has no name to build the sibling's from
    output = Path(os.path.abspath(output))
    check_replaceable(output, names)
    with partial_directory(output) as written:
        yield written
        move_into_place(written, output)


@contextmanager
def partial_directory(output: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `output`, for the caller to rename into its place; it is removed on error."""
    output.parent.mkdir(parents=True, exist_ok=True)
    written = Path(tempfile.mkdtemp(prefix=f".{output.name}.partial-", dir=output.parent))
    try:
        written.chmod(0o755)  # mkdtemp's 0700 would keep other users (a server, a Beam worker) out
        yield written
    except BaseException:
        shutil.rmtree(written, ignore_errors=True)
        raise


def move_to_number(written: Path, parent: Path, next_number: Callable[[], int]) -> Path:
    """Rename the directory `written` to ``parent/N`` and return that, N a number that nobody took meanwhile."""
    while True:
        place = parent / str(next_number())
        try:
            written.rename(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return place
