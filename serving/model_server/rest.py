"""REST requests to answers: one pure step from method, path and body to status and body."""

import logging
import time
from collections.abc import Mapping
from typing import NamedTuple

from serving.model_server import metrics
from serving.model_server.inference import classify, regress
from serving.model_server.json_examples import classification_json, parse_examples, regression_json
from serving.model_server.json_request import parse_predict
from serving.model_server.json_response import columnar_outputs, predictions
from serving.model_server.json_writer import error_body
from serving.model_server.manager import ModelManager
from serving.model_server.messages import metadata_json, status_json
from serving.model_server.predict import DEFAULT_SIGNATURE, predict
from serving.model_server.routes import Route, VersionOutOfRangeError, parse_route
from serving.model_server.servable import Servable
from serving.model_server.status import HTTP_STATUS, Code, ServingError, from_exception, invalid

logger = logging.getLogger(__name__)

JSON = "application/json"
_CORS_HEADERS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
)


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


def error_answer(error: ServingError) -> Answer:
    """The answer to a request that failed."""
    return Answer(HTTP_STATUS[error.code], error_body(error.message))


class RestApi:
    """Answers what lies below ``/v1/``."""

    def __init__(self, manager: ModelManager, *, enable_cors: bool = False) -> None:
        self._manager = manager
        self._headers = _CORS_HEADERS if enable_cors else ()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer one request; every failure becomes a status and a JSON error, never an exception."""
        start = time.perf_counter()
        route, code = Route("", ""), Code.OK
        try:
            if method == "OPTIONS":
                answer, code = _preflight(headers.get("origin", ""))
            else:
                route = parse_route(method, path)
                answer = Answer(200, self._dispatch(route, body))
        except VersionOutOfRangeError as error:
            answer, code = Answer(HTTP_STATUS[error.code], b""), error.code
        except Exception as error:
            known = from_exception(error)
            if known.code is Code.INTERNAL and not isinstance(error, ServingError):
                logger.exception("Failed to answer %s %s", method, path)
            answer, code = error_answer(known), known.code
        if code is Code.OK:
            api = route.action if method == "POST" else ""
            metrics.REQUEST_LATENCY.add(route.model, api, "REST", value=(time.perf_counter() - start) * 1e6)
        metrics.REQUEST_COUNT.add(route.model, code.name)
        return answer._replace(headers=self._headers) if self._headers else answer

    def _dispatch(self, route: Route, body: bytes) -> bytes:
        if route.action == "predict":
            return self._predict(route, body)
        if not route.model:
            raise invalid("Missing model name in request.")
        if route.action == "status":
            return status_json(self._manager.status(route.model, route.version))
        if route.action == "metadata":
            with self._manager.serving.servable(route.model, route.version, route.label) as servable:
                return metadata_json(servable)
        return self._examples(route, body)

    def _examples(self, route: Route, body: bytes) -> bytes:
        signature_name, examples = parse_examples(body)
        with self._manager.serving.servable(route.model, route.version, route.label) as servable:
            if route.action == "classify":
                return classification_json(classify(servable, signature_name, examples))
            return regression_json(regress(servable, signature_name, examples))

    def _predict(self, route: Route, body: bytes) -> bytes:
        held: list[Servable] = []

        def input_types(signature_name: str) -> Mapping[str, int]:
            servable = self._manager.serving.acquire(route.model, route.version, route.label)
            held.append(servable)
            types = servable.input_types.get(signature_name or DEFAULT_SIGNATURE)
            if types is None:
                raise invalid(
                    f'Serving signature name: "{signature_name or DEFAULT_SIGNATURE}" not found in signature def'
                )
            return types

        try:
            request = parse_predict(body, input_types)
            outputs = predict(held[0], request.signature_name, request.inputs)
            return predictions(outputs) if request.row_format else columnar_outputs(outputs)
        finally:
            for servable in held:
                servable.release()


def _preflight(origin: str) -> tuple[Answer, Code]:
    if "http://" in origin or "https://" in origin:
        return Answer(200, b"", content_type=""), Code.OK
    return Answer(400, b"", content_type=""), Code.FAILED_PRECONDITION
