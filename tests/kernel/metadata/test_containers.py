"""Containers: records, their masks, and the snapshot that goes with one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.kernel.metadata.objects import container

from sampan.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
)
from sampan.metadata import (
    Metadata,
    Opaque,
    Runtime,
)


async def test_containers(metadata: Metadata) -> None:
    made = await metadata.containers.create(container(extensions={"e": Opaque("u", b"\0\xff")}))
    assert await metadata.containers.get("c") == made
    new = await metadata.containers.update(
        replace(made, labels={"k": "v"}, extensions={"f": Opaque("u")}), ("labels.k",)
    )
    assert new.labels == {"k": "v"}
    assert new.extensions == made.extensions
    with pytest.raises(InvalidArgument, match="immutable"):
        await metadata.containers.update(replace(made, runtime=Runtime("x")))
    with pytest.raises(InvalidArgument, match="immutable"):
        await metadata.containers.update(replace(made, snapshotter="x"))
    with pytest.raises(InvalidArgument):
        await metadata.containers.create(container("d", runtime=Runtime()))
    with pytest.raises(InvalidArgument):
        await metadata.containers.create(container("../d"))
    with pytest.raises(AlreadyExists):
        await metadata.containers.create(container())
    assert await metadata.containers.list("runtime.name==r,labels.k")
    await metadata.containers.delete("c")
    with pytest.raises(NotFound):
        await metadata.containers.delete("c")


async def test_container_and_its_snapshot_go_together(metadata: Metadata) -> None:
    view = metadata.snapshotter("folder")
    await view.prepare("c")
    await metadata.containers.create(container(snapshotter="folder", snapshot_key="c"))
    await metadata.containers.delete("c", snapshots=metadata.snapshotters)
    with pytest.raises(NotFound):
        await view.stat("c")
