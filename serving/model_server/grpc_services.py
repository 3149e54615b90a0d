"""PredictionService on the stubs of tensorflow-serving-api, and how a gRPC call ends."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message  # type: ignore[import-untyped]
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.model_server import metrics
from serving.model_server.inference import classify, fill_spec, multi_inference, regress
from serving.model_server.manager import ModelManager
from serving.model_server.messages import metadata_response
from serving.model_server.predict import DEFAULT_SIGNATURE, predict
from serving.model_server.request_log import RequestLog, log_of_call
from serving.model_server.servable import Servable
from serving.model_server.status import Code, ServingError, from_exception, invalid
from serving.model_server.tensor_protos import to_proto

logger = logging.getLogger(__name__)

_MESSAGE_LIMIT = 1024
_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}
Answer = TypeVar("Answer")


def abort(context: grpc.ServicerContext, error: ServingError) -> NoReturn:
    """End a call with an error, its message cut as TensorFlow Serving cuts it."""
    message = error.message
    if len(message) > _MESSAGE_LIMIT:
        message = message[:_MESSAGE_LIMIT] + "...TRUNCATED"
    context.abort(_GRPC_CODES[int(error.code)], message.encode("utf-8", "replace").decode())
    raise AssertionError("abort always raises")


def answered(context: grpc.ServicerContext, answer: Callable[[], Answer]) -> Answer:
    """The answer, or the call ended with the status of what was raised."""
    try:
        return answer()
    except Exception as error:
        abort(context, _known(error))


def counted(context: grpc.ServicerContext, model: str, api: str, answer: Callable[[], Answer]) -> Answer:
    """As `answered`, and count the request and its time."""
    start = time.perf_counter()
    try:
        result = answer()
    except Exception as error:
        known = _known(error)
        metrics.REQUEST_COUNT.add(model, known.code.name)
        abort(context, known)
    metrics.REQUEST_LATENCY.add(model, api, "GRPC", value=(time.perf_counter() - start) * 1e6)
    metrics.REQUEST_COUNT.add(model, Code.OK.name)
    return result


def _known(error: Exception) -> ServingError:
    known = from_exception(error)
    if known.code is Code.INTERNAL and not isinstance(error, ServingError):
        logger.exception("A gRPC call failed")
    return known


def chosen_version(spec: model_pb2.ModelSpec) -> tuple[str, int | None, str | None]:
    """Name, version and label of a model spec."""
    choice = spec.WhichOneof("version_choice")
    return (
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers predictions and metadata from the manager's servables."""

    def __init__(self, manager: ModelManager, request_log: RequestLog | None = None) -> None:
        self._manager = manager
        self._log = request_log

    def Predict(self, request: predict_pb2.PredictRequest, context: Any) -> predict_pb2.PredictResponse:  # noqa: N802
        """Run a signature on tensors."""
        return counted(context, request.model_spec.name, "Predict", lambda: self._predict(request))

    def _predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        with self._manager.serving.servable(*chosen_version(request.model_spec)) as servable:
            outputs = predict(servable, signature_name, request.inputs, output_filter=list(request.output_filter))
            response = predict_pb2.PredictResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = servable.version
            response.model_spec.signature_name = signature_name
            for name, array in outputs.items():
                to_proto(array, response.outputs[name])
        self._logged(request.model_spec.name, request, response)
        return response

    def _logged(self, model: str, request: Message, response: Message) -> None:
        if self._log is not None and self._log.sampled():
            size = request.ByteSize() + response.ByteSize()
            self._log.offer(model, size, lambda: log_of_call(request, response))

    def Classify(  # noqa: N802
        self, request: classification_pb2.ClassificationRequest, context: Any
    ) -> classification_pb2.ClassificationResponse:
        """Label examples."""
        return counted(context, request.model_spec.name, "Classify", lambda: self._classify(request))

    def _classify(self, request: classification_pb2.ClassificationRequest) -> classification_pb2.ClassificationResponse:
        response = classification_pb2.ClassificationResponse()
        with self._for_examples(request) as servable:
            result = classify(servable, request.model_spec.signature_name, request.input)
            response.result.CopyFrom(result)
            fill_spec(response.model_spec, servable, request.model_spec)
        self._logged(request.model_spec.name, request, response)
        return response

    def Regress(  # noqa: N802
        self, request: regression_pb2.RegressionRequest, context: Any
    ) -> regression_pb2.RegressionResponse:
        """Give examples a value."""
        return counted(context, request.model_spec.name, "Regress", lambda: self._regress(request))

    def _regress(self, request: regression_pb2.RegressionRequest) -> regression_pb2.RegressionResponse:
        response = regression_pb2.RegressionResponse()
        with self._for_examples(request) as servable:
            response.result.CopyFrom(regress(servable, request.model_spec.signature_name, request.input))
            fill_spec(response.model_spec, servable, request.model_spec)
        self._logged(request.model_spec.name, request, response)
        return response

    def MultiInference(  # noqa: N802
        self, request: inference_pb2.MultiInferenceRequest, context: Any
    ) -> inference_pb2.MultiInferenceResponse:
        """Classify and regress the same examples by several signatures."""
        return answered(context, lambda: self._multi_inference(request))

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

    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: Any
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a version."""
        return answered(context, lambda: self._metadata(request))

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
