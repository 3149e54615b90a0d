"""The versions of every model: polled from disk, loaded before they take traffic, drained before they go."""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from serving.model_server.background import in_background
from serving.model_server.bundle_files import fingerprint, has_file_list
from serving.model_server.servable import Servable
from serving.model_server.serving_map import ServingMap
from serving.model_server.status import Code, ServingError
from serving.model_server.version_policy import State, VersionPolicy, VersionSnapshot, next_action, wanted_versions
from serving.model_server.version_source import scan_versions

logger = logging.getLogger(__name__)

_REMINDER_SECONDS = 60.0


class ModelConfig(NamedTuple):
    """One model to serve."""

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = {}


class VersionStatus(NamedTuple):
    """What a client may know of one version."""

    version: int
    state: State
    error: ServingError | None


class Loader(NamedTuple):
    """How the manager turns a directory into a servable, and how often it tries."""

    load: Callable[..., Servable]
    max_retries: int = 5
    retry_seconds: float = 60.0
    file_list_required: bool = False


@dataclass
class _Version:
    path: Path
    state: State = State.START
    error: ServingError | None = None
    failures: int = 0
    failed_content: tuple[int, int, int] | None = None
    retry_at: float = 0.0
    told: str = ""

    @property
    def failed(self) -> bool:
        return self.state is State.END and self.error is not None


@dataclass
class _Model:
    config: ModelConfig
    removed: bool = False
    found: dict[int, Path] = field(default_factory=dict)
    versions: dict[int, _Version] = field(default_factory=dict)
    next_reminder: float = 0.0
    attempted: bool = False
    polls: int = 0


