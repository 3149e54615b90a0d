"""A browser, and a server with made-up answers, for the tests of the storefront; holds no tests itself."""

import contextlib
import dataclasses
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from serving.model_server.http_parser import Request
from serving.model_server.storefront import Storefront

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Sums up what moves without anybody having touched the page.
WATCH_SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""

# Contrast by WCAG 2.2 of each visible text with what is painted behind it; returns those below what AA wants.
POOR_CONTRAST = """
() => {
  const rgba = (text) => text.match(/[\\d.]+/g).map(Number).concat([1]).slice(0, 4);
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat([1]);
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const poor = [];
  const check = (node, colour, what) => {
    const [a, b] = [light(over(rgba(colour), behind(node))), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${what}: ${ratio.toFixed(2)}`);
  };
  let checked = 0;
  for (const node of document.body.querySelectorAll("*")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || node.disabled || node.closest("[aria-hidden], noscript") || !node.checkVisibility()) continue;
    check(node, getComputedStyle(node).color, node.textContent.slice(0, 40));
    checked += 1;
  }
  for (const node of document.querySelectorAll("[placeholder]")) {
    check(node, getComputedStyle(node, "::placeholder").color, node.placeholder);
  }
  return {checked, poor};
}
"""


def browser_path() -> str:
    """Return where Chromium is, or skip the test, saying so."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    return found


@contextlib.contextmanager
def running_browser() -> Iterator[Any]:
    """A headless Chromium."""
    path = browser_path()
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    # Its sandbox does not run as root.
    flags = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@dataclasses.dataclass(frozen=True)
class Signature:
    """A made-up signature: names of inputs and outputs, and what a request's inputs are answered with."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    answer: Callable[[dict[str, Any]], dict[str, Any]]
    seconds: Callable[[dict[str, Any]], float] = lambda inputs: 0.0


@contextlib.contextmanager
def stub_server(signatures: dict[str, Signature], *, model: str = "shop") -> Iterator[str]:
    """Serve the page and made-up answers, without CORS; gives the origin."""
    page = Storefront()
    tensors = {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}}
    described = {
        name: {
            "inputs": dict.fromkeys(signature.inputs, tensors),
            "outputs": dict.fromkeys(signature.outputs, tensors),
        }
        for name, signature in signatures.items()
    }
    metadata = {
        "model_spec": {"name": model, "signature_name": "", "version": "7"},
        "metadata": {"signature_def": {"signature_def": described}},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = page.answer(Request("GET", self.path, {}, b"", True))
            if found is not None:
                self._send(found.status, found.body, found.content_type)
            elif self.path == f"/v1/models/{model}/metadata":
                self._send(200, json.dumps(metadata).encode(), "application/json")
            else:
                self._send(404, b'{"error": "Could not find any versions of model"}', "application/json")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            signature = signatures[body["signature_name"]]
            time.sleep(signature.seconds(body["inputs"]))
            self._send(200, json.dumps({"outputs": signature.answer(body["inputs"])}).encode(), "application/json")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            # A page that has given up does not wait for the answer.
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
