"""Checkpoints as blobs: packed from a folder, unpacked into one, whoever made the images."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sampan import context
from sampan.api.containerd.types.runc.options.oci_pb2 import CheckpointOptions
from sampan.errors import InvalidArgument, NotFound, Unknown
from sampan.metadata import Container
from sampan.model.descriptor import Descriptor
from sampan.model.digest import Digest
from sampan.model.opaque import Opaque
from sampan.services.tasks.checkpoints import Checkpoints
from sampan.storage.content.local import LocalStore
from sampan.storage.diff.compare import WalkingComparer
from sampan.storage.diff.layers import LayerApplier
from sampan.testing import requires

pytestmark = requires("root")

IMAGES = "application/vnd.containerd.container.criu.checkpoint.criu.tar"


class Criu:
    """Stands where the shim is: writes what CRIU would, or fails as it does."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.error: Exception | None = None

    async def checkpoint(self, id: str, path: str, options: Opaque | None = None) -> None:
        del options
        self.asked.append((id, path))
        if self.error is not None:
            raise self.error
        _write_images(Path(path))


def _write_images(folder: Path) -> None:
    (folder / "core-1.img").write_bytes(b"\1" * 5000)
    (folder / "descriptors.json").write_text("[]")


@pytest.fixture
async def place(short_path: Path) -> AsyncIterator[tuple[Checkpoints, Criu, Any]]:
    store = LocalStore(short_path / "content")
    criu = Criu()
    made = Checkpoints(
        short_path / "checkpoints",
        criu,  # type: ignore[arg-type]
        store,
        LayerApplier(store),
        WalkingComparer(store),
    )
    with context.scope("test"):
        yield made, criu, store


def _there(path: str) -> bool:
    return os.path.exists(path)


CONTAINER = Container(id="c", spec=Opaque("types/Spec", b"{}"))


async def test_round_trip(place: Any, short_path: Path) -> None:
    made, criu, store = place
    images, config = await made.take(CONTAINER, None)
    assert (images.media_type, images.annotations) == (IMAGES, None)
    assert config.media_type.endswith("checkpoint.config.v1+proto")
    assert (await store.info(config.digest)).size == config.size
    assert not _there(criu.asked[0][1])
    folder = await made.restore("c", images)
    assert sorted(os.listdir(folder)) == ["core-1.img", "descriptors.json"]
    assert (await made.restore("c", images)) == folder
    with context.scope("other"):
        await made.forget("c")
    assert _there(folder)
    await made.forget("c")
    assert os.listdir(short_path / "checkpoints") == []


async def test_a_folder_of_the_callers(place: Any, short_path: Path) -> None:
    made, criu, _ = place
    (short_path / "images").mkdir()
    options = CheckpointOptions(image_path=str(short_path / "images"))
    packed = Opaque("containerd.runc.v1.CheckpointOptions", options.SerializeToString())
    assert await made.take(CONTAINER, packed) == []
    assert criu.asked == [("c", str(short_path / "images"))]
    with pytest.raises(InvalidArgument):
        await made.take(CONTAINER, Opaque("some/thing", b""))


async def test_failures_leave_nothing(place: Any, short_path: Path) -> None:
    made, criu, _ = place
    criu.error = Unknown("criu failed")
    with pytest.raises(Unknown):
        await made.take(CONTAINER, None)
    missing = Descriptor(media_type=IMAGES, digest=Digest("sha256:" + "1" * 64), size=1)
    with pytest.raises(NotFound):
        await made.restore("c", missing)
    with pytest.raises(Unknown, match="unsupported checkpoint type"):
        await made.restore("c", Descriptor(media_type="m", digest=missing.digest, size=1))
    assert os.listdir(short_path / "checkpoints") == []
