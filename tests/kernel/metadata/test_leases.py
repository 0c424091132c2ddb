"""Leases: what they keep, and until when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.kernel.metadata.objects import put

from sampan import context
from sampan.errors import (
    NotFound,
    Unimplemented,
)
from sampan.metadata import (
    Metadata,
    Resource,
)


async def test_leases_keep_until_they_expire(metadata: Metadata) -> None:
    await metadata.leases.create("l", expire_s=3600)
    with context.scope(lease="l"):
        digest = await put(metadata, b"leased")
        await metadata.snapshotter("folder").prepare("s")
    with context.scope(lease="gone"), pytest.raises(NotFound):
        await put(metadata, b"x")
    await metadata.collect()
    await metadata.content.info(digest)
    assert await metadata.leases.resources("l") == (
        Resource("content", digest),
        Resource("snapshots/folder", "s"),
    )
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    await metadata.leases.create("late", {"containerd.io/gc.expire": past})
    await metadata.leases.delete("l", sync=True)
    with pytest.raises(NotFound):
        await metadata.content.info(digest)
    with pytest.raises(NotFound):
        await metadata.leases.get("late")
    await metadata.leases.create("x")
    with pytest.raises(Unimplemented):
        await metadata.leases.add_resource("x", Resource("nothing", "a"))
