"""The storefront's files: how the embedded server gives them out, what they may hold, and how the demo opens them."""

import re
import subprocess
import sys

import pytest

from serving.model_server.flags import parse_flags
from serving.model_server.http_parser import Request
from serving.model_server.server import FrontDoor
from serving.model_server.storefront import FILES, Storefront
from tfrs_shop.demo import _show


def answered(method: str, path: str):
    door = FrontDoor(None, None, batching=False, storefront=Storefront())
    return door.answer(Request(method, path, {}, b"", True))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/storefront/", "text/html; charset=utf-8"),
        ("/storefront/?model=shop", "text/html; charset=utf-8"),
        ("/storefront/index.html", "text/html; charset=utf-8"),
        ("/storefront/app.js", "text/javascript; charset=utf-8"),
        ("/storefront/style.css", "text/css; charset=utf-8"),
        ("/storefront/icon.svg", "image/svg+xml"),
    ],
)
def test_the_pages_files_are_served_with_their_types(path, kind) -> None:
    answer = answered("GET", path)
    name = path.partition("?")[0].removeprefix("/storefront/") or "index.html"
    assert (answer.status, answer.content_type, answer.body) == (200, kind, (FILES / name).read_bytes())
    assert ("X-Content-Type-Options", "nosniff") in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/storefront/../model_server/flags.py",
        "/storefront/%2e%2e/model_server/flags.py",
        "/storefront/..%2f..%2fsetup.py",
        "/storefront//etc/passwd",
        "/storefront/__init__.py",
        "/storefront/nothing.js",
        "/storefronts/",
    ],
)
def test_no_path_leads_out_of_the_pages_directory(path) -> None:
    assert answered("GET", path).status == 404


def test_the_page_is_only_served_when_asked_for_and_only_read() -> None:
    assert parse_flags(["--model_base_path=/models"]).storefront is False
    assert parse_flags(["--model_base_path=/models", "--storefront"]).storefront is True
    door = FrontDoor(None, None, batching=False)
    assert door.answer(Request("GET", "/storefront/", {}, b"", True)).status == 404
    assert answered("POST", "/storefront/").status == 405
    moved = answered("GET", "/storefront?model=shop")
    assert (moved.status, dict(moved.headers)["Location"]) == (301, "/storefront/?model=shop")


def test_the_page_asks_nobody_but_the_server() -> None:
    for path in FILES.iterdir():
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", path.read_text()))
        assert addresses <= {"http://www.w3.org"}, path
        assert "innerHTML" not in path.read_text()


@pytest.mark.parametrize("screen", ["", ":0"])
def test_the_demo_opens_the_page_where_there_is_a_screen_and_stays_as_long_as_the_server(screen, monkeypatch) -> None:
    opened, said = [], []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setenv("DISPLAY", screen)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    process = subprocess.Popen([sys.executable, "-c", ""])
    _show("http://127.0.0.1:8501/storefront/", process, said.append)
    assert opened == (["http://127.0.0.1:8501/storefront/"] if screen else [])
    assert said == ["The server stays until Ctrl-C."]
    assert process.returncode == 0
