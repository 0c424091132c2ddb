"""RemoveImage: all names of an image go, and what nothing else uses with them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.errors import NotFound

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["remove"]

log = logging.getLogger(__name__)


async def remove(cri: Cri, request: pb.RemoveImageRequest) -> pb.RemoveImageResponse:
    """Remove an image by id or any of its names; one that is not here is fine."""
    found = await cri.images.find(request.image.image)
    if found is None:
        return pb.RemoveImageResponse()
    last = len(found.records) - 1
    for number, record in enumerate(found.records):
        try:
            # The disk space is to be free when the call returns: kubelet's collector counts on it.
            await cri.engine.metadata.images.delete(record.name, sync=number == last)
        except NotFound:
            log.debug("image was removed meanwhile: name=%s", record.name)
    return pb.RemoveImageResponse()
