"""One container: dumped into an archive, and what of an archive a new one needs."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.json_format import MessageToDict

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import shielded, to_thread
from sampan.cri.checkpoints import archive
from sampan.cri.containers.status import status_of
from sampan.cri.store.records import Container
from sampan.distribution.transfer import Stores, Transfer
from sampan.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from sampan.model.descriptor import OCI_LAYER, Descriptor
from sampan.model.mounts import Mount
from sampan.storage.diff.compare import WalkingComparer
from sampan.storage.diff.layers import LayerApplier

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["apply_diff", "checkpoint", "dump"]

_UNDO_S: Final = 60.0
_CHUNK: Final = 1 << 20


async def checkpoint(
    cri: Cri, request: pb.CheckpointContainerRequest
) -> pb.CheckpointContainerResponse:
    """Write the archive of a running container, which runs on.

    Raises:
      NotFound: there is no such container.
      FailedPrecondition: it does not run, or CRIU cannot dump it; its own words say why.
      DeadlineExceeded: it takes longer than the request allows.
    """
    container = cri.container(request.container_id)
    if not os.path.isabs(request.location):
        raise InvalidArgument(f"checkpoint location {request.location!r} must be an absolute path")
    try:
        async with asyncio.timeout(request.timeout if request.timeout > 0 else None):
            async with container.lock:
                await dump(cri, container, Path(request.location))
    except TimeoutError:
        raise DeadlineExceeded(
            f"the checkpoint of {container.id} takes longer than {request.timeout} s"
        ) from None
    return pb.CheckpointContainerResponse()


async def dump(cri: Cri, container: Container, location: Path) -> None:
    """Write a container's archive; the caller holds its lock."""
    if not cri.settings.runtime.enable_criu:
        raise FailedPrecondition("checkpoints are switched off: enable_criu is false")
    if not container.running:
        raise FailedPrecondition(f"container {container.id} does not run: nothing to checkpoint")
    work = cri.container_root(container.id) / f"checkpoint-{secrets.token_hex(8)}"
    await to_thread(work.mkdir, 0o700, True)
    try:
        images = work / archive.IMAGES
        await to_thread(images.mkdir, 0o700)
        await cri.engine.tasks.checkpoint(container.id, str(images))
        await _diff(cri, container, work / archive.DIFF)
        log = container.log_path
        await to_thread(archive.write, location, _documents(cri, container), work, log)
    finally:
        await shielded(_UNDO_S, to_thread(cri.remove_folder, work))


def _documents(cri: Cri, container: Container) -> dict[str, object]:
    now = datetime.now(UTC).isoformat()
    made = datetime.fromtimestamp(container.created_ns / 1e9, UTC).isoformat()
    config = {
        "id": container.id,
        "name": container.config.metadata.name,
        "rootfsImage": container.image_ref,
        "rootfsImageName": container.image_ref,
        "rootfsImageRef": container.image_id,
        "runtime": "sampan",
        "createdTime": made,
        "checkpointedTime": now,
        "restored": False,
        "criConfig": base64.b64encode(container.config.SerializeToString()).decode(),
    }
    status = MessageToDict(status_of(cri, container), preserving_proto_field_name=True)
    return {
        "config.dump": config,
        "spec.dump": json.loads(container.spec),
        "status.dump": status,
    }


async def _diff(cri: Cri, container: Container, target: Path) -> None:
    """Write what the container has changed in its root, as a tar of a layer."""
    metadata = cri.engine.metadata
    snapshots = metadata.snapshotter(container.snapshotter)
    info = await snapshots.stat(container.id)
    key = f"{container.id}-lower-{secrets.token_hex(4)}"
    async with _lease(cri):
        lower = await snapshots.view(key, info.parent)
        try:
            upper = await snapshots.mounts(container.id)
            comparer = WalkingComparer(metadata.content)
            found = await comparer.compare(lower, upper, media_type=OCI_LAYER)
            async with await metadata.content.reader(found.digest) as reader:
                data = await to_thread(open, target, "xb")
                with data:
                    for offset in range(0, found.size, _CHUNK):
                        size = min(_CHUNK, found.size - offset)
                        await to_thread(data.write, await reader.read_at(offset, size))
        finally:
            await shielded(_UNDO_S, snapshots.remove(key))


async def apply_diff(cri: Cri, file: Path, mounts: Sequence[Mount]) -> None:
    """Put what a container had written into a new root."""
    content = cri.engine.metadata.content
    async with _lease(cri):
        async with await content.writer(f"checkpoint-{secrets.token_hex(8)}") as writer:
            data = await to_thread(open, file, "rb")
            size = 0
            with data:
                while part := await to_thread(data.read, _CHUNK):
                    size = await writer.write(part)
            digest = await writer.digest()
            with suppress(AlreadyExists):  # the same changes, dumped before
                await writer.commit(size, digest)
        descriptor = Descriptor(media_type=OCI_LAYER, digest=digest, size=size)
        await LayerApplier(content, cri.engine.run_worker).apply(descriptor, mounts)


@asynccontextmanager
async def _lease(cri: Cri) -> AsyncIterator[None]:
    from sampan.cri.images.pull import NoResolver

    metadata = cri.engine.metadata
    stores = Stores(metadata.content, metadata.images, metadata.leases)
    async with Transfer(stores, NoResolver()).lease():
        yield


async def opened(path: str) -> archive.Opened:
    """Read an archive's documents.

    Raises:
      NotFound: there is no such file; InvalidArgument: it is no checkpoint.
    """
    found = await to_thread(archive.read, path)
    if not found.image:
        raise NotFound(f"checkpoint {path} does not say which image its root was made of")
    return found


def config_in(found: archive.Opened) -> pb.ContainerConfig | None:
    """Return the request that the container was made by, where it is ours."""
    text: Any = found.config.get("criConfig")
    return pb.ContainerConfig.FromString(base64.b64decode(text)) if text else None
