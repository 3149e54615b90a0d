"""A small client for either server's REST port: recommendations in, plain Python out. Standard library only."""

import dataclasses
import http.client
import json
import time
import urllib.parse
from collections.abc import Sequence
from typing import Any

from tfrs_shop.errors import UserError


@dataclasses.dataclass(frozen=True)
class Answer:
    """One product of an answer."""

    product_id: str
    score: float
    title: str


@dataclasses.dataclass(frozen=True)
class Explained(Answer):
    """One product of an answer, and what of the history it is recommended for; a search has a title alone."""

    because_product_id: str
    because_title: str


@dataclasses.dataclass(frozen=True)
class Filter:
    """What recommendations must satisfy.

    Attributes:
        exclude_products: ids that are left out.
        category: a category path or the start of one, "Makeup > Face"; "": any.
        price_min: inclusive; None: no bound. A product without a price is in no range.
        price_max: the same.
        exclude_seen: leave out every product of the user's events.
        now: milliseconds since 1970, at which a product must be on sale; 0: the server's own time.
    """

    exclude_products: Sequence[str] = ()
    category: str = ""
    price_min: float | None = None
    price_max: float | None = None
    exclude_seen: bool = False
    now: int = 0

    def inputs(self) -> dict[str, list[Any]]:
        """Return the filter's inputs of a request of one row."""
        return {
            "exclude_product_id": [list(self.exclude_products) or [""]],
            "category": [self.category],
            # Below 0 is no bound to the server, as NaN is, which is no JSON.
            "price_min": [-1.0 if self.price_min is None else float(self.price_min)],
            "price_max": [-1.0 if self.price_max is None else float(self.price_max)],
            "exclude_seen": [self.exclude_seen],
            "now": [self.now],
        }


class ServerError(UserError):
    """The server's own refusal: its status code and its words."""

    def __init__(self, status: int, message: str):
        super().__init__(f"the server answered {status}: {message}")
        self.status = status


