"""One file over HTTP into a ``.part`` file that survives a kill: the next call goes on where this one ended.

Beside ``X.part`` stands ``X.part.json`` with what the server said about the file (ETag, date, size). A request for the
rest carries it (If-Range, RFC 9110 section 13.1.5), so that two versions of a file are never glued together: the
server sends the whole file anew when it has changed, or when it knows no ranges.
"""

import email.utils
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any

from tfrs_shop.errors import UserError

Progress = Callable[[str], None]
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each new attempt; one more attempt than waits
LONGEST_WAIT = 60.0  # seconds, however long the server's Retry-After is
TIMEOUT = 60.0  # seconds without a byte
CHUNK = 1 << 18
SECONDS_BETWEEN_LINES = 5.0
WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class UnreachableError(UserError):
    """The server did not answer, or not to the end, in any attempt."""


class _PassingError(Exception):
    """One attempt failed for a reason that may pass; `wait` is the server's wish in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Remote:
    """What a server said about a file; "" and None where it said nothing."""

    url: str
    etag: str = ""
    last_modified: str = ""
    size: int | None = None

    @property
    def validator(self) -> str:
        """What If-Range may carry: a strong ETag, else the date, else nothing."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def contradicts(self, other: "Remote") -> bool:
        """Whether anything that both say differs."""
        if self.etag and other.etag:
            return self.etag != other.etag
        dates, sizes = {self.last_modified, other.last_modified} - {""}, {self.size, other.size} - {None}
        return len(dates) > 1 or len(sizes) > 1

    def is_surely(self, other: "Remote") -> bool:
        """Whether both are known to be the same version: by ETag, or by date and size."""
        if self.etag and other.etag:
            return self.etag == other.etag
        return bool(self.last_modified) and (self.last_modified, self.size) == (other.last_modified, other.size)


def fetch(url: str, part: Path, progress: Progress, *, kept: Remote | None = None) -> Remote | None:
    """Download `url` into the file `part`, going on after what is there already of the same version.

    Args:
        url: an http or https address.
        part: the file to fill; of an earlier call it holds the beginning, of this call the whole.
        progress: takes one line.
        kept: the version that the caller has in whole; if the server still has it, nothing is downloaded.

    Returns:
        What the server said about the file in `part`, or None if it is still `kept`.

    Raises:
        UnreachableError: no attempt got through; what has arrived stays in `part`.
        UserError: the server has no such file, or the disk has no room.
    """
    if not re.match(r"https?://[^/]", url):
        raise UserError(f"{url} is no address to download from; it should begin with https:// or http://.")
    failures, farthest = 0, _size(part)
    while True:
        try:
            return _attempt(url, part, progress, kept)
        except _PassingError as failure:
            # Only what was never reached before counts as progress: a server that cuts each answer at the same place
            # and knows no ranges would otherwise be asked for ever.
            failures = 1 if _size(part) > farthest else failures + 1
            farthest = max(farthest, _size(part))
            if failures > len(WAITS):
                raise UnreachableError(
                    f"cannot download {url} ({failure}); check the network or the proxy and give the same command "
                    f"again{', it goes on where this one ended' if farthest else ''}."
                ) from None
            wait = min(max(WAITS[failures - 1], failure.wait), LONGEST_WAIT)
            progress(f"{_name(url)}: {failure}; next attempt in {wait:.0f} s ({failures} of {len(WAITS)})")
            sleep(wait)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk answers into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}.") from None


