"""Input files: which ones a pattern means, in what format they are, and what columns they have."""

import os
from collections.abc import Iterable

from apache_beam.io.filesystems import FileSystems

from pipelines.rows import FileError, file_format, header, read_rows
from pipelines.values import RowError
from tfrs_shop.errors import UserError
from tfrs_shop.mapping import TableMapping

SAMPLED_JSON_ROWS = 1000


def match_files(flag: str, patterns: Iterable[str]) -> list[str]:
    """Return the files that `patterns` (paths or globs) match, sorted.

    Raises:
        UserError: a pattern matches nothing, or a file's ending says no known format.
    """
    names = match_names(flag, patterns)
    for name in names:
        file_format(name)
    return names


def match_names(flag: str, patterns: Iterable[str]) -> list[str]:
    """Return the files, of whatever format, that `patterns` match, sorted.

    Raises:
        UserError: a pattern matches nothing.
    """
    found: set[str] = set()
    for given in patterns:
        # Beam finds nothing for a pattern without a folder.
        pattern = given if "://" in given or os.path.dirname(given) else os.path.join(".", given)
        try:
            matches = FileSystems.match([pattern])[0].metadata_list
        except Exception as error:  # Beam's file systems raise what their clients raise.
            raise UserError(f"{flag} {given}: cannot be looked up ({one_line(error)}); check the address.") from None
        names = {match.path for match in matches if not os.path.isdir(match.path)}
        if not names:
            what = "is a directory; name its files, as in" if os.path.isdir(given) else "no such file; check"
            raise UserError(
                f"{flag} {given}: {what} {os.path.join(given, '*.csv') if os.path.isdir(given) else 'the path'}."
            )
        found |= names
    return sorted(found)


def column_names(path: str, mapping: TableMapping) -> list[str]:
    """Return the columns of `path`: its header, its schema, or the keys of its first 1,000 JSON lines.

    Raises:
        UserError: the file is empty, cannot be read, or names a column twice.
    """
    names: list[str] = []
    try:
        if file_format(path) == "json":
            for number, (_, row) in enumerate(read_rows(path, mapping)):
                if number == SAMPLED_JSON_ROWS:
                    break
                if isinstance(row, dict):
                    names.extend(name for name in row if name not in names)
        else:
            names = header(path, mapping)
    except FileError as error:
        raise UserError(f"{path}: {error}") from None
    except RowError as error:
        raise UserError(f"{path}: row 1 {error.reason}.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)}).") from None
    if not names and next(iter(read_rows(path, mapping)), None) is None:
        raise UserError(f"{path}: is empty; it needs at least a row.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: names the column '{twice}' twice in its header; rename one.")
    for name in names:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise UserError(f"{path}: the column name {name!r} is not UTF-8; save the file as UTF-8.") from None
    return names


def one_line(error: BaseException) -> str:
    """Return what `error` says, cut to its first line."""
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0]
