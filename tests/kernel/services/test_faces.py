"""Every service of containerd's API has a face, and every method of it a handler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sampan.api.containerd.services as packages
from sampan.events import Exchange
from sampan.metadata import Metadata
from sampan.runtime import LocalTasks, Shims
from sampan.runtime.controller import SandboxController
from sampan.runtime.mounting.manager import LocalMounts
from sampan.services.faces import Rooms, faces
from sampan.services.transfer.operations import Policy
from sampan.storage.content.local import LocalStore
from sampan.storage.workers import SpawnRunner
from sampan.testing import requires

pytestmark = requires("root")

ELSEWHERE = {"containerd.services.events.ttrpc.v1.Events"}
"""Over ttrpc, by `runtime.publish`."""


async def handlers(folder: Path) -> list[Any]:
    exchange = Exchange()
    shims = Shims(folder)
    store = LocalStore(folder / "content")
    opened = await Metadata.open(folder, content=store, snapshotters={}, events=exchange)
    async with opened as metadata:
        return faces(
            Rooms(
                metadata=metadata,
                tasks=LocalTasks(folder, shims, exchange),
                events=exchange,
                runner=SpawnRunner(),
                uuid="u",
                plugins=[],
                state=folder,
                sandboxes=SandboxController(folder, shims),
                mounts=LocalMounts(folder / "mounts", []),
                transfers=Policy(folder),
            )
        )


async def test_every_method_is_served(short_path: Path) -> None:
    served = {path for one in await handlers(short_path) for path in one.__mapping__()}
    assert "/grpc.health.v1.Health/Check" in served
    assert any(path.startswith("/grpc.reflection.v1.") for path in served)
    assert any(path.startswith("/grpc.reflection.v1alpha.") for path in served)
    missing = []
    for service, methods in described():
        missing += [f"/{service}/{one}" for one in methods if f"/{service}/{one}" not in served]
    assert missing == []


def described() -> list[tuple[str, list[str]]]:
    """Return the services of the generated messages with their methods."""
    from importlib import import_module

    root = Path(packages.__path__[0])
    found = []
    for path in sorted(root.rglob("*_pb2.py")):
        name = ".".join(
            ("sampan.api.containerd.services", *path.relative_to(root).with_suffix("").parts)
        )
        services = import_module(name).DESCRIPTOR.services_by_name.values()
        found += [
            (one.full_name, [each.name for each in one.methods])
            for one in services
            if one.full_name not in ELSEWHERE
        ]
    assert len(found) >= 16
    return found
