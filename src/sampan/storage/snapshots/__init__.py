"""Snapshots: folders that stand on other folders, and are written to only until they are committed.

A *committed* snapshot is a layer with everything below it; it never changes. An *active* one is
made upon a committed parent (or on nothing) under a *key*, and is written to through its mounts; a
*view* is the same, read-only. Keys and names live in one set, any text without NUL; `/` is fine.

    mounts = await s.prepare("extract-1", parent="sha256:base")   # active, on base
    ... the caller mounts them somewhere and writes ...
    await s.commit("sha256:base+1", "extract-1")                  # key gone, name there
    await s.prepare("container-7", parent="sha256:base+1")        # a container's root
    await s.remove("container-7")                                 # children first

A key without parent may be committed *onto* one (`commit(..., parent=...)`, capability `rebase`):
so layers that do not depend on each other are unpacked at the same time, and stacked afterwards.

Labels `containerd.io/snapshot/uidmapping` and `.../gidmapping` at prepare or view
(`container:host:size`, comma-separated) ask for a root filesystem whose ids are mapped so.

`mounts` says what to mount, and mounts nothing: no snapshotter holds a mount of its own (an
exception, idmapped lower folders, is documented in `overlay`). Mounting is the caller's, in
whatever namespace it wants.

Source: containerd core/snapshots/snapshotter.go for words and error classes.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, runtime_checkable

from sampan.model.mounts import Mount

__all__ = [
    "LABEL_GIDMAPPING",
    "LABEL_UIDMAPPING",
    "Info",
    "Kind",
    "Snapshotter",
    "Usage",
]

LABEL_UIDMAPPING: Final = "containerd.io/snapshot/uidmapping"
LABEL_GIDMAPPING: Final = "containerd.io/snapshot/gidmapping"


class Kind(enum.Enum):
    """What may be done with a snapshot. Values are those of filters: `kind==committed`."""

    VIEW = "view"
    ACTIVE = "active"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class Info:
    """A snapshot. Times are aware, in UTC; `created_at` equals `updated_at` until an update."""

    kind: Kind
    name: str
    parent: str
    """Name of the snapshot below; empty for none."""
    created_at: datetime
    updated_at: datetime
    labels: Mapping[str, str] = field(default_factory=dict)

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        """Answer a filter (`model.filters`) about `kind`, `name`, `parent` or `labels.<key>`."""
        match list(path):
            case ["kind"]:
                return self.kind.value, True
            case ["name"]:
                return self.name, True
            case ["parent"]:
                return self.parent, bool(self.parent)
            case ["labels", *key] if key:
                value = self.labels.get(".".join(key))
                return value or "", value is not None
            case _:
                return "", False


@dataclass(frozen=True, slots=True)
class Usage:
    """Disk space of one snapshot alone, without its parents; a file of many links counts once."""

    inodes: int
    size: int
    """In bytes, as allocated."""


@runtime_checkable
class Snapshotter(Protocol):
    """One way to stack folders. Every call may come from several processes on one root at once."""

    @property
    def name(self) -> str:
        """The plugin's id: `overlayfs`, `native`, ..."""
        ...

    @property
    def capabilities(self) -> frozenset[str]:
        """Of `rebase`, `remap-ids`, `only-remap-ids`."""
        ...

    async def stat(self, key: str) -> Info:
        """Describe a snapshot of any kind.

        Raises:
          NotFound: no such key or name.
        """
        ...

    async def update(self, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        """Change labels: all of them, or with paths (`labels`, `labels.<key>`) those named.

        Raises:
          NotFound: no such snapshot.
          InvalidArgument: a path names something immutable.
        """
        ...

    async def usage(self, key: str) -> Usage:
        """Count the disk space: walked anew for active ones, remembered for committed ones."""
        ...

    async def mounts(self, key: str) -> list[Mount]:
        """Return the mounts of an active snapshot or view, as `prepare` did.

        Raises:
          NotFound: no such key.
          FailedPrecondition: it is committed; view or prepare upon it.
        """
        ...

    async def prepare(
        self, key: str, parent: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """Make an active snapshot `key` upon the committed `parent`.

        Raises:
          AlreadyExists: the key is taken.
          NotFound: no such parent.
          InvalidArgument: the parent is not committed, or the key is empty.
        """
        ...

    async def view(
        self, key: str, parent: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        """Make a read-only snapshot `key` upon the committed `parent`; errors as `prepare`."""
        ...

    async def commit(
        self,
        name: str,
        key: str,
        *,
        labels: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> None:
        """Turn the active `key` into the committed `name`, with `labels` for all its labels.

        Args:
          name: What it will be called.
          key: What it was called.
          labels: Its labels from now on.
          parent: For a key without parent: the committed snapshot that it is put onto.

        Raises:
          AlreadyExists: the name is taken.
          NotFound: no such key, or no such parent.
          FailedPrecondition: the key is not active.
          InvalidArgument: `parent` differs from the parent it has.
        """
        ...

    async def remove(self, key: str) -> None:
        """Take a snapshot of any kind away. Its files go after the answer's own step.

        Raises:
          NotFound: no such key or name.
          FailedPrecondition: others stand upon it.
        """
        ...

    def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        """Yield the snapshots that match any of the filters, or all."""
        ...

    async def cleanup(self) -> None:
        """Remove folders that no snapshot has and no live process holds."""
        ...

    async def close(self) -> None: ...
