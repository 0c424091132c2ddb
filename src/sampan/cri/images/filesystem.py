"""ImageFsInfo: what images and containers take of the disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.errors import NotFound

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["filesystem"]


async def filesystem(cri: Cri) -> pb.ImageFsInfoResponse:
    """Return bytes and inodes of all snapshots of the namespace, and where they lie."""
    name = cri.settings.images.snapshotter
    snapshots = cri.engine.metadata.snapshotter(name)
    size = inodes = 0
    async for info in snapshots.walk():
        try:
            usage = await snapshots.usage(info.name)
        except NotFound:
            continue
        size += usage.size
        inodes += usage.inodes
    usage_pb = pb.FilesystemUsage(timestamp=time.time_ns())
    usage_pb.fs_id.mountpoint = cri.snapshot_folder(name)
    usage_pb.used_bytes.value = size
    usage_pb.inodes_used.value = inodes
    return pb.ImageFsInfoResponse(image_filesystems=[usage_pb], container_filesystems=[usage_pb])
