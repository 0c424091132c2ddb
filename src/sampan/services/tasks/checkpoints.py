"""Checkpoints of tasks as blobs: CRIU's folder of images as a tar, and back.

    take     shim ─▶ <state>/checkpoints/<random>/ ─▶ tar blob, and a blob of the container's spec
    restore  tar blob ─▶ confined worker ─▶ <state>/checkpoints/<hash of the task>/ ─▶ Create

What is restored stays until the task is deleted: a foreign shim reads it at Start. The blobs belong
to the request's lease alone; without one the next collection takes them.

Source: containerd's tasks service and its media types.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from pathlib import Path
from typing import Final

import msgspec
from google.protobuf.any_pb2 import Any as AnyMessage

from sampan import context
from sampan.api.containerd.types.runc.options.oci_pb2 import CheckpointOptions
from sampan.concurrency import Limit, shielded, to_thread
from sampan.errors import AlreadyExists, InvalidArgument, Unknown
from sampan.metadata import Container
from sampan.model import digest as digests
from sampan.model.descriptor import OCI_LAYER, Descriptor
from sampan.model.mounts import Mount
from sampan.model.opaque import Opaque
from sampan.runtime import Tasks
from sampan.storage.content import Store
from sampan.storage.diff import Applier, Comparer

__all__ = ["Checkpoints"]

_IMAGES: Final = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
_CONFIG: Final = "application/vnd.containerd.container.checkpoint.config.v1+proto"
_FOLDERS: Final = Limit("checkpoints", 2)
_CLEANUP_S: Final = 30.0


class Checkpoints:
    """See the module."""

    def __init__(
        self, folder: Path, tasks: Tasks, content: Store, applier: Applier, comparer: Comparer
    ) -> None:
        self._folder = folder
        self._tasks = tasks
        self._content = content
        self._applier = applier
        self._comparer = comparer

    async def take(self, container: Container, options: Opaque | None) -> list[Descriptor]:
        """Checkpoint a task; return the blobs of its images and of its spec.

        With an `image_path` in the options the images stay there, and there are no blobs.

        Raises:
          NotFound: there is no such task.
          InvalidArgument: the options are of another type.
          SampanError: as the shim answers.
        """
        path = _image_path(options)
        if path:
            await self._tasks.checkpoint(container.id, path, options)
            return []
        folder = await to_thread(self._make, limit=_FOLDERS)
        try:
            await self._tasks.checkpoint(container.id, str(folder), options)
            images = await self._comparer.compare(
                [], [_bind(folder, "ro")], media_type=OCI_LAYER, ref=f"checkpoint-{folder.name}"
            )
        finally:
            await shielded(_CLEANUP_S, to_thread(_remove, folder, limit=_FOLDERS))
        spec = AnyMessage(type_url=container.spec.type_url, value=container.spec.value)
        return [
            msgspec.structs.replace(images, media_type=_IMAGES, annotations=None),
            await self._put(spec.SerializeToString(), f"checkpoint-{folder.name}-spec"),
        ]

    async def restore(self, id: str, checkpoint: Descriptor) -> str:
        """Unpack a checkpoint for the task that is to be created; return the folder's path.

        Raises:
          Unknown: the blob is of another type, as containerd answers.
          NotFound: there is no such blob.
        """
        if checkpoint.media_type != _IMAGES:
            raise Unknown(f'unsupported checkpoint type "{checkpoint.media_type[:100]}"')
        folder = self._home(id)
        await to_thread(_remove, folder, limit=_FOLDERS)
        await to_thread(_make_private, folder, limit=_FOLDERS)
        layer = msgspec.structs.replace(checkpoint, media_type=OCI_LAYER)
        try:
            await self._applier.apply(layer, [_bind(folder)])
        except BaseException:
            await shielded(_CLEANUP_S, self.forget(id))
            raise
        return str(folder)

    async def forget(self, id: str) -> None:
        """Remove what `restore` unpacked; most tasks have nothing."""
        await to_thread(_remove, self._home(id), limit=_FOLDERS)

    def _home(self, id: str) -> Path:
        name = hashlib.sha256(f"{context.namespace()}\0{id}".encode()).hexdigest()[:32]
        return self._folder / name

    def _make(self) -> Path:
        folder = self._folder / secrets.token_hex(16)
        _make_private(folder)
        return folder

    async def _put(self, data: bytes, ref: str) -> Descriptor:
        digest = digests.of_bytes(data)
        try:
            writer = await self._content.writer(ref, expected=digest, total=len(data))
        except AlreadyExists:
            return Descriptor(media_type=_CONFIG, digest=digest, size=len(data))
        async with writer:
            await writer.write(data)
            await writer.commit(len(data), digest)
        return Descriptor(media_type=_CONFIG, digest=digest, size=len(data))


def _image_path(options: Opaque | None) -> str:
    if options is None or not options.type_url:
        return ""
    if options.type_url.rpartition("/")[2] != CheckpointOptions.DESCRIPTOR.full_name:
        raise InvalidArgument(f"invalid task checkpoint option for {options.type_url[:100]}")
    return CheckpointOptions.FromString(options.value).image_path


def _bind(folder: Path, *options: str) -> Mount:
    return Mount("bind", str(folder), "", ("rbind", *options))


def _make_private(folder: Path) -> None:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
