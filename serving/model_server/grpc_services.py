"""PredictionService: predictions over gRPC, and the signatures of a model."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from google.protobuf.message import Message  # type: ignore[import-untyped]
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.model_server import metrics
from serving.model_server.grpc_calls import Answer, Call, Done, answered, chosen_version
from serving.model_server.inference import classify, fill_spec, multi_inference, regress
from serving.model_server.json_values import Array
from serving.model_server.manager import ModelManager
from serving.model_server.messages import metadata_response
from serving.model_server.predict import HeldPrediction, plan_predict
from serving.model_server.request_log import RequestLog, log_of_call
from serving.model_server.servable import Servable
from serving.model_server.status import Code, ServingError, invalid
from serving.model_server.tensor_protos import to_proto


def counted(model: str, api: str, start: float, answer: Callable[[], Answer]) -> Answer:
    """As `answered`, and count the request and its time since `start`."""
    try:
        result = answered(answer)
    except ServingError as error:
        metrics.REQUEST_COUNT.add(model, error.code.name)
        raise
    metrics.REQUEST_LATENCY.add(model, api, "GRPC", value=(time.perf_counter() - start) * 1e6)
    metrics.REQUEST_COUNT.add(model, Code.OK.name)
    return result


class PredictionService:
    """Answers predictions and metadata from the manager's servables; what is wrong is raised as a ServingError."""

    NAME = "tensorflow.serving.PredictionService"

    def __init__(self, manager: ModelManager, request_log: RequestLog | None = None) -> None:
        self._manager = manager
        self._log = request_log

    def calls(self, *, batching: bool) -> dict[str, Call]:
        """The methods by name."""
        return {
            "Predict": Call(predict_pb2.PredictRequest, self.predict, self.begin_predict if batching else None),
            "Classify": Call(classification_pb2.ClassificationRequest, self.classify),
            "Regress": Call(regression_pb2.RegressionRequest, self.regress),
            "MultiInference": Call(inference_pb2.MultiInferenceRequest, self.multi_inference),
            "GetModelMetadata": Call(get_model_metadata_pb2.GetModelMetadataRequest, self.model_metadata),
        }

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Run a signature on tensors."""
        return counted(request.model_spec.name, "Predict", time.perf_counter(), lambda: self._predict(request))

    def _predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        held = self._hold(request)
        return self._response(request, held, held.run())

    def begin_predict(self, request: predict_pb2.PredictRequest, done: Done) -> bool:
        """Put a prediction into a batch, to call `done` from another thread when it is answered.

        False leaves the request to `predict`: it has an error, or is not for a batch.
        """
        start = time.perf_counter()
        try:
            held = self._hold(request)
        except Exception:
            return False

        def finish(fetched: list[Array] | ServingError) -> None:
            answer: Message | ServingError
            try:
                name = request.model_spec.name
                answer = counted(name, "Predict", start, lambda: self._response(request, held, fetched))
            except ServingError as error:
                answer = error
            done(answer)

        return held.submit(finish)

    def _hold(self, request: predict_pb2.PredictRequest) -> HeldPrediction:
        """The request, checked; nothing is held where this raises."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        servable = self._manager.serving.acquire(*chosen_version(request.model_spec))
        try:
            signature_name, outputs = request.model_spec.signature_name, list(request.output_filter)
            plan = plan_predict(servable, signature_name, request.inputs, output_filter=outputs)
            return HeldPrediction(servable, plan)
        except BaseException:
            servable.release()
            raise

    def _response(
        self, request: predict_pb2.PredictRequest, held: HeldPrediction, fetched: Sequence[Array] | ServingError
    ) -> predict_pb2.PredictResponse:
        if isinstance(fetched, ServingError):
            raise fetched
        response = predict_pb2.PredictResponse()
        fill_spec(response.model_spec, held.servable, request.model_spec)
        for name, array in held.plan.named(fetched).items():
            to_proto(array, response.outputs[name])
        self._logged(request.model_spec.name, request, response)
        return response

    def _logged(self, model: str, request: Message, response: Message) -> None:
        if self._log is not None and self._log.sampled():
            size = request.ByteSize() + response.ByteSize()
            self._log.offer(model, size, lambda: log_of_call(request, response))

    def classify(self, request: classification_pb2.ClassificationRequest) -> classification_pb2.ClassificationResponse:
        """Label examples."""
        return counted(request.model_spec.name, "Classify", time.perf_counter(), lambda: self._classify(request))

    def _classify(self, request: classification_pb2.ClassificationRequest) -> classification_pb2.ClassificationResponse:
        response = classification_pb2.ClassificationResponse()
        with self._for_examples(request) as servable:
            result = classify(servable, request.model_spec.signature_name, request.input)
            response.result.CopyFrom(result)
            fill_spec(response.model_spec, servable, request.model_spec)
        self._logged(request.model_spec.name, request, response)
        return response

    def regress(self, request: regression_pb2.RegressionRequest) -> regression_pb2.RegressionResponse:
        """Give examples a value."""
        return counted(request.model_spec.name, "Regress", time.perf_counter(), lambda: self._regress(request))

    def _regress(self, request: regression_pb2.RegressionRequest) -> regression_pb2.RegressionResponse:
        response = regression_pb2.RegressionResponse()
        with self._for_examples(request) as servable:
            response.result.CopyFrom(regress(servable, request.model_spec.signature_name, request.input))
            fill_spec(response.model_spec, servable, request.model_spec)
        self._logged(request.model_spec.name, request, response)
        return response

    def multi_inference(self, request: inference_pb2.MultiInferenceRequest) -> inference_pb2.MultiInferenceResponse:
        """Classify and regress the same examples by several signatures."""
        return answered(lambda: self._multi_inference(request))

    def _multi_inference(self, request: inference_pb2.MultiInferenceRequest) -> inference_pb2.MultiInferenceResponse:
        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        with self._manager.serving.servable(*chosen_version(spec)) as servable:
            response = multi_inference(servable, request)
        self._logged(spec.name, request, response)
        return response

    def _for_examples(self, request: Any) -> AbstractContextManager[Servable]:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        return self._manager.serving.servable(*chosen_version(request.model_spec))

    def model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a version."""
        return answered(lambda: self._metadata(request))

    def _metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        with self._manager.serving.servable(*chosen_version(request.model_spec)) as servable:
            return metadata_response(servable)
