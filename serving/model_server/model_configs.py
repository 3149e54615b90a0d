"""The list of models to serve: from flags, from a config file, or sent by HandleReloadConfigRequest."""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.config_files import read_model_config
from serving.model_server.manager import ModelConfig, ModelManager
from serving.model_server.status import Code, ServingError, invalid
from serving.model_server.version_policy import State, VersionPolicy
from tfrs_shop.errors import UserError

logger = logging.getLogger(__name__)

_TENSORFLOW = "tensorflow"


def single_model(name: str, base_path: Path) -> model_server_config_pb2.ModelServerConfig:
    """The config of --model_name and --model_base_path."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=str(base_path.absolute()), model_platform=_TENSORFLOW)
    return config


def parse_models(config: model_server_config_pb2.ModelServerConfig) -> list[ModelConfig]:
    """The models of a config; raises INVALID_ARGUMENT for one that cannot be served as it says."""
    kind = config.WhichOneof("config")
    if kind == "custom_model_config":
        raise invalid("ServerModelConfig type not supported. Only ModelConfigList is currently supported")
    models: list[ModelConfig] = []
    for entry in config.model_config_list.config:
        if any(entry.name == model.name for model in models):
            raise invalid(f"Illegal to list model {entry.name} multiple times in config list")
        if not Path(entry.base_path).is_absolute():
            raise invalid(
                f"Expected model {entry.name} to have an absolute path or URI; got base_path()={entry.base_path}"
            )
        _check_platform(entry)
        models.append(ModelConfig(entry.name, Path(entry.base_path), _policy(entry), dict(entry.version_labels)))
    return models


def _check_platform(entry: model_server_config_pb2.ModelConfig) -> None:
    platform = entry.model_platform
    if entry.model_type != model_server_config_pb2.MODEL_TYPE_UNSPECIFIED:
        if platform:
            raise invalid(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                f"ModelServerConfig::model_platform, model name is {entry.name}"
            )
        if entry.model_type != model_server_config_pb2.TENSORFLOW:
            raise invalid(f"ModelServerConfig::model_type choice {entry.model_type} not supported.")
        platform = _TENSORFLOW
    if not platform:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {entry.name}"
        )
    if platform != _TENSORFLOW:
        raise invalid(f"Model {entry.name} requests unsupported platform {platform}")


def _policy(entry: model_server_config_pb2.ModelConfig) -> VersionPolicy:
    policy = entry.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return VersionPolicy("all")
    if kind == "specific":
        return VersionPolicy("specific", versions=tuple(policy.specific.versions))
    return VersionPolicy("latest", count=max(policy.latest.num_versions, 1))


class ModelConfigs:
    """Applies configs to the manager, one at a time."""

    def __init__(self, manager: ModelManager, *, allow_unavailable_labels: bool = False) -> None:
        self._manager = manager
        self._allow_unavailable = allow_unavailable_labels
        self._lock = threading.Lock()
        self._labels: dict[str, dict[str, int]] = {}
        self._names: set[str] = set()

    def apply(self, config: model_server_config_pb2.ModelServerConfig) -> list[str]:
        """Serve the models of `config` from now on, and return the names of those that are new."""
        with self._lock:
            if config.WhichOneof("config") is None:
                logger.info("Taking no action for empty config.")
                return []
            models = parse_models(config)
            labels = {model.name: dict(model.labels) for model in models}
            self._check_labels(labels)
            new = sorted({model.name for model in models} - self._names)
            self._labels, self._names = labels, set(labels)
            self._manager.serving.set_labels(labels)
            self._manager.configure(models)
            return new

    def _check_labels(self, labels: Mapping[str, Mapping[str, int]]) -> None:
        for name, of_model in labels.items():
            for label, version in of_model.items():
                known = self._labels.get(name, {}).get(label)
                if self._allow_unavailable and known in (None, version):
                    continue
                if self._state(name, version) is not State.AVAILABLE:
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {name}, "
                        "which is not currently available for inference",
                    )

    def _state(self, name: str, version: int) -> State | None:
        try:
            return self._manager.status(name, version)[0].state
        except ServingError:
            return None

    def wait_for(self, names: list[str], stop: Callable[[], bool]) -> None:
        """Wait until the named models were tried; raises UNKNOWN when one of them is not available then."""
        failed = []
        for name in names:
            self._manager.wait_until_tried(name, stop)
            if name not in self._manager.serving.available():
                failed.append(self._why(name))
        if failed:
            raise ServingError(
                Code.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{', '.join(failed)}, }}"
            )

    def _why(self, name: str) -> str:
        try:
            latest = self._manager.status(name)[0]
        except ServingError:
            return f"{{name: {name}}}"
        because = f" due to error: {latest.error}" if latest.error else ""
        return f"{{{{name: {name} version: {latest.version}}}{because}}}"


def watch_config_file(path: Path, configs: ModelConfigs, seconds: float, stop: threading.Event) -> None:
    """Apply the file again every `seconds`; a file that cannot be applied is logged and changes nothing."""
    last = None
    while not stop.wait(seconds):
        try:
            config = read_model_config(path)
            if config != last:
                configs.apply(config)
                last = config
        except (UserError, ServingError) as error:
            logger.error("The models of %s are not reloaded: %s", path, error)
