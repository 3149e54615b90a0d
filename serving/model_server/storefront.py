"""The storefront page, from the port of the REST API: a handful of files, read once."""

from pathlib import Path

from serving.model_server.http_connection import html_error
from serving.model_server.http_parser import Request
from serving.model_server.rest import Answer

FILES = Path(__file__).parents[1] / "storefront"
PREFIX = "/storefront"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = (
    ("Cache-Control", "no-cache"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),
)


class Storefront:
    """Answers what lies below ``/storefront/``: these files and no other, so that no path can lead out of them."""

    def __init__(self) -> None:
        self._answers = {
            f"{PREFIX}/{path.name}": Answer(200, path.read_bytes(), _TYPES[path.suffix], _HEADERS)
            for path in FILES.iterdir()
            if path.suffix in _TYPES
        }
        self._answers[f"{PREFIX}/"] = self._answers[f"{PREFIX}/index.html"]

    def answer(self, request: Request) -> Answer | None:
        """Answer one HTTP request; None: it is not for the page."""
        path, mark, query = request.path.partition("?")
        if path != PREFIX and not path.startswith(f"{PREFIX}/"):
            return None
        if request.method not in ("GET", "HEAD"):
            return html_error(405)._replace(headers=(("Allow", "GET, HEAD"),))
        if path == PREFIX:
            return html_error(301)._replace(headers=(("Location", f"{PREFIX}/{mark}{query}"),))
        return self._answers.get(path) or html_error(404)
