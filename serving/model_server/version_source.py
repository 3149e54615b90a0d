"""The version directories under a model's base path."""

import re
from pathlib import Path

_VERSION_NAME = re.compile(r"\s*\+?(\d+)\s*")
_INT64_MAX = 2**63 - 1


def scan_versions(base_path: Path) -> dict[int, Path] | None:
    """Every child of `base_path` whose name is a whole number, by that number; None where the path is missing.

    >>> scan_versions(Path("/no/such/base/path")) is None
    True
    """
    try:
        children = sorted(base_path.iterdir())
    except OSError:
        return None
    found = {}
    for child in children:
        matched = _VERSION_NAME.fullmatch(child.name)
        if matched and int(matched.group(1)) <= _INT64_MAX:
            found[int(matched.group(1))] = child
    return found
