"""The versions in service, looked up by every request without a lock."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from serving.model_server.servable import Servable
from serving.model_server.status import Code, ServingError, invalid


class ServingMap:
    """Models to versions to servables; changed by the manager alone, which replaces the whole map."""

    def __init__(self) -> None:
        self._serving: dict[str, dict[int, Servable]] = {}
        self._labels: dict[str, dict[str, int]] = {}

    def put(self, servable: Servable) -> None:
        """Take a servable into service."""
        name, version = servable.name, servable.version
        self._serving = {**self._serving, name: {**self._serving.get(name, {}), version: servable}}

    def remove(self, name: str, version: int) -> Servable:
        """Take a version out of service and return it; requests that have it keep it until they end."""
        removed = self._serving[name][version]
        rest = {key: servable for key, servable in self._serving[name].items() if key != version}
        others = {key: versions for key, versions in self._serving.items() if key != name}
        self._serving = {**others, name: rest} if rest else others
        return removed

    def set_labels(self, labels: Mapping[str, Mapping[str, int]]) -> None:
        """Replace the version labels of all models."""
        self._labels = {name: dict(of_model) for name, of_model in labels.items()}

    def available(self) -> dict[str, list[int]]:
        """The versions in service, by model."""
        return {name: sorted(versions) for name, versions in sorted(self._serving.items())}

    @contextmanager
    def servable(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[Servable]:
        """The version that a request names, by default the latest, kept loaded for the length of the block."""
        chosen = self.acquire(name, version, label)
        try:
            yield chosen
        finally:
            chosen.release()

    def acquire(self, name: str, version: int | None, label: str | None) -> Servable:
        """The version that a request names; the caller must `release` it."""
        if not name:
            raise invalid("ModelSpec has no name specified.")
        if label is not None:
            version = self._labels.get(name, {}).get(label)
            if version is None:
                raise invalid(f"Unrecognized servable version label: {label}")
        while True:
            versions = self._serving.get(name)
            found = None
            if versions:
                found = versions[max(versions)] if version is None else versions.get(version)
            if found is None:
                wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
            if found.acquire():
                return found
