"""The paths of the REST API, matched as TensorFlow Serving matches them."""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from serving.model_server.status import Code, ServingError

API_PREFIX = re.compile(r"/v1/.*", re.IGNORECASE)
_PREDICTION = re.compile(
    r"/v1/models/([^/:]+)(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)", re.IGNORECASE
)
_STATUS = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?(?:/(metadata))?", re.IGNORECASE
)


class Route(NamedTuple):
    """What a path asks for: a method (predict, classify, regress), or "metadata", or "status"."""

    action: str
    model: str
    version: int | None = None
    label: str | None = None


class VersionOutOfRangeError(ServingError):
    """A version number beyond int64; TensorFlow Serving answers it with an empty body."""


def parse_route(method: str, path: str) -> Route:
    """The route of a request below ``/v1/``; the path includes the query string, if there is one."""
    matched = None
    if method == "POST":
        matched = _PREDICTION.fullmatch(path)
    elif method == "GET":
        matched = _STATUS.fullmatch(path)
    malformed = ServingError(Code.INVALID_ARGUMENT, f"Malformed request: {method} {path}")
    if matched is None:
        raise malformed
    model, version, label, action = matched.groups()
    number = None
    if version is not None:
        number = int(version) if len(version.lstrip("0")) <= 19 else 2**63
        if number >= 2**63:
            raise VersionOutOfRangeError(Code.INVALID_ARGUMENT, f"Failed to convert version: {version} to numeric.")
    # The names of methods match in any case but are told apart in lower case only.
    if method == "POST" and action not in ("predict", "classify", "regress"):
        raise malformed
    if method == "GET":
        action = "metadata" if action == "metadata" else "status"
    return Route(action, _decoded(model), number, _decoded(label) if label is not None else None)


def _decoded(text: str | None) -> str:
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape") if text else ""
