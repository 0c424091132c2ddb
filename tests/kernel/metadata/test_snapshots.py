"""Snapshots as one namespace sees them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sampan import context
from sampan.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from sampan.metadata import (
    Metadata,
)
from sampan.storage.snapshots import Info


async def test_snapshots(metadata: Metadata) -> None:
    view = metadata.snapshotter("folder")
    await view.prepare("a/b")
    await view.commit("base", "a/b", labels={"x": "1"})
    with pytest.raises(NotFound):
        await view.stat("a/b")
    with pytest.raises(AlreadyExists, match="target"):
        await view.prepare("k", labels={"containerd.io/snapshot.ref": "base"})
    await view.prepare("child", "base")
    with pytest.raises(FailedPrecondition, match="child"):
        await view.remove("base")
    with pytest.raises(InvalidArgument):
        await view.prepare("grandchild", "child")
    info = await view.stat("base")
    assert info.created_at == info.updated_at
    with pytest.raises(InvalidArgument):
        await view.update(replace(info, parent="x"), ("parent",))
    changed: Info = await view.update(replace(info, parent="x", labels={"y": "2"}))
    assert (changed.parent, changed.labels) == ("", {"y": "2"})
    await view.remove("child")
    await view.remove("base")
    await view.prepare("base")
    with context.scope("other"):
        await view.prepare("base")
    assert [one.name async for one in view.walk(["kind==active"])] == ["base"]


async def test_a_lease_keeps_a_target_that_is_found(metadata: Metadata) -> None:
    view = metadata.snapshotter("folder")
    lease = await metadata.leases.create("l")
    await view.prepare("k", labels={"containerd.io/snapshot.ref": "base"})
    await view.commit("base", "k")
    with context.scope("ns", lease=lease.id), pytest.raises(AlreadyExists, match="target"):
        await view.prepare("k", labels={"containerd.io/snapshot.ref": "base"})
    await metadata.collect()
    assert (await view.stat("base")).name == "base"
    await metadata.leases.delete("l", sync=True)
    with pytest.raises(NotFound):
        await view.stat("base")