class ModelManager:
    """Keeps every model's wanted versions in service: the map `serving` holds what requests may use.

    A version that has left service is unloaded `unload_delay_seconds` later: the first requests to its successor, which
    finds its memory cold, do not share the cores with that too.
    """

    def __init__(self, loader: Loader, *, poll_seconds: float = 1.0, unload_delay_seconds: float = 0.0) -> None:
        self._loader = loader
        self._poll_seconds = poll_seconds
        self._unload_delay_seconds = unload_delay_seconds
        self._models: dict[str, _Model] = {}
        self.serving = ServingMap()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._wake = threading.Event()
        self._stopping = False
        self._polled = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="version-manager", daemon=True)

    def configure(self, models: Sequence[ModelConfig]) -> None:
        """Serve these models from now on; models that are no longer named are unloaded."""
        with self._changed:
            named = {config.name for config in models}
            for config in models:
                model = self._models.get(config.name)
                if model is None or model.removed:
                    old_versions = model.versions if model else {}
                    self._models[config.name] = _Model(config, versions=old_versions)
                else:
                    model.config = config
            for name, model in self._models.items():
                model.removed = model.removed or name not in named
        self._wake.set()

    def start(self) -> None:
        """Begin to poll and load in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling; versions stay loaded for requests that still run."""
        self._stopping = True
        self._wake.set()

    def wait_until_settled(self, stop: Callable[[], bool]) -> bool:
        """Wait until some model has versions on disk and every such model's were tried; False when `stop` says so."""
        with self._changed:
            while not stop():
                present = [model for model in self._models.values() if model.found]
                if not self._models or (present and all(model.attempted for model in present)):
                    return True
                self._changed.wait(0.1)
        return False

    def wait_until_tried(self, name: str, stop: Callable[[], bool]) -> None:
        """Wait until a model's base path was looked at and every wanted version is available or has failed."""
        with self._changed:
            while not stop() and not self._tried(self._models[name]):
                self._changed.wait(0.1)

    def _tried(self, model: _Model) -> bool:
        versions = (model.versions.get(number) for number in self._wanted(model))
        return model.polls > 0 and all(
            version is not None and (version.failed or version.state is State.AVAILABLE) for version in versions
        )

    def _wanted(self, model: _Model) -> set[int]:
        failed = {number for number, version in model.versions.items() if version.failed}
        return wanted_versions(model.config.policy, model.found, failed)

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The states of a model's versions, the newest first; NOT_FOUND where there is none."""
        with self._lock:
            model = self._models.get(name)
            versions = model.versions if model else {}
            if version is not None:
                if version not in versions:
                    raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
                versions = {version: versions[version]}
            if not versions:
                raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
            return [
                VersionStatus(number, versions[number].state, versions[number].error)
                for number in sorted(versions, reverse=True)
            ]

    def poll(self) -> None:
        """Look at the disk once and act until nothing is left to do."""
        with self._polled:
            for model in list(self._models.values()):
                self._find(model)
                while self._step(model):
                    pass
                with self._changed:
                    model.attempted = bool(model.found)
                    model.polls += 1
                    self._changed.notify_all()

    def _run(self) -> None:
        polled = False
        while not self._stopping:
            self._wake.clear()
            if self._poll_seconds > 0 or (self._poll_seconds == 0 and not polled):
                try:
                    self.poll()
                    polled = True
                except Exception:
                    logger.exception("Polling failed; it will be tried again")
            self._wake.wait(self._poll_seconds if self._poll_seconds > 0 else None)

    def _find(self, model: _Model) -> None:
        found = {} if model.removed else scan_versions(model.config.base_path)
        if not found and not model.removed:
            self._remind(model, missing=found is None)
        if found is None:
            return  # A base path that is gone for a moment does not unload what is loaded.
        with self._changed:
            model.found = found
            for number, version in model.versions.items():
                if number in found and version.failed and self._try_again(version):
                    version.path, version.state = found[number], State.START

    def _try_again(self, version: _Version) -> bool:
        if fingerprint(version.path) != version.failed_content:
            version.failures = 0
            return True
        return version.failures <= self._loader.max_retries and time.monotonic() >= version.retry_at

    def _remind(self, model: _Model, *, missing: bool) -> None:
        if time.monotonic() < model.next_reminder:
            return
        model.next_reminder = time.monotonic() + _REMINDER_SECONDS
        name, path = model.config.name, model.config.base_path
        if missing:
            logger.error("Could not find base path %s for servable %s; still polling", path, name)
        else:
            logger.warning(
                "No versions of servable %s found under base path %s; still polling. Did you forget to name your leaf "
                "directory as a number (eg. '/1/')?",
                name,
                path,
            )

    def _step(self, model: _Model) -> bool:
        """Take the next step for a model; False where there is none."""
        if self._stopping:
            return False
        with self._lock:
            wanted = self._wanted(model)
            for number in wanted:
                known = model.versions.get(number)
                if known is None or (known.state is State.END and known.error is None):
                    model.versions[number] = _Version(model.found[number])
            snapshot = [
                VersionSnapshot(number, version.state, number in wanted) for number, version in model.versions.items()
            ]
        action = next_action(snapshot)
        if action is None:
            return False
        if action.kind == "load":
            self._load(model, action.version)
        else:
            self._unload(model, action.version)
        return True

    def _load(self, model: _Model, number: int) -> None:
        version = model.versions[number]
        name = model.config.name
        self._enter(version, State.LOADING, None)
        content = fingerprint(version.path)
        required = self._loader.file_list_required or any(map(has_file_list, model.found.values()))
        try:
            beside = bool(self.serving.available())
            servable = self._loader.load(name, number, version.path, file_list_required=required, beside_traffic=beside)
        except ServingError as error:
            version.failures += 1
            version.failed_content = content
            version.retry_at = time.monotonic() + self._loader.retry_seconds
            self._enter(version, State.END, error)
            # The numbers change with every look at a copy that is under way; a line for each would say nothing new.
            told = re.sub(r"\d+", "", error.message)
            if version.failures == 1 and told != version.told:
                version.told = told
                logger.error("Version %d of %s is not taken into service: %s", number, name, error)
            return
        with self._lock:
            version.failures = 0
            self.serving.put(servable)
            self._enter(version, State.AVAILABLE, None)
        logger.info("Version %d of %s is in service", number, name)

    def _unload(self, model: _Model, number: int) -> None:
        version, name = model.versions[number], model.config.name
        with self._lock:
            servable = self.serving.remove(name, number)
            self._enter(version, State.UNLOADING, None)
        threading.Thread(target=self._drain, args=(name, number, version, servable), daemon=True).start()

    def _drain(self, name: str, number: int, version: _Version, servable: Servable) -> None:
        if self.serving.available():
            time.sleep(self._unload_delay_seconds)
        in_background(servable.close)
        self._enter(version, State.END, None)
        self._wake.set()  # the version may be wanted again by now
        logger.info("Version %d of %s is unloaded", number, name)

    def _enter(self, version: _Version, state: State, error: ServingError | None) -> None:
        with self._changed:
            version.state, version.error = state, error
            self._changed.notify_all()
