"""A local server of Amazon Reviews 2023: small files in the published format, and faults on demand.

Its fixtures are ``server`` and ``get``; a test module imports ``server_fixture`` and ``get_fixture`` to have them.
"""

import contextlib
import gzip
import hashlib
import http.server
import json
import re
import threading
from types import SimpleNamespace

import pytest

from tfrs_shop.sources import download
from tfrs_shop.sources.amazon_2023 import amazon_2023
from tfrs_shop.sources.download import UnreachableError

REVIEWS_PATH = "/raw/review_categories/All_Beauty.jsonl.gz"
META_PATH = "/raw/meta_categories/meta_All_Beauty.jsonl.gz"
NAMES = ["All_Beauty.jsonl.gz", "download.json", "meta_All_Beauty.jsonl.gz"]


def review(user, asin, parent, milliseconds, rating=5.0):
    return {
        "rating": rating, "title": "Such a lovely scent", "text": "It smells good.<br />Will buy again.", "images": [],
        "asin": asin, "parent_asin": parent, "user_id": user, "timestamp": milliseconds, "helpful_vote": 0,
        "verified_purchase": True,
    }  # fmt: skip


def product(parent, title, **more):
    return {
        "main_category": "All Beauty", "title": title, "average_rating": 4.8, "rating_number": 10, "features": [],
        "description": [], "price": None, "images": [], "videos": [], "store": "Howard Products", "categories": [],
        "details": {"Package Dimensions": "7.1 x 5.5 x 3 inches"}, "parent_asin": parent, "bought_together": None,
        **more,
    }  # fmt: skip


REVIEW_ROWS = [
    review("AGKH", "B00YQ6X8EO", "B00YQ6X8EO", 1588687728923),
    review("AGKH", "B07PNNCSP9", "B0PARENT01", 1588687800000, 4.0),
    review("AGKH", "B081TJ8YS3", "B081TJ8YS3", 1589665266052),
    review("AGKH", "B0CLEANER1", "B0CLEANER1", 1589665999000, 1.0),
    review("AE74", "B00YQ6X8EO", "B00YQ6X8EO", 1601234567890),
    review("AE74", "B0NOWHERE1", "B0NOWHERE1", 1601234567999),
]
META_ROWS = [
    product("B00YQ6X8EO", "Herbivore Sea Mist", price=19.5, description=["A mist.", "For hair."], features=["Vegan"]),
    product("B0PARENT01", "Yes to Tomatoes", price="None", categories=["Beauty", "Face"]),
    product("B081TJ8YS3", "Silk Scrunchies", store=None),
    product("B0CLEANER1", "Brush Cleaner", price="—"),
]


def packed(rows, level=9):
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), level, mtime=0)


class Shelf:
    """What the server holds, how it misbehaves, and what it was asked."""

    def __init__(self):
        # level 0 makes the file long enough to be cut at a place that is easy to name
        self.files = {REVIEWS_PATH: packed(REVIEW_ROWS, 0), META_PATH: packed(META_ROWS)}
        self.etags = {}
        self.knows_ranges = True
        self.sends_dates = False
        self.faults = []
        self.asked = []

    def etag(self, path):
        return self.etags.get(path, f'"{hashlib.md5(self.files[path]).hexdigest()}"')

    def sent(self, path=REVIEWS_PATH):
        """Return (Range header, status, bytes of the body) of each request for a path."""
        return [row[1:] for row in self.asked if row[0] == path]


class Handler(http.server.BaseHTTPRequestHandler):
    shelf: Shelf

    def do_GET(self):
        fault = self.shelf.faults.pop(0) if self.shelf.faults else {}
        body = self.shelf.files.get(self.path)
        if body is None or "status" in fault:
            self.answer(fault.get("status", 404), fault.get("headers", {}), b"")
            return
        etag = self.shelf.etag(self.path)
        headers = {"ETag": etag} if etag else {}
        if self.shelf.sends_dates:
            headers["Last-Modified"] = "Thu, 16 Jan 2025 23:28:26 GMT"
        if etag and self.headers["If-None-Match"] == etag:
            self.answer(304, headers, b"")
            return
        status, start = 200, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        valid = self.headers["If-Range"] in (None, etag, headers.get("Last-Modified", ""))
        if asked and self.shelf.knows_ranges and (valid or fault.get("ignores_if_range")):
            start = int(asked[1])
            if start >= len(body):
                self.answer(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
                return
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        length = str(len(body) - start + fault.get("wrong_length", 0))
        # a cut connection: fewer bytes than announced, then the end
        self.answer(status, {**headers, "Content-Length": length}, body[start:][: fault.get("bytes", len(body))])
        if "holds_until" in fault:
            fault["holds_until"].wait(30)

    def answer(self, status, headers, body):
        self.shelf.asked.append((self.path, self.headers["Range"], status, len(body)))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client may hang up
            self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@pytest.fixture(name="server")
def server_fixture(monkeypatch):
    """A server of its own for each test, with ``shelf``, ``url`` and the ``waits`` (seconds) between attempts."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    waits = []
    monkeypatch.setattr(download, "sleep", waits.append)
    shelf = Shelf()
    handler = type("ShelfHandler", (Handler,), {"shelf": shelf})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield SimpleNamespace(shelf=shelf, url=f"http://127.0.0.1:{running.server_port}", waits=waits)
        running.shutdown()
        thread.join()


@pytest.fixture(name="get")
def get_fixture(server, tmp_path):
    def get(**more):
        return amazon_2023(tmp_path / "raw", "All_Beauty", **{"base_url": server.url, **more})

    return get


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def break_off(server, get, size=1000):
    """Let every attempt fail after `size` bytes, so that a part is left."""
    server.shelf.faults = [{"bytes": size}] + [{"status": 503}] * 5
    with pytest.raises(UnreachableError):
        get()
    server.shelf.asked.clear()
    server.shelf.faults.clear()
    server.waits.clear()
