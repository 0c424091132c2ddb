"""What a root holds and costs, and what pruning takes: judged by what is there afterwards."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sampan import context
from sampan.engine import Engine, resolve, usage
from sampan.metadata import Container, Image, Opaque, Runtime
from sampan.model.descriptor import OCI_MANIFEST, Descriptor
from sampan.testing import requires
from sampan.testing.snapshot_suite import write

pytestmark = requires("root")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    flags = {"root": f"{tmp_path}/root", "state": f"{tmp_path}/state"}
    async with Engine.open(resolve(flags, {})) as opened:
        with context.scope("one"):
            yield opened


async def image(engine: Engine, name: str, size: int, **labels: str) -> None:
    content = engine.metadata.content
    async with await content.writer(f"{name}-layer") as writer:
        await writer.write(os.urandom(size))
        layer = (await writer.commit(labels={"containerd.io/gc.root": "x"})).digest
    async with await content.writer(f"{name}-manifest") as writer:
        await writer.write(name.encode())
        root = await writer.commit(labels={"containerd.io/gc.ref.content.l.0": layer})
    target = Descriptor(media_type=OCI_MANIFEST, digest=root.digest, size=root.size)
    await engine.metadata.images.create(Image(name=name, target=target, labels=labels))
    found = await content.info(layer)
    await content.update(type(found)(found.digest, found.size, found.created_at, found.updated_at))


async def container(engine: Engine, name: str, of: str) -> None:
    write(await engine.metadata.snapshotter("overlayfs").prepare(name), data="x" * 20_000)
    await engine.metadata.containers.create(
        Container(
            id=name,
            image=of,
            runtime=Runtime("io.containerd.sampan.v2"),
            spec=Opaque("t", b"{}"),
            snapshotter="overlayfs",
            snapshot_key=name,
        )
    )


async def test_usage_and_prune(engine: Engine) -> None:
    for name, size in (("used", 100_000), ("unused", 50_000)):
        await image(engine, name, size)
    await image(engine, "pinned", 10_000, **{"io.cri-containerd.pinned": "pinned"})
    await container(engine, "c1", "used")
    found = await usage.usage(engine)
    assert (found.images.count, found.images.active) == (3, 1)
    assert found.images.size == 160_000 + len("used" + "unused" + "pinned")
    assert found.images.reclaimable == 50_000 + len("unused")
    assert (found.containers.count, found.containers.active) == (1, 0)
    assert found.containers.size == found.containers.reclaimable >= 20_000
    assert found.content.count == 6
    assert found.snapshots.count == 1
    gone = await usage.prune(engine, containers=False)
    assert (gone.containers, gone.images) == ((), ("unused",))
    assert gone.bytes >= 50_000
    gone = await usage.prune(engine)
    assert (gone.containers, gone.images) == (("c1",), ("used",))
    assert gone.bytes >= 120_000
    assert [one.name for one in await engine.metadata.images.list()] == ["pinned"]
    left = await usage.usage(engine)
    assert (left.content.count, left.content.reclaimable, left.snapshots.count) == (2, 0, 0)


async def test_info(engine: Engine) -> None:
    await container(engine, "c1", "")
    found = await usage.info(engine)
    assert (found.namespaces, found.containers, found.running, found.images) == (1, 1, 0, 0)
    assert found.root == str(engine.settings.root)
    assert found.kernel == os.uname().release
    assert found.cgroups in ("v1", "hybrid", "v2")
    assert found.uuid == await engine.identity()
