"""Objects that tests of several stores make."""

from __future__ import annotations

from dataclasses import replace

from sampan.events import Envelope, Subscription
from sampan.metadata import (
    Container,
    Metadata,
    Opaque,
    Runtime,
)
from sampan.model.descriptor import Descriptor
from sampan.model.digest import Digest, of_bytes

TARGET = Descriptor(media_type="m", digest=of_bytes(b"t"), size=1)


def container(name: str = "c", **changes: object) -> Container:
    one = Container(id=name, runtime=Runtime("r", Opaque("o", b"1")), spec=Opaque("t", b"\xff"))
    return replace(one, **changes)  # type: ignore[arg-type]


async def put(metadata: Metadata, data: bytes, **labels: str) -> Digest:
    async with await metadata.content.writer(f"w-{data!r}") as writer:
        await writer.write(data)
        return (await writer.commit(labels=labels)).digest


def queued(stream: Subscription) -> list[Envelope]:
    return list(stream._queue)
