"""ModelService: the states of versions, and new configs while the server runs."""

import logging
from collections.abc import Callable

from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2

from serving.model_server import metrics
from serving.model_server.grpc_calls import Call, answered, chosen_version
from serving.model_server.manager import ModelManager
from serving.model_server.messages import status_response
from serving.model_server.model_configs import ModelConfigs
from serving.model_server.status import invalid

logger = logging.getLogger(__name__)


class ModelService:
    """Answers GetModelStatus and HandleReloadConfigRequest; what is wrong is raised as a ServingError."""

    NAME = "tensorflow.serving.ModelService"

    def __init__(self, manager: ModelManager, configs: ModelConfigs, stopping: Callable[[], bool]) -> None:
        self._manager = manager
        self._configs = configs
        self._stopping = stopping

    def calls(self) -> dict[str, Call]:
        """The methods by name."""
        return {
            "GetModelStatus": Call(get_model_status_pb2.GetModelStatusRequest, self.status),
            "HandleReloadConfigRequest": Call(model_management_pb2.ReloadConfigRequest, self.reload),
        }

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of one version, or of all that a model has or had."""
        return answered(lambda: self._status(request))

    def _status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        name, version, _ = chosen_version(request.model_spec)
        return status_response(self._manager.status(name, version))

    def reload(self, request: model_management_pb2.ReloadConfigRequest) -> model_management_pb2.ReloadConfigResponse:
        """Serve another list of models from now on; answers when the new ones are available."""
        return answered(lambda: self._reload(request))

    def _reload(self, request: model_management_pb2.ReloadConfigRequest) -> model_management_pb2.ReloadConfigResponse:
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest."
                " Only ModelConfigList is currently supported"
            )
        before = {name: metrics.counter_value(name) for name in request.metric_names}
        for index, entry in enumerate(request.config.model_config_list.config):
            logger.info("Config entry %d: name %s, path %s", index, entry.name, entry.base_path)
        self._configs.wait_for(self._configs.apply(request.config), self._stopping)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        for name, value in before.items():
            response.metric.add(name=name, int64_value_increase=metrics.counter_value(name) - value)
        return response
