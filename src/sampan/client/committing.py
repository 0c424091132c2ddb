"""An image made of what a container has written: `commit`.

    image's layers + one layer of the differences, its config with a line of history more
        ─► content store ─► record under the new name

The container's own processes should be frozen meanwhile by the caller, if they run.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from sampan.client.host import HOST
from sampan.client.images import config_of, find, manifest_of
from sampan.concurrency import shielded
from sampan.errors import AlreadyExists, FailedPrecondition, NotFound
from sampan.model.descriptor import Descriptor
from sampan.model.digest import Digest
from sampan.model.image import ContainerConfig, History, ImageConfig, Manifest, RootFS, encode
from sampan.model.reference import parse

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.metadata import Container, Image

__all__ = ["Changes", "commit_container"]

_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_GC_REF: Final = "containerd.io/gc.ref.content"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How the new image's config differs from the old one's; None and empty keep what is there."""

    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    """`NAME=value` each, added."""
    user: str = ""
    working_dir: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    author: str = ""
    message: str = ""


async def commit_container(
    client: Client, container: Container, name: str, changes: Changes | None = None
) -> Image:
    """Make an image of a container's files and record it as `name`; return the record.

    Raises:
      FailedPrecondition: the container stands on `host:`, which is no image.
      NotFound: its image was removed.
      InvalidArgument: `name` is no reference.
    """
    changes = changes or Changes()
    reference = parse(name)
    if container.image == HOST:
        raise FailedPrecondition(
            "a sandbox on host: cannot be committed, for host: is no image: start from one that"
            " `sampan image from-host` makes, or export the files"
        )
    image = await find(client, container.image)
    manifest = await manifest_of(client, image.target)
    config = await config_of(client, image)
    transfer = await client.transfer()
    async with transfer.lease():
        layer, diff_id = await _layer(client, container)
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        new = msgspec.structs.replace(
            config,
            created=now,
            author=changes.author or config.author,
            config=_changed(config.config or ContainerConfig(), changes),
            rootfs=RootFS(diff_ids=(*config.rootfs.diff_ids, diff_id)),
            history=(*_history(config, len(manifest.layers)), _line(now, changes)),
        )
        blob = await _put(client, encode(new), _CONFIG, {})
        document = Manifest(
            schema_version=2,
            media_type=_MANIFEST,
            config=blob,
            layers=(*manifest.layers, layer),
            annotations=manifest.annotations,
        )
        labels = {f"{_GC_REF}.config": str(blob.digest)}
        for number, one in enumerate(document.layers):
            labels[f"{_GC_REF}.l.{number}"] = str(one.digest)
        target = await _put(client, encode(document), _MANIFEST, labels)
        return await transfer.record(str(reference), target)


async def _layer(client: Client, container: Container) -> tuple[Descriptor, Digest]:
    """Write the layer of the container's changes; return it and its diff id."""
    from sampan.storage.diff.compare import UNCOMPRESSED

    snapshots = client.snapshots(container.snapshotter)
    parent = (await snapshots.stat(container.snapshot_key)).parent
    key = f"{container.id}/commit-{os.urandom(6).hex()}"
    lower = await snapshots.view(key, parent)
    try:
        upper = await snapshots.mounts(container.snapshot_key)
        comparer = await client.comparer()
        layer = await comparer.compare(lower, upper)
    finally:
        with suppress(NotFound):
            await shielded(20, snapshots.remove(key))
    diff_id = Digest((layer.annotations or {})[UNCOMPRESSED])
    return msgspec.structs.replace(layer, annotations=None), diff_id


async def _put(client: Client, data: bytes, media_type: str, labels: dict[str, str]) -> Descriptor:
    async with await client.content.writer(f"commit-{os.urandom(12).hex()}") as writer:
        await writer.write(data)
        digest = await writer.digest()
        with suppress(AlreadyExists):
            await writer.commit(len(data), digest, labels=labels)
    return Descriptor(media_type=media_type, digest=digest, size=len(data))


def _changed(config: ContainerConfig, changes: Changes) -> ContainerConfig:
    values = dict(pair.partition("=")[::2] for pair in (*(config.env or ()), *changes.env))
    env = tuple(f"{key}={value}" for key, value in values.items())
    return msgspec.structs.replace(
        config,
        entrypoint=config.entrypoint if changes.entrypoint is None else changes.entrypoint,
        cmd=config.cmd if changes.cmd is None else changes.cmd,
        env=env or None,
        user=changes.user or config.user,
        working_dir=changes.working_dir or config.working_dir,
        labels={**(config.labels or {}), **dict(changes.labels)} or None,
    )


def _history(config: ImageConfig, layers: int) -> tuple[History, ...]:
    """Return the old lines, with empty ones for layers that nobody described."""
    old = config.history or ()
    described = sum(not line.empty_layer for line in old)
    return (*old, *(History() for _ in range(layers - described)))


def _line(now: str, changes: Changes) -> History:
    return History(
        created=now, created_by="sampan commit", author=changes.author, comment=changes.message
    )