def discard(part: Path) -> None:
    """Remove a part and what is known about it."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, progress: Progress, kept: Remote | None) -> Remote | None:
    begun = _begun(url, part)
    offset = _size(part) if begun else 0
    # "identity": these are gzip files as they are, and must not be packed once more on the way
    headers = {"Accept-Encoding": "identity", "User-Agent": "tfrs-shop"}
    if begun and offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": begun.validator}
    elif kept and kept.etag:
        headers["If-None-Match"] = kept.etag
    elif kept and kept.last_modified:
        headers["If-Modified-Since"] = kept.last_modified
    with closing(_open(urllib.request.Request(url, headers=headers))) as answer:
        status, found = answer.status, _remote(url, answer)
        # A server may ignore the condition, and send the version that is here already.
        if kept and (status == 304 or (status == 200 and kept.is_surely(found))):
            return None
        if status == 416:
            # There is nothing after the end: the part is whole, and was only not put into its place any more.
            if begun and begun.size == offset and not begun.contradicts(found):
                return begun
            discard(part)
            raise _PassingError("the beginning that is here is not of the server's file any more")
        if status == 200:
            if offset:
                progress(f"{_name(url)}: starts anew, as the file has changed or the server knows no ranges")
            offset, begun = 0, found
            _start_anew(part, found)
        elif not begun or status != 206 or begun.contradicts(found) or _start(answer) != offset:
            discard(part)
            raise _PassingError(f"the server answered {status} with something else than what was asked for")
        _check_room(part, begun, offset)
        _append(answer, part, offset, begun.size, f"{_name(url)}:", progress)
    return begun


def _open(request: urllib.request.Request) -> Any:
    """Return the server's answer if it has one of the status codes 200, 206, 304 and 416."""
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code in (304, 416):
            return error
        error.close()
        reason = f"the server answered {error.code} {error.reason}".rstrip()
        if error.code in WORTH_ANOTHER_TRY:
            raise _PassingError(reason, _retry_after(error.headers.get("Retry-After", ""))) from None
        raise UserError(f"cannot download {request.full_url}: {reason}; is the address right?") from None
    except urllib.error.URLError as error:
        raise _PassingError(_words(error.reason)) from None
    except (http.client.InvalidURL, ValueError) as error:
        raise UserError(f"{request.full_url} is no address to download from ({_words(error)}).") from None
    except (OSError, http.client.HTTPException) as error:
        raise _PassingError(_words(error)) from None


def _append(answer: IO[bytes], part: Path, offset: int, size: int | None, name: str, progress: Progress) -> None:
    """Write the answer's body to the end of `part`; raise _PassingError if it is shorter than `size` bytes in all."""
    last_line, arrived = monotonic(), offset
    of_all = f" of {_megabytes(size)}" if size else ""
    progress(f"{name} {f'goes on at {_megabytes(offset)}' if offset else 'downloading'}{of_all}")
    with writing(part), part.open("ab") as stream:
        while True:
            try:
                chunk = answer.read(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _PassingError(_words(error)) from None
            if not chunk:
                break
            stream.write(chunk)
            stream.flush()  # so that a kill costs at most the chunk that is on its way
            arrived += len(chunk)
            if monotonic() - last_line >= SECONDS_BETWEEN_LINES:
                last_line = monotonic()
                progress(f"{name} {_megabytes(arrived)}{of_all}{f' ({arrived / size:.0%})' if size else ''}")
    if size is not None and arrived < size:
        raise _PassingError(f"the connection ended after {arrived:,} of {size:,} bytes")


def _check_room(part: Path, remote: Remote, offset: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if remote.size is not None and remote.size - offset > free:
        raise UserError(
            f"{part.parent} has room for {_megabytes(free)}, and {_name(remote.url)} needs "
            f"{_megabytes(remote.size - offset)} more; make room or give another directory."
        )


def _start_anew(part: Path, remote: Remote) -> None:
    # In this order: a part must never stand beside what is known about another version.
    with writing(part):
        discard(part)
        written = part.with_name(f"{part.name}.json.new")
        written.write_text(json.dumps(asdict(remote)) + "\n", encoding="utf-8")
        os.replace(written, _state_path(part))


def _begun(url: str, part: Path) -> Remote | None:
    """Return what the beginning in `part` is of, if it can be gone on with."""
    try:
        remote = Remote(**json.loads(_state_path(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return remote if remote.url == url and remote.validator and part.exists() else None


def _remote(url: str, answer: Any) -> Remote:
    head = answer.headers
    length = _total(answer) if answer.status in (206, 416) else head.get("Content-Length", "")
    size = int(length) if length.isdecimal() else None
    return Remote(url, head.get("ETag", ""), head.get("Last-Modified", ""), size)


def _total(answer: Any) -> str:
    found = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return found[2] if found else ""


def _start(answer: Any) -> int:
    found = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return int(found[1]) if found and found[1] else -1


def _retry_after(text: str) -> float:
    """Return the seconds of a Retry-After header, which has them or a date."""
    if text.isdecimal():
        return float(text)
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError):
        return 0.0


def _words(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
