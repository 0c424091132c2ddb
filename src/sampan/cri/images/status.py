"""ListImages, StreamImages and ImageStatus."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from sampan.api.cri.v1 import api_pb2 as pb

if TYPE_CHECKING:
    from sampan.cri.core import Cri
    from sampan.cri.images.store import Found

__all__ = ["chosen", "item", "status"]

_ID_MAX = (1 << 31) - 1


async def chosen(cri: Cri, wanted: pb.ImageFilter) -> list[pb.Image]:
    """Return the images that a filter lets through."""
    if wanted.image.image:
        found = await cri.images.find(wanted.image.image)
        return [item(found)] if found is not None else []
    return [item(one) for one in await cri.images.all()]


async def status(cri: Cri, request: pb.ImageStatusRequest) -> pb.ImageStatusResponse:
    """Tell about one image; an empty answer if it is not here."""
    found = await cri.images.find(request.image.image)
    answer = pb.ImageStatusResponse()
    if found is None:
        return answer
    answer.image.CopyFrom(item(found))
    if request.verbose:
        config = msgspec.to_builtins(found.content.config)
        info = {"chainID": found.chain, "imageSpec": config}
        answer.info["info"] = json.dumps(info)
    return answer


def item(found: Found) -> pb.Image:
    """Return an image as the protocol has it."""
    image = pb.Image(
        id=found.id,
        repo_tags=found.tags(),
        repo_digests=found.digests(),
        size=found.content.size_bytes,
        pinned=found.pinned,
    )
    image.spec.image = found.id
    user = found.config.user.partition(":")[0]
    if user.isascii() and user.isdigit() and len(user) <= 10 and int(user) <= _ID_MAX:
        image.uid.value = int(user)
    elif user:
        image.username = user
    else:
        image.uid.value = 0
    return image
