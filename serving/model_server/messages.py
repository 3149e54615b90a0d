"""Status and metadata of models as the API's protos, and as the JSON that the REST API makes of them."""

from google.protobuf import json_format  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from serving.model_server.manager import VersionStatus
from serving.model_server.servable import Servable


def status_response(states: list[VersionStatus]) -> get_model_status_pb2.GetModelStatusResponse:
    """The answer of GetModelStatus."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, state, error in states:
        entry = response.model_version_status.add(version=version, state=int(state))
        entry.status.error_code = int(error.code) if error else 0
        if error:
            entry.status.error_message = error.message.encode("utf-8", "replace").decode()
    return response


def metadata_response(servable: Servable) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The answer of GetModelMetadata for the field ``signature_def``."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.metadata["signature_def"].Pack(_signatures(servable))
    return response


def status_json(states: list[VersionStatus]) -> bytes:
    """The body of ``GET /v1/models/NAME``."""
    return _json(status_response(states), keep_names=False).encode()


def metadata_json(servable: Servable) -> bytes:
    """The body of ``GET /v1/models/NAME/metadata``."""
    spec = _json(metadata_response(servable).model_spec, keep_names=True)
    signatures = _json(_signatures(servable), keep_names=True)
    return f'{{\n"model_spec":{spec},\n"metadata": {{"signature_def": {signatures}}}\n}}\n'.encode()


def _signatures(servable: Servable) -> get_model_metadata_pb2.SignatureDefMap:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in servable.signatures.items():
        signatures.signature_def[name].CopyFrom(signature)
    return signatures


def _json(message: Message, *, keep_names: bool) -> str:
    text = json_format.MessageToJson(
        message,
        always_print_fields_with_no_presence=True,
        preserving_proto_field_name=keep_names,
        indent=1,
    )
    return text + "\n"
