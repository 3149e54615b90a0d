"""Classify, Regress and MultiInference: serialized Examples through a signature, with TensorFlow Serving's checks."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, model_pb2, regression_pb2

from serving.model_server import metrics
from serving.model_server.dtypes import dtype_name, dtype_of
from serving.model_server.json_values import Array
from serving.model_server.predict import DEFAULT_SIGNATURE
from serving.model_server.servable import Servable
from serving.model_server.status import Code, ServingError, invalid

INPUTS, OUTPUTS, CLASSES, SCORES = "inputs", "outputs", "classes", "scores"
CLASSIFY_METHOD, REGRESS_METHOD = "tensorflow/serving/classify", "tensorflow/serving/regress"


class _Plan(NamedTuple):
    """What a signature needs run: the tensor to feed, and the tensors to fetch by their role."""

    feed: str
    fetches: dict[str, str]


def classify(
    servable: Servable, signature_name: str, examples: input_pb2.Input
) -> classification_pb2.ClassificationResult:
    """Labels and scores for each example."""
    plan = _classification_plan(_signature(servable, signature_name))
    start = time.perf_counter()
    count, fetched = _run(servable, {plan.feed}, set(plan.fetches.values()), examples)
    metrics.RUNTIME_LATENCY.add(servable.name, "Classify", "TF1", value=(time.perf_counter() - start) * 1e6)
    return _classification(plan, count, fetched)


def regress(servable: Servable, signature_name: str, examples: input_pb2.Input) -> regression_pb2.RegressionResult:
    """A value for each example."""
    plan = _regression_plan(_signature(servable, signature_name))
    start = time.perf_counter()
    count, fetched = _run(servable, {plan.feed}, set(plan.fetches.values()), examples)
    metrics.RUNTIME_LATENCY.add(servable.name, "Regress", "TF1", value=(time.perf_counter() - start) * 1e6)
    return _regression(plan, count, fetched)


def multi_inference(
    servable: Servable, request: inference_pb2.MultiInferenceRequest
) -> inference_pb2.MultiInferenceResponse:
    """Several classifications and regressions of the same examples, in one run."""
    plans: dict[str, _Plan] = {}
    names = set()
    for task in request.tasks:
        names.add(task.model_spec.name)
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if len(names) > 1:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        key = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if key in plans:
            raise invalid(f"Duplicate evaluation of signature: {key}")
        if key not in servable.signatures:
            raise invalid(f"Requested signature not found in model graph: {key}")
        if task.method_name == CLASSIFY_METHOD:
            plans[key] = _classification_plan(servable.signatures[key])
        elif task.method_name == REGRESS_METHOD:
            plans[key] = _regression_plan(servable.signatures[key])
        else:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
    feeds = {plan.feed for plan in plans.values()}
    fetches = {tensor for plan in plans.values() for tensor in plan.fetches.values()}
    count, fetched = _run(servable, feeds, fetches, request.input)
    response = inference_pb2.MultiInferenceResponse()
    for task, plan in zip(request.tasks, plans.values(), strict=True):
        result = response.results.add()
        if task.method_name == CLASSIFY_METHOD:
            result.classification_result.CopyFrom(_classification(plan, count, fetched))
        else:
            result.regression_result.CopyFrom(_regression(plan, count, fetched))
        fill_spec(result.model_spec, servable, task.model_spec)
    return response


def fill_spec(spec: model_pb2.ModelSpec, servable: Servable, asked: model_pb2.ModelSpec) -> None:
    """The model spec of an answer: the version that answered, and the signature by its name."""
    spec.name = asked.name
    spec.version.value = servable.version
    spec.signature_name = asked.signature_name or DEFAULT_SIGNATURE


def _signature(servable: Servable, name: str) -> meta_graph_pb2.SignatureDef:
    signature = servable.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise invalid(f"No signature was found with the name: {name or DEFAULT_SIGNATURE}")
    return signature


def _classification_plan(signature: meta_graph_pb2.SignatureDef) -> _Plan:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {signature}")
    fetches = {role: signature.outputs[role].name for role in (CLASSES, SCORES) if role in signature.outputs}
    if not fetches:
        raise invalid(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}". '
            f"Signature was: {signature}"
        )
    return _Plan(signature.inputs[INPUTS].name, fetches)


def _regression_plan(signature: meta_graph_pb2.SignatureDef) -> _Plan:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {signature}")
    if OUTPUTS not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {signature}")
    return _Plan(signature.inputs[INPUTS].name, {OUTPUTS: signature.outputs[OUTPUTS].name})


def _run(
    servable: Servable, feeds: set[str], fetches: set[str], examples: input_pb2.Input
) -> tuple[int, dict[str, Array]]:
    """The number of examples, and the fetched tensors by name."""
    serialized = _serialized(examples)
    if not serialized:
        raise invalid("Input is empty.")
    tensor = np.empty(len(serialized), dtype=object)
    tensor[:] = serialized
    metrics.EXAMPLE_COUNTS.add(servable.name, value=len(serialized))
    metrics.EXAMPLE_COUNT_TOTAL.add(servable.name, by=len(serialized))
    names = sorted(fetches)
    fetched = servable.run_tensors(dict.fromkeys(sorted(feeds), tensor), names)
    return len(serialized), dict(zip(names, fetched, strict=True))


def _serialized(examples: input_pb2.Input) -> list[bytes]:
    if examples.WhichOneof("kind") == "example_list_with_context":
        # Protobuf merges messages that are written one after the other.
        context = examples.example_list_with_context.context.SerializeToString()
        return [context + example.SerializeToString() for example in examples.example_list_with_context.examples]
    return [example.SerializeToString() for example in examples.example_list.examples]


def _classification(plan: _Plan, count: int, fetched: Mapping[str, Array]) -> classification_pb2.ClassificationResult:
    found = {role: fetched[tensor] for role, tensor in plan.fetches.items()}
    for role, wanted in ((CLASSES, "string"), (SCORES, "float")):
        if role in found:
            _check_classification(found[role], role, wanted, count)
    classes, scores = found.get(CLASSES), found.get(SCORES)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    result = classification_pb2.ClassificationResult()
    for row in range(count):
        entry = result.classifications.add()
        labels = classes[row].tolist() if classes is not None else None
        values = scores[row].tolist() if scores is not None else None
        for index in range(len(labels if labels is not None else values or [])):
            added = entry.classes.add()
            if labels is not None:
                added.label = labels[index].decode("utf-8", "replace")
            if values is not None:
                added.score = values[index]
    return result


def _check_classification(array: Array, role: str, wanted: str, count: int) -> None:
    if array.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
    if _type(array) != wanted:
        raise invalid(f"Expected {role} Tensor of DT_{wanted.upper()}. Got: DT_{_type(array).upper()}")
    if array.shape[0] != count:
        raise invalid(f"Expected {role} output batch size of {count}. Got: {array.shape[0]}")


def _regression(plan: _Plan, count: int, fetched: Mapping[str, Array]) -> regression_pb2.RegressionResult:
    array = fetched[plan.fetches[OUTPUTS]]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(array)}"
        )
    if array.shape[0] != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {array.shape[0]}")
    if _type(array) != "float":
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: DT_{_type(array).upper()}")
    result = regression_pb2.RegressionResult()
    for value in array.ravel().tolist():
        result.regressions.add(value=value)
    return result


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _type(array: Array) -> str:
    known = dtype_of(array)
    return known.name if known else dtype_name(0)
