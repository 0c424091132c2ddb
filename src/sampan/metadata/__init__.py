"""Metadata, the second plank: what exists, for whom, and why it is kept.

    metadata = await Metadata.open(root, content=store, snapshotters={"overlayfs": s}, events=ex)
    with context.scope("default", lease="pull-7"):
        await metadata.images.create(Image(name="docker.io/library/alpine:3", target=descriptor))
        mounts = await metadata.snapshotter("overlayfs").prepare("c1", chain_id)
        await metadata.containers.create(Container(id="c1", spec=..., snapshot_key="c1"))

    <root>/metadata/meta.db    one SQLite file for all processes on this root (db, schema.sql)
    <root>/owners/<uuid>       one locked file for each of these processes (owners)

**Namespaces.** Every call acts in the namespace of its request (`sampan.context`); objects of other
namespaces do not exist for it. Namespaces come into being with their first object.

**Views.** `content` and `snapshotter(name)` have the Protocols of the bare stores in
`sampan.storage`. They keep who may see what; labels of record are here, bytes and folders there. A
blob is visible in the namespaces that have its row; how a second one gets a row is `SharingPolicy`.

**Leases.** What a request with a lease creates belongs to that lease too, from the same transaction
on. Garbage is what no root reaches: module `gc` has the rules, module `collector` the work.

**Updates.** `update(value, fields)` takes a field mask: `labels.<key>`, `labels`, or a field's
name; without a mask, everything that may change is replaced. What never changes is refused by name.

**Cost.** A write is one transaction; images, containers and leases are on disk when it returns,
others when the next of those is (a crash of the machine may undo them, never tear them).

Values are frozen. Times are aware datetimes in UTC, set here; the caller's are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Final

from sampan.model import filters
from sampan.model.descriptor import Descriptor
from sampan.model.opaque import Opaque
from sampan.plugin import PluginType

if TYPE_CHECKING:
    from sampan.metadata.store import Metadata

__all__ = [
    "METADATA",
    "Container",
    "GcStats",
    "Image",
    "Lease",
    "Metadata",
    "Namespace",
    "Opaque",
    "Resource",
    "Runtime",
    "Sandbox",
    "SharingPolicy",
]

_NEVER: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A name under which objects live, and its labels, which hold defaults for clients."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        """Answer a filter about `name` or `labels.<key>`."""
        return filters.field_of(path, {"name": self.name}, self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A name for a descriptor. Everything the descriptor reaches by gc labels lives with it."""

    name: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime = _NEVER
    updated_at: datetime = _NEVER

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        """Answer a filter about `name`, `target.digest`, `target.mediatype` or `labels.<key>`."""
        values = {
            "name": self.name,
            "target.digest": self.target.digest,
            "target.mediatype": self.target.media_type,
        }
        return filters.field_of(path, values, self.labels)


@dataclass(frozen=True, slots=True)
class Runtime:
    """Which shim runs a container, such as io.containerd.runc.v2, and what it is told."""

    name: str = ""
    options: Opaque | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What is to run, not what runs: a record that tasks are created from.

    `id`, `runtime.name` and `snapshotter` never change. A container keeps its snapshot alive.
    """

    id: str
    image: str = ""
    runtime: Runtime = field(default_factory=Runtime)
    spec: Opaque = field(default_factory=Opaque)
    """The OCI config.json, as JSON bytes under containerd's type URL, kept byte for byte."""
    snapshotter: str = ""
    snapshot_key: str = ""
    sandbox_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, Opaque] = field(default_factory=dict)
    created_at: datetime = _NEVER
    updated_at: datetime = _NEVER

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        """Answer a filter about `id`, `runtime.name`, `image`, `snapshotter`, ... or labels."""
        values = {
            "id": self.id,
            "image": self.image,
            "runtime.name": self.runtime.name,
            "snapshotter": self.snapshotter,
            "snapshotkey": self.snapshot_key,
            "sandboxid": self.sandbox_id,
        }
        return filters.field_of(path, values, self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What is to hold a pod together, kept for its sandboxer. `id` and `sandboxer` never change."""

    id: str
    sandboxer: str = ""
    runtime: Runtime = field(default_factory=Runtime)
    spec: Opaque = field(default_factory=Opaque)
    labels: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, Opaque] = field(default_factory=dict)
    created_at: datetime = _NEVER
    updated_at: datetime = _NEVER

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        """Answer a filter about `id`, `runtime.name`, `sandboxer` or `labels.<key>`."""
        values = {"id": self.id, "runtime.name": self.runtime.name, "sandboxer": self.sandboxer}
        return filters.field_of(path, values, self.labels)


@dataclass(frozen=True, slots=True)
class Lease:
    """A promise to keep resources until it is deleted or its `containerd.io/gc.expire` passes."""

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime = _NEVER

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        """Answer a filter about `id` or `labels.<key>`."""
        return filters.field_of(path, {"id": self.id}, self.labels)


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """What a lease keeps: type `content`, `images`, `ingests` or `snapshots/<snapshotter>`."""

    type: str
    id: str


class SharingPolicy(Enum):
    """How content of one namespace gets into another. Source: containerd's metadata plugin."""

    SHARED = "shared"
    """Who can name a digest that is here has it: the writer starts complete."""
    ISOLATED = "isolated"
    """Who wants it brings the bytes, unless a namespace that has it is labelled
    `containerd.io/namespace.shareable=true`."""


@dataclass(frozen=True, slots=True)
class GcStats:
    """What a collection removed, and how long it took."""

    content: int = 0
    snapshots: int = 0
    images: int = 0
    leases: int = 0
    ingests: int = 0
    locked_s: float = 0.0
    """Seconds during which other writers waited."""
    total_s: float = 0.0

    @property
    def removed(self) -> int:
        """All objects together."""
        return self.content + self.snapshots + self.images + self.leases + self.ingests


METADATA: Final[PluginType[Metadata]] = PluginType("io.containerd.metadata.v1")


def __getattr__(name: str) -> object:
    if name != "Metadata":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = import_module("sampan.metadata.store").Metadata
    globals()[name] = value
    return value
