"""What the stores share: times, encodings, leases of requests, names in bare stores."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sampan import context
from sampan.errors import NotFound
from sampan.metadata import Metadata, Resource
from sampan.metadata import core as shared
from sampan.model.opaque import Opaque


def test_times_are_exact_to_the_microsecond() -> None:
    assert shared.at(1) == datetime(1970, 1, 1, 0, 0, 0, 1, UTC)
    assert shared.at(shared.now_us()).tzinfo is UTC


def test_extensions_are_kept_byte_for_byte() -> None:
    found = {"a": Opaque("url", bytes(range(256))), "": Opaque("", b"")}
    assert shared.load_extensions(shared.dump_extensions(found)) == found
    assert shared.load_extensions(shared.dump_extensions({})) == {}
    assert shared.load_options(shared.dump_options(None)) is None
    assert shared.load_options(shared.dump_options(Opaque("u", b"\xff"))) == Opaque("u", b"\xff")


async def test_a_request_whose_lease_is_gone_makes_nothing(metadata: Metadata) -> None:
    view = metadata.snapshotter("folder")
    with context.scope(lease="gone"), pytest.raises(NotFound, match="deleted or expired"):
        await view.prepare("k")
    assert [info async for info in view.walk()] == []
    await metadata.leases.create("l")
    with context.scope(lease="l"):
        await view.prepare("k")
    assert await metadata.leases.resources("l") == (Resource("snapshots/folder", "k"),)


async def test_names_in_bare_stores_are_never_used_twice(metadata: Metadata) -> None:
    view = metadata.snapshotter("folder")
    for _ in range(2):
        await view.prepare("k")
        await view.remove("k")
    made = metadata._core.backend_name("ns", "k")
    assert made == f"ns/{metadata.owners.id}.3/k"
