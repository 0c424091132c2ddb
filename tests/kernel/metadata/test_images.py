"""Images: names for descriptors, with masks and events."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.kernel.metadata.objects import TARGET, queued

from sampan import context
from sampan.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
)
from sampan.events import Exchange
from sampan.metadata import (
    Image,
    Metadata,
)
from sampan.model.descriptor import Descriptor
from sampan.model.digest import of_bytes


async def test_images(metadata: Metadata, exchange: Exchange) -> None:
    stream = exchange.subscribe()
    image = await metadata.images.create(Image(name="i", target=TARGET, labels={"a": "1"}))
    assert image.created_at == image.updated_at
    assert await metadata.images.get("i") == image
    with pytest.raises(AlreadyExists):
        await metadata.images.create(image)
    new = await metadata.images.update(replace(image, labels={"b": "2"}), ("labels.b",))
    assert new.labels == {"a": "1", "b": "2"}
    new = await metadata.images.update(replace(image, labels={}), ("labels.a",))
    assert new.labels == {"b": "2"}
    assert new.created_at == image.created_at
    with pytest.raises(InvalidArgument):
        await metadata.images.update(image, ("name",))
    assert [one.name for one in await metadata.images.list('labels."b"==2')] == ["i"]
    assert await metadata.images.list("name==x") == []
    with context.scope("other"), pytest.raises(NotFound):
        await metadata.images.get("i")
    with pytest.raises(NotFound):
        await metadata.images.delete("i", target=of_bytes(b"other"))
    await metadata.images.delete("i", target=TARGET.digest)
    with pytest.raises(NotFound):
        await metadata.images.delete("i")
    assert [each.topic for each in queued(stream)] == [
        "/images/create",
        "/images/update",
        "/images/update",
        "/images/delete",
    ]
    stream.close()


EMPTY = Descriptor(media_type="m", digest=TARGET.digest, size=0)
UNTYPED = Descriptor(media_type="", digest=TARGET.digest, size=1)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (Image(name="", target=TARGET), "name must not be empty"),
        (
            Image(name="i", target=Descriptor(media_type="m", digest=TARGET.digest, size=0)),
            "greater than zero",
        ),
        (
            Image(name="i", target=Descriptor(media_type="", digest=TARGET.digest, size=1)),
            "mediaType must be set",
        ),
    ],
)
async def test_wrong_images_are_refused(metadata: Metadata, image: Image, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        await metadata.images.create(image)
    assert await metadata.images.list() == []


async def test_a_target_that_changed_is_not_deleted(metadata: Metadata) -> None:
    await metadata.images.create(Image(name="i", target=TARGET))
    with pytest.raises(NotFound, match="it is"):
        await metadata.images.delete("i", target=of_bytes(b"other"))
    await metadata.images.delete("i", target=TARGET.digest)
    with pytest.raises(NotFound):
        await metadata.images.get("i")
