"""All services over the rooms of one engine: what a server is given to serve."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from grpclib.health.service import Health
from grpclib.reflection.service import ServerReflection

from sampan.events import Exchange
from sampan.metadata import Metadata
from sampan.plugin import Instance
from sampan.runtime import Tasks
from sampan.runtime.controller import SandboxController
from sampan.runtime.mounting import MountManager
from sampan.services.containers.service import ContainersService
from sampan.services.content.service import ContentService
from sampan.services.diff.service import DiffService
from sampan.services.events.service import EventsService
from sampan.services.images.service import ImagesService
from sampan.services.introspection.service import IntrospectionService
from sampan.services.leases.service import LeasesService
from sampan.services.mounts.service import MountsService
from sampan.services.namespaces.service import NamespacesService
from sampan.services.sandboxes.controller import ControllerService
from sampan.services.sandboxes.service import SandboxesService
from sampan.services.snapshots.service import SnapshotsService
from sampan.services.streaming.registry import Streams
from sampan.services.streaming.service import StreamingService
from sampan.services.tasks.checkpoints import Checkpoints
from sampan.services.tasks.rootfs import TaskMounts
from sampan.services.tasks.service import TasksService
from sampan.services.transfer.operations import Operations, Policy
from sampan.services.transfer.service import TransferService
from sampan.services.version.service import VersionService
from sampan.storage.diff.compare import WalkingComparer
from sampan.storage.diff.layers import LayerApplier
from sampan.storage.workers import Runner

__all__ = ["Rooms", "faces"]

SANDBOXER: Final = "shim"
"""Name of the sandboxer that is asked for where a client says nothing."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the services stand on."""

    metadata: Metadata
    tasks: Tasks
    events: Exchange
    runner: Runner
    """Runs the confined workers that apply layers."""
    uuid: str
    """Of the root."""
    plugins: Sequence[Instance]
    """What introspection shows."""
    state: Path
    """Where what need not outlive the machine is kept."""
    sandboxes: SandboxController
    mounts: MountManager
    transfers: Policy
    features: Callable[[], Awaitable[bytes]] | None = None
    """Asks our OCI runtime for its features."""
    differ: Any = None
    """Of the engine's configuration: an Applier and a Comparer; None is our own alone."""
    proxied: Mapping[str, SandboxController] = field(default_factory=dict)
    """Sandboxers in other processes, by name."""


def faces(rooms: Rooms) -> list[Any]:
    """Return the services, health and reflection among them, as handlers of grpclib."""
    metadata = rooms.metadata
    streams = Streams()
    applier = rooms.differ or LayerApplier(metadata.content, rooms.runner)
    comparer = rooms.differ or WalkingComparer(metadata.content)
    checkpoints = Checkpoints(
        rooms.state / "checkpoints", rooms.tasks, metadata.content, applier, comparer
    )
    services: list[Any] = [
        ContainersService(metadata),
        ContentService(metadata),
        DiffService(applier, comparer),
        ControllerService({**rooms.proxied, SANDBOXER: rooms.sandboxes}, rooms.events),
        EventsService(rooms.events),
        ImagesService(metadata),
        IntrospectionService(rooms.uuid, rooms.plugins, rooms.features),
        LeasesService(metadata),
        MountsService(rooms.mounts),
        NamespacesService(metadata),
        SandboxesService(metadata),
        SnapshotsService(metadata),
        StreamingService(streams),
        TasksService(metadata, rooms.tasks, TaskMounts(rooms.mounts), rooms.sandboxes, checkpoints),
        TransferService(Operations(metadata, streams, rooms.runner, rooms.transfers), streams),
        VersionService(),
        Health(),
    ]
    return ServerReflection.extend(services)
