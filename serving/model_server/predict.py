"""Predict: named tensors through one signature of a servable, with TensorFlow Serving's checks."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.model_server import metrics
from serving.model_server.json_values import Array
from serving.model_server.servable import Done, Servable
from serving.model_server.status import Code, ServingError, invalid
from serving.model_server.tensor_protos import check_fed_type, from_proto

DEFAULT_SIGNATURE = "serving_default"
# TensorFlow reads no NumPy array of more dimensions: the process ends.
MAX_RANK = 32


class PredictPlan(NamedTuple):
    """What a predict request runs: the tensors to feed and fetch, by their names in the graph."""

    feeds: dict[str, Array]
    fetches: list[str]
    outputs: list[str]

    def named(self, fetched: Sequence[Array]) -> dict[str, Array]:
        """The fetched tensors by the names of the signature's outputs."""
        return dict(zip(self.outputs, fetched, strict=True))


class HeldPrediction(NamedTuple):
    """A checked predict request, and the servable that it keeps loaded until it has run, by `run` or by `submit`."""

    servable: Servable
    plan: PredictPlan

    def run(self) -> list[Array]:
        """Run it, and return what was fetched."""
        try:
            return _run(self.servable, self.plan)
        finally:
            self.servable.release()

    def submit(self, done: Done) -> bool:
        """Put it into a batch, to call `done` from another thread; False, and nothing held, where none takes it."""
        servable, start = self.servable, time.perf_counter()

        def finish(fetched: list[Array] | ServingError) -> None:
            if not isinstance(fetched, ServingError):
                _count(servable, start)
            servable.release()
            done(fetched)

        try:
            batcher = servable.batcher
            submitted = batcher is not None and batcher.submit(self.plan.feeds, self.plan.fetches, finish)
        except Exception:
            submitted = False
        if not submitted:
            servable.release()
        return submitted


def predict(
    servable: Servable,
    signature_name: str,
    inputs: Mapping[str, Array] | Mapping[str, tensor_pb2.TensorProto],
    *,
    output_filter: Sequence[str] = (),
) -> dict[str, Array]:
    """Run a signature ("" is serving_default) and return its outputs, or those of `output_filter` alone."""
    plan = plan_predict(servable, signature_name, inputs, output_filter=output_filter)
    return plan.named(_run(servable, plan))


def _run(servable: Servable, plan: PredictPlan) -> list[Array]:
    start = time.perf_counter()
    fetched = servable.run_tensors(plan.feeds, plan.fetches)
    _count(servable, start)
    return fetched


def _count(servable: Servable, start: float) -> None:
    metrics.RUNTIME_LATENCY.add(servable.name, "Predict", "TF1", value=(time.perf_counter() - start) * 1e6)


def plan_predict(
    servable: Servable,
    signature_name: str,
    inputs: Mapping[str, Array] | Mapping[str, tensor_pb2.TensorProto],
    *,
    output_filter: Sequence[str] = (),
) -> PredictPlan:
    """Check a request against its signature; inputs that are still protos are parsed after their names are checked."""
    key = signature_name or DEFAULT_SIGNATURE
    types = servable.input_types.get(key)
    if types is None:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.')
    if types.keys() == set(inputs):
        arrays = {alias: _array(inputs[alias], alias) for alias in types}
    else:
        arrays = _arrays_of_some(servable.signatures[key], inputs)
    fetched = servable.output_names[key]
    outputs = _chosen(output_filter, fetched) if output_filter else list(fetched)
    for index, (alias, array) in enumerate(arrays.items()):
        check_fed_type(array, types[alias], index)
        if array.ndim > MAX_RANK:
            raise invalid(f"input {alias} has {array.ndim} dimensions; at most {MAX_RANK} are supported")
    names = servable.input_names[key]
    return PredictPlan(
        {names[alias]: array for alias, array in arrays.items()}, [fetched[alias] for alias in outputs], outputs
    )


def _array(value: Array | tensor_pb2.TensorProto, alias: str) -> Array:
    return value if isinstance(value, np.ndarray) else from_proto(value, alias)


def _arrays_of_some(
    signature: meta_graph_pb2.SignatureDef, inputs: Mapping[str, Array] | Mapping[str, tensor_pb2.TensorProto]
) -> dict[str, Array]:
    """The inputs of a signature in the order of their names where not all of them, or others, are given."""
    given, wanted = set(inputs), set(signature.inputs)
    if len(given) > len(wanted) or (len(given) < len(wanted) and not signature.defaults):
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(wanted)} len({{{_listed(given)}}}) != "
            f"len({{{_listed(wanted)}}}). Sent extra: {{{_listed(given - wanted)}}}. "
            f"Missing but required: {{{_listed(wanted - given)}}}."
        )
    arrays: dict[str, Array] = {}
    for alias in sorted(wanted):
        if alias in inputs:
            arrays[alias] = _array(inputs[alias], alias)
        elif alias in signature.defaults:
            arrays[alias] = from_proto(signature.defaults[alias], alias)
        else:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in request and "
                f"no default value provided. Inputs expected to be in the request {{{_listed(given)}}}, or default "
                f"input alias set: {_listed(signature.defaults)}"
            )
    if given - wanted:
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {_listed(given & wanted)}, "
            f"request input: {_listed(given)}"
        )
    return arrays


def _chosen(output_filter: Sequence[str], known: Mapping[str, str]) -> list[str]:
    chosen: list[str] = []
    for alias in output_filter:
        if alias not in known:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_listed(known)}}}."
            )
        if alias in chosen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        chosen.append(alias)
    return chosen


def _listed(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
