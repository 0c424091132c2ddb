"""Transfers in process: distribution's operations on an engine's own stores.

The registry client (aiohttp, 150 ms) is made by the first call that asks a registry, so tag, save
and load never pay for it; layers are applied by workers of the engine's zygote.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, cast

from sampan.concurrency import shielded
from sampan.distribution import Fetcher, Pusher
from sampan.distribution.transfer import Stores, Transfer
from sampan.distribution.transfer.unpacking import SnapshotUnpacker, unpack_present
from sampan.errors import InvalidArgument
from sampan.model.descriptor import Descriptor
from sampan.model.image import Manifest
from sampan.model.reference import Reference

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.client.local.client import LocalClient
    from sampan.distribution.registry.client import RegistryClient
    from sampan.engine import Engine

__all__ = ["open_transfer", "unpack_image"]

_TIMEOUT_VARIABLE: Final = "SAMPAN_REGISTRY_TIMEOUT"
"""Seconds that a registry may be silent; for slow lines, and for those who will not wait."""


@asynccontextmanager
async def open_transfer(engine: Engine, client: Client) -> AsyncIterator[Transfer]:
    """Open the operations on images; connections are closed at the end of the block."""
    resolver = _LateResolver(engine)
    try:
        yield Transfer(
            Stores(client.content, client.images, client.leases),
            resolver,
            unpacker=_unpacker(engine, client),
        )
    finally:
        await shielded(10, resolver.close())


async def unpack_image(client: Client, manifest: Manifest) -> str:
    """Unpack an image whose blobs are here, as after `load`; return its chain id.

    Raises:
      NotFound: a layer's blob is not here.
      SampanError: as `storage.unpack.unpack`.
    """
    transfer = await client.transfer()
    async with transfer.lease():
        unpacker = _unpacker(cast("LocalClient", client).engine, client)
        return await unpack_present(client.content, manifest, unpacker)


def _unpacker(engine: Engine, client: Client) -> SnapshotUnpacker:
    snapshots = client.snapshots()
    return SnapshotUnpacker(snapshots.name, snapshots, client.content, engine.runner)


class _LateResolver:
    """A registry client, made when it is first asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._client: RegistryClient | None = None

    async def resolve(self, reference: Reference) -> Descriptor:
        target = await self._open().resolve(reference)
        await self._engine.verify_image(str(reference), target)
        return target

    async def fetcher(self, reference: Reference) -> Fetcher:
        return await self._open().fetcher(reference)

    async def pusher(self, reference: Reference) -> Pusher:
        return await self._open().pusher(reference)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    def _open(self) -> RegistryClient:
        if self._client is None:
            from sampan.distribution.registry.client import RegistryClient, RegistryOptions
            from sampan.distribution.registry.credentials import FileCredentials
            from sampan.distribution.registry.hosts import HostsOptions
            from sampan.distribution.registry.transport import Deadlines

            seconds = _seconds(os.environ.get(_TIMEOUT_VARIABLE, ""))
            self._client = RegistryClient(
                RegistryOptions(
                    hosts=HostsOptions(folders=(self._engine.settings.hosts_dir,)),
                    deadlines=Deadlines(seconds, seconds) if seconds else Deadlines(),
                    credentials=self._engine.credentials(FileCredentials(os.environ)),
                    environ=os.environ,
                )
            )
        return self._client


def _seconds(text: str) -> float:
    if not text:
        return 0
    if not (text.isascii() and text.replace(".", "", 1).isdigit()):
        raise InvalidArgument(f"{_TIMEOUT_VARIABLE}={text!r} is no number of seconds")
    return float(text)