class ShopClient:
    """Asks one model of a TensorFlow Serving REST endpoint.

    >>> client = ShopClient("http://127.0.0.1:8501")           # doctest: +SKIP
    >>> client.recommend("A1YJEY40YUW4SE")[0].title            # doctest: +SKIP

    Args:
        url: the server's address.
        model: the model's name.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, url: str = "http://127.0.0.1:8501", model: str = "shop", timeout: float = 30.0):
        try:
            parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number, a bracket without its mate
            valid = False
        if not valid:
            raise UserError(f"{url}: is no address of a server; give one such as http://127.0.0.1:8501.")
        self.url, self.timeout = f"{parts.scheme}://{parts.netloc}", timeout
        self.connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.address = parts.netloc
        self.path = f"/v1/models/{urllib.parse.quote(model, safe='')}"

    def recommend(self, user_id: str, only: Filter | None = None) -> list[Answer]:
        """Return recommendations for a user, best first."""
        if only is None:
            return self.answers("serving_default", {"user_id": [user_id]})
        return self.answers("recommend_filtered", {"user_id": [user_id], **only.inputs()})

    def recommend_for_history(
        self, product_ids: Sequence[str], event_types: Sequence[str] = (), only: Filter | None = None
    ) -> list[Answer]:
        """Return recommendations after a fresh history, oldest event first; event types are views if not given."""
        history = history_inputs(product_ids, event_types)
        if only is None:
            return self.answers("recommend_for_history", history)
        return self.answers("recommend_for_history_filtered", {**history, **only.inputs()})

    def recommend_diverse(self, user_id: str, method: str, strength: float, seed: int = 0) -> list[Answer]:
        """Return recommendations for a user that are not all of a kind; see ``docs/diversity.md``."""
        return self.answers("recommend_diverse", {"user_id": [user_id], **_how(method, strength, seed)})

    def recommend_for_history_diverse(
        self, product_ids: Sequence[str], event_types: Sequence[str], method: str, strength: float, seed: int = 0
    ) -> list[Answer]:
        """Return recommendations after a fresh history that are not all of a kind."""
        inputs = {**history_inputs(product_ids, event_types), **_how(method, strength, seed)}
        return self.answers("recommend_for_history_diverse", inputs)

    def recommend_explained(self, user_id: str) -> list[Explained]:
        """Return recommendations for a user, each with the product or the search that it is recommended for."""
        return self._explained("recommend_explained", {"user_id": [user_id]})

    def recommend_for_history_explained(
        self, product_ids: Sequence[str], event_types: Sequence[str] = ()
    ) -> list[Explained]:
        """Return recommendations after a fresh history, each with what it is recommended for."""
        return self._explained("recommend_for_history_explained", history_inputs(product_ids, event_types))

    def explain(self, user_id: str, product_id: str) -> dict[str, Any]:
        """Return what makes the score of a product for a user: the outputs of the signature, for one row."""
        return self.row("explain", {"user_id": [user_id], "product_id": [product_id]})

    def explain_for_history(
        self, product_ids: Sequence[str], event_types: Sequence[str], product_id: str
    ) -> dict[str, Any]:
        """Return what makes the score of a product after a fresh history, as `explain` does."""
        return self.row("explain_for_history", {**history_inputs(product_ids, event_types), "product_id": [product_id]})

    def explain_words(self, user_id: str, product_id: str) -> dict[str, Any]:
        """Return which words of a user's history speak for a product: the outputs of the signature, for one row."""
        return self.row("explain_words", {"user_id": [user_id], "product_id": [product_id]})

    def explain_words_for_history(
        self, product_ids: Sequence[str], event_types: Sequence[str], product_id: str
    ) -> dict[str, Any]:
        """Return which words of a fresh history speak for a product, as `explain_words` does."""
        inputs = {**history_inputs(product_ids, event_types), "product_id": [product_id]}
        return self.row("explain_words_for_history", inputs)

    def user_profile(self, user_id: str) -> dict[str, Any]:
        """Return the readable profile of a user: the outputs of the signature, for one row."""
        return self.row("user_profile", {"user_id": [user_id]})

    def user_profile_for_history(self, product_ids: Sequence[str], event_types: Sequence[str] = ()) -> dict[str, Any]:
        """Return the readable profile after a fresh history."""
        return self.row("user_profile_for_history", history_inputs(product_ids, event_types))

    def product_details(self, product_ids: Sequence[str]) -> dict[str, list[Any]]:
        """Return title, category, brand and price (-1: unknown) of products: a list by the name of the output."""
        outputs: dict[str, list[Any]] = self.predict(
            request_body("product_details", {"product_id": list(product_ids)})
        )["outputs"]
        return outputs

    def user_history(self, user_id: str) -> dict[str, Any]:
        """Return the events of a stored user, oldest first: the outputs of the signature, for one row."""
        return self.row("user_history", {"user_id": [user_id]})

    def example_users(self, seed: int = 0) -> dict[str, Any]:
        """Return some stored users, drawn by `seed`: the outputs of the signature, for one row."""
        return self.row("example_users", {"seed": [seed]})

    def similar(self, product_id: str) -> list[Answer]:
        """Return the products most like one."""
        return self.answers("similar", {"product_id": [product_id]})

    def complements(self, product_ids: Sequence[str]) -> list[Answer]:
        """Return what goes best with all of some products, such as those of a basket."""
        return self.answers("complements", {"product_id": [list(product_ids)]})

    def search(self, query: str, product_ids: Sequence[str] = (), event_types: Sequence[str] = ()) -> list[Answer]:
        """Return the products that fit `query`, best first; with a history, in the order that it suggests.

        Args:
            query: what was typed.
            product_ids: the products of the user's latest events, oldest first.
            event_types: what the user did to each; views if not given.
        """
        if not product_ids:
            return self.answers("search", {"query": [query]})
        return self.answers("search_for_history", {"query": [query], **history_inputs(product_ids, event_types)})

    def search_explained(self, query: str) -> dict[str, Any]:
        """Return the products that fit `query` and the words of their titles: the signature's outputs, for one row."""
        return self.row("search_explained", {"query": [query]})

    def rank(self, user_id: str, product_ids: Sequence[str]) -> list[Answer]:
        """Return `product_ids` in the order in which the user would want them."""
        return self.answers("rank", {"user_id": [user_id], "candidate_product_id": [list(product_ids)]})

    def predict_behavior(
        self, product_ids: Sequence[str] = (), event_types: Sequence[str] = (), user_id: str = ""
    ) -> dict[str, Any]:
        """Return what comes next after a history, or for a stored user: the outputs of ``predict_behavior``, by name.

        Event types are views if not given.
        """
        if user_id:
            outputs = self.predict(request_body("predict_behavior_for_user", {"user_id": [user_id]}))["outputs"]
        else:
            outputs = self.predict(request_body("predict_behavior", history_inputs(product_ids, event_types)))[
                "outputs"
            ]
        # A server names no output that is alone, which only this one can be.
        named = outputs if isinstance(outputs, dict) else {"purchase_probability": outputs}
        return {name: rows[0] for name, rows in named.items()}

    def query_intent(self, query: str) -> dict[str, Any]:
        """Return the categories and the purposes of a query, likeliest first: the outputs of ``query_intent``."""
        outputs = self.predict(request_body("query_intent", {"query": [query]}))["outputs"]
        return {name: rows[0] for name, rows in outputs.items()}

    def answers(self, signature: str, inputs: dict[str, list[Any]]) -> list[Answer]:
        """Ask `signature` for one row, and return its products; places that the server left empty are dropped."""
        row = self.row(signature, inputs)
        rows = zip(row["product_id"], row["score"], row["title"], strict=True)
        return [Answer(*row) for row in rows if row[0]]

    def row(self, signature: str, inputs: dict[str, list[Any]]) -> dict[str, Any]:
        """Ask `signature` for one row, and return its outputs by name."""
        outputs = self.predict(request_body(signature, inputs))["outputs"]
        return {name: values[0] for name, values in outputs.items()}

    def _explained(self, signature: str, inputs: dict[str, list[Any]]) -> list[Explained]:
        row = self.row(signature, inputs)
        names = ("product_id", "score", "title", "because_product_id", "because_title")
        rows = zip(*(row[name] for name in names), strict=True)
        return [Explained(*row) for row in rows if row[0]]

    def predict(self, body: dict[str, Any]) -> dict[str, Any]:
        """Post `body` to ``:predict`` and return the answer.

        Raises:
            ServerError: the server refused.
            UserError: there is no server, or what answers is none.
        """
        return self._ask("POST", f"{self.path}:predict", json.dumps(body).encode("utf-8"))

    def wait_until_ready(self, seconds: float = 300.0) -> None:
        """Wait until a version of the model answers; a server that has just been started loads and warms one up first.

        Raises:
            UserError: none does within that many seconds.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                if any(version["state"] == "AVAILABLE" for version in self.status()["model_version_status"]):
                    return
            except UserError:
                pass
            if time.monotonic() > end:
                raise UserError(
                    f"{self.url}: the model was not ready within {seconds:.0f} s; the server's log says why."
                )
            time.sleep(0.3)

    def status(self) -> dict[str, Any]:
        """Return the versions of the model and their states."""
        return self._ask("GET", self.path)

    def metadata(self) -> dict[str, Any]:
        """Return the signatures of the model."""
        return self._ask("GET", f"{self.path}/metadata")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        connection = self.connect(self.address, timeout=self.timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise UserError(
                f"{self.url}: no server answers there ({error}); start one with 'tfrs-shop serve', or give its --url."
            ) from None
        finally:
            connection.close()
        try:
            answer = json.loads(content)
        except ValueError:
            raise UserError(f"{self.url}: answered {response.status} without JSON; is it a model server?") from None
        if response.status != 200:
            message = answer.get("error", answer) if isinstance(answer, dict) else answer
            raise ServerError(response.status, str(message))
        return answer


def history_inputs(product_ids: Sequence[str], event_types: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Return a fresh history as the inputs of a request of one row; event types are views if not given.

    Raises:
        UserError: there is not one type for each product.
    """
    types = list(event_types) or ["view"] * len(product_ids)
    if len(types) != len(product_ids):
        raise UserError(f"{len(product_ids)} products but {len(types)} event types; give one type for each product.")
    return {"history_product_id": [list(product_ids)], "history_event_type": [types]}


def _how(method: str, strength: float, seed: int) -> dict[str, list[Any]]:
    return {"method": [method], "strength": [strength], "seed": [seed]}


def request_body(signature: str, inputs: dict[str, list[Any]]) -> dict[str, Any]:
    """Return the body of a predict request, in the columnar format."""
    return {"signature_name": signature, "inputs": inputs}
