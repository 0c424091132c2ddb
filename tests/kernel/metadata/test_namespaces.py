"""Namespaces: upserts, and that only empty ones go."""

from __future__ import annotations

import pytest

from sampan.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
)
from sampan.metadata import (
    Metadata,
)


async def test_namespaces(metadata: Metadata) -> None:
    await metadata.namespaces.update("up", {"a": "1"})
    with pytest.raises(AlreadyExists):
        await metadata.namespaces.create("up")
    await metadata.snapshotter("folder").prepare("k")
    await metadata.leases.create("l")
    with pytest.raises(FailedPrecondition, match='has snapshots on "folder" snapshotter'):
        await metadata.namespaces.delete("ns")
    assert [one.name for one in await metadata.namespaces.list()] == ["ns", "up"]
    await metadata.namespaces.delete("up")
    with pytest.raises(NotFound):
        await metadata.namespaces.get("up")
