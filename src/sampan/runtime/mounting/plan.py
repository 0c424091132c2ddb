"""What of a list of mounts is ours to do. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sampan.model.mounts import Mount

__all__ = ["HANDLED", "TRANSFORMS", "Plan", "planned"]

TRANSFORMS: Final = ("format", "mkdir", "mkfs")
HANDLED: Final = frozenset({"loop"})
"""Types that only we can mount."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How far we go."""

    ours: int
    """Mounts from the beginning that we mount; the one after these, we transform."""
    chains: Sequence[tuple[str, ...]]
    """Of each mount, the transforms of its type, in order."""
    needed: bool
    """Whether there is anything for us."""


def planned(mounts: Sequence[Mount], *, temporary: bool = False) -> Plan:
    """Return the plan: everything before the last mount that needs us must be mounted by us."""
    chains, ours, needed = [], 0, False
    for at, mount in enumerate(mounts):
        *chain, kind = _parts(mount.type)
        chains.append(tuple(chain))
        if chain:
            ours, needed = at, True
        if temporary or kind in HANDLED:
            ours, needed = at + 1, True
    return Plan(ours, chains, needed)


def _parts(type: str) -> list[str]:
    """Return the transforms that a type begins with, and the rest of it."""
    found = []
    kind = type
    head, slash, rest = kind.partition("/")
    while slash and head in TRANSFORMS:
        found.append(head)
        kind = rest
        head, slash, rest = kind.partition("/")
    return [*found, kind]
