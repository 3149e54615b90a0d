"""Which versions a model should serve, and the next step from a snapshot of what it has.

In words, the policy that preserves availability:

1. A version that is loaded but no longer wanted is unloaded when a wanted one is ready, when nothing is wanted, or
   when another unwanted one is ready beside it; the lowest goes first.
2. Otherwise the highest wanted version that is new is loaded.
3. A version that failed to load is not wanted while another one can be: the newest good version serves, also after a
   restart.
"""

import enum
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal


class State(enum.IntEnum):
    """The life of a version, with the numbers of ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions on disk to serve: the latest `count`, all, or the given ones."""

    kind: Literal["latest", "all", "specific"] = "latest"
    count: int = 1
    versions: tuple[int, ...] = ()


@dataclass(frozen=True)
class VersionSnapshot:
    """What the policy needs to know of one version."""

    version: int
    state: State
    wanted: bool


@dataclass(frozen=True)
class Action:
    """The next step: load or unload one version."""

    kind: Literal["load", "unload"]
    version: int


def wanted_versions(policy: VersionPolicy, found: Iterable[int], failed: Collection[int]) -> set[int]:
    """The versions to serve, of those `found` on disk, passing over the `failed` ones where another can serve."""
    versions = sorted(set(found), reverse=True)
    if policy.kind == "specific":
        return set(policy.versions) & set(versions)
    if policy.kind == "all":
        return set(versions)
    good = [version for version in versions if version not in failed]
    return set((good or versions)[: max(policy.count, 1)])


def next_action(snapshot: Sequence[VersionSnapshot]) -> Action | None:
    """The next step for one model, or None where there is nothing to do."""
    wanted = [version for version in snapshot if version.wanted]
    surplus = [version.version for version in snapshot if not version.wanted and version.state is State.AVAILABLE]
    replaced = any(version.state is State.AVAILABLE for version in wanted)
    if surplus and (not wanted or replaced or len(surplus) > 1):
        return Action("unload", min(surplus))
    new = [version.version for version in wanted if version.state is State.START]
    return Action("load", max(new)) if new else None
