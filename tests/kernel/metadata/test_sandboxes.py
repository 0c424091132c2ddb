"""Sandboxes: records of pods."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sampan.errors import (
    NotFound,
)
from sampan.metadata import (
    Metadata,
    Opaque,
    Runtime,
    Sandbox,
)


async def test_sandboxes(metadata: Metadata) -> None:
    one = await metadata.sandboxes.create(
        Sandbox(id="s", sandboxer="shim", runtime=Runtime("r"), spec=Opaque("t", b"s"))
    )
    assert await metadata.sandboxes.get("s") == one
    new = await metadata.sandboxes.update(replace(one, labels={"a": "b"}), ("labels.a",))
    assert new.spec == one.spec
    assert await metadata.sandboxes.list("labels.a==b") == [new]
    await metadata.sandboxes.delete("s")
    with pytest.raises(NotFound):
        await metadata.sandboxes.get("s")
