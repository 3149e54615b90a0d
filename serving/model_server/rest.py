"""REST requests to answers: one step from method, path and body to status and body."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from serving.model_server import metrics
from serving.model_server.inference import classify, regress
from serving.model_server.json_examples import classification_json, parse_examples, regression_json
from serving.model_server.json_request import PredictJson, parse_predict
from serving.model_server.json_response import columnar_outputs, predictions
from serving.model_server.json_values import Array
from serving.model_server.json_writer import error_body
from serving.model_server.manager import ModelManager
from serving.model_server.messages import metadata_json, status_json
from serving.model_server.predict import DEFAULT_SIGNATURE, HeldPrediction, plan_predict
from serving.model_server.request_log import RequestLog, log_of_examples, log_of_tensors
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


class _Prediction(NamedTuple):
    """A predict request that is read and checked."""

    request: PredictJson
    held: HeldPrediction

    def body(self, fetched: Sequence[Array]) -> bytes:
        outputs = self.held.plan.named(fetched)
        return predictions(outputs) if self.request.row_format else columnar_outputs(outputs)


class RestApi:
    """Answers what lies below ``/v1/``."""

    def __init__(
        self,
        manager: ModelManager,
        *,
        enable_cors: bool = False,
        draining: Callable[[], bool] = lambda: False,
        request_log: RequestLog | None = None,
    ) -> None:
        self._manager = manager
        self._log = request_log
        self._draining = draining
        self._headers = _CORS_HEADERS if enable_cors else ()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer one request; every failure becomes a status and a JSON error, never an exception."""
        start = time.perf_counter()
        route = Route("", "")
        try:
            if method == "OPTIONS":
                return self._counted(route, start, *_preflight(headers.get("origin", "")))
            route = parse_route(method, path)
            return self._counted(route, start, Answer(200, self._dispatch(route, body)), Code.OK)
        except VersionOutOfRangeError as error:
            return self._counted(route, start, Answer(HTTP_STATUS[error.code], b""), error.code)
        except Exception as error:
            return self._failed(route, start, error)

    def begin(self, method: str, path: str, body: bytes, done: Callable[[Answer], None]) -> bool:
        """Put a prediction into a batch, to call `done` from another thread when it is answered.

        False leaves the request to `answer`: it is no prediction, has an error, or is not for a batch.
        """
        start = time.perf_counter()
        try:
            route = parse_route(method, path)
            if route.action != "predict":
                return False
            prediction = self._read(route, body)
        except Exception:
            return False

        def finish(fetched: list[Array] | ServingError) -> None:
            try:
                if isinstance(fetched, ServingError):
                    raise fetched
                answer = self._counted(route, start, Answer(200, prediction.body(fetched)), Code.OK)
                self._logged(prediction, fetched, len(body) + len(answer.body))
            except Exception as error:
                answer = self._failed(route, start, error)
            done(answer)

        return prediction.held.submit(finish)

    def _dispatch(self, route: Route, body: bytes) -> bytes:
        if route.action == "predict":
            return self._predict(route, body)
        if not route.model:
            raise invalid("Missing model name in request.")
        if route.action == "status":
            if self._draining():
                # What asks for the status is a readiness probe as a rule: it shall send no more traffic here.
                raise ServingError(Code.UNAVAILABLE, "The server is draining")
            return status_json(self._manager.status(route.model, route.version))
        if route.action == "metadata":
            with self._manager.serving.servable(route.model, route.version, route.label) as servable:
                return metadata_json(servable)
        return self._examples(route, body)

    def _examples(self, route: Route, body: bytes) -> bytes:
        signature_name, examples = parse_examples(body)
        with self._manager.serving.servable(route.model, route.version, route.label) as servable:
            name, version = servable.name, servable.version
            run = classify if route.action == "classify" else regress
            result = run(servable, signature_name, examples)
        answer = classification_json(result) if route.action == "classify" else regression_json(result)
        if self._log is not None and self._log.sampled():
            size = len(body) + len(answer)
            self._log.offer(name, size, lambda: log_of_examples(name, version, signature_name, examples, result))
        return answer

    def _predict(self, route: Route, body: bytes) -> bytes:
        prediction = self._read(route, body)
        fetched = prediction.held.run()
        answer = prediction.body(fetched)
        self._logged(prediction, fetched, len(body) + len(answer))
        return answer

    def _logged(self, prediction: _Prediction, fetched: Sequence[Array], size: int) -> None:
        if self._log is None or not self._log.sampled():
            return
        # Not the prediction itself: a record that waits must not keep a version in memory.
        name, version = prediction.held.servable.name, prediction.held.servable.version
        signature_name, inputs = prediction.request.signature_name, prediction.request.inputs
        outputs = prediction.held.plan.named(fetched)
        self._log.offer(
            name, size, lambda: log_of_tensors(name, version, signature_name, inputs=inputs, outputs=outputs)
        )

    def _read(self, route: Route, body: bytes) -> _Prediction:
        """A prediction whose servable is held; nothing is held where this raises."""
        held: list[Servable] = []

        def input_types(signature_name: str) -> Mapping[str, int]:
            held.append(self._manager.serving.acquire(route.model, route.version, route.label))
            types = held[0].input_types.get(signature_name or DEFAULT_SIGNATURE)
            if types is None:
                raise invalid(
                    f'Serving signature name: "{signature_name or DEFAULT_SIGNATURE}" not found in signature def'
                )
            return types

        try:
            request = parse_predict(body, input_types)
            plan = plan_predict(held[0], request.signature_name, request.inputs)
            return _Prediction(request, HeldPrediction(held[0], plan))
        except BaseException:
            for servable in held:
                servable.release()
            raise

    def _failed(self, route: Route, start: float, error: Exception) -> Answer:
        known = from_exception(error)
        if known.code is Code.INTERNAL and not isinstance(error, ServingError):
            logger.error("Failed to answer a request to %s", route, exc_info=error)
        return self._counted(route, start, error_answer(known), known.code)

    def _counted(self, route: Route, start: float, answer: Answer, code: Code) -> Answer:
        if code is Code.OK:
            api = route.action if route.action in ("predict", "classify", "regress") else ""
            metrics.REQUEST_LATENCY.add(route.model, api, "REST", value=(time.perf_counter() - start) * 1e6)
        metrics.REQUEST_COUNT.add(route.model, code.name)
        return answer._replace(headers=self._headers) if self._headers else answer


def _preflight(origin: str) -> tuple[Answer, Code]:
    if "http://" in origin or "https://" in origin:
        return Answer(200, b"", content_type=""), Code.OK
    return Answer(400, b"", content_type=""), Code.FAILED_PRECONDITION
