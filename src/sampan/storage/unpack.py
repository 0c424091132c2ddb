"""An image's layers to a chain of snapshots, side by side where the snapshotter can rebase.

    layer 1 ──prepare──apply──┐ commit chain 1
    layer 2 ──prepare──apply──┼──────────────── commit chain 2 onto 1
    layer 3 ──prepare──apply──┘                                 commit chain 3 onto 2

Every layer is applied into an empty folder of its own; only the commits are in order. What a layer
leaves open without its parents is settled then: folders that it does not list take owner and mode
from below, and a layer with a hard link into its parents is applied once more, onto them.

Keys carry the label `containerd.io/snapshot.ref` with the name they will be committed to. So two
who unpack the same image at once do a layer once where they can, and in a namespaced view what is
found is kept by the request's lease: no collection takes it before the image refers to it.

Killed anywhere, this leaves keys `extract-…` that nothing refers to, and whole committed layers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from sampan.concurrency import shielded
from sampan.concurrency.trace import trace
from sampan.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound, Unavailable
from sampan.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from sampan.model.descriptor import Descriptor
from sampan.model.digest import Digest
from sampan.model.image import chain_ids
from sampan.model.mounts import Mount
from sampan.storage.detached import open_mounts
from sampan.storage.diff.layers import Applied, LayerApplier
from sampan.storage.diff.reading import MissingLink
from sampan.storage.snapshots import Snapshotter

__all__ = ["AVAILABLE", "Ready", "inherit", "unpack"]

_REF: Final = "containerd.io/snapshot.ref"
"""Label of a key: the name it will be committed to."""

Ready = Callable[[Descriptor], "asyncio.Future[None] | None"]
"""Tells what to wait for until a layer's blob is there; None is nothing."""


def AVAILABLE(_: Descriptor) -> None:  # noqa: N802 - a value of type Ready
    """Say that every blob is there already."""


async def unpack(
    snapshotter: Snapshotter,
    applier: LayerApplier,
    layers: Sequence[Descriptor],
    diff_ids: Sequence[Digest],
    *,
    ready: Ready = AVAILABLE,
    labels: Mapping[str, str] | None = None,
    parallel: int = 3,
    progress: Callable[[Descriptor], None] | None = None,
) -> str:
    """Make the snapshots of an image, as far as they are missing; return the top one's name.

    Args:
      snapshotter: Where to.
      applier: How.
      layers: From the bottom up, as in the manifest.
      diff_ids: Of the image's config, one a layer.
      ready: Lets a layer begin as soon as its own blob is there, while others are downloaded.
      labels: For every snapshot.
      parallel: How many layers at once.
      progress: Called with each layer that is committed or found.

    Raises:
      InvalidArgument: not as many layers as DiffIDs, or a layer is refused; says why.
      DataLoss: a layer's content has another DiffID than the image says.
    """
    if len(layers) != len(diff_ids):
        raise InvalidArgument(f"image has {len(layers)} layers, but {len(diff_ids)} DiffIDs")
    chain = [str(one) for one in chain_ids(diff_ids)]
    work = _Unpacking(snapshotter, applier, ready, dict(labels or {}), progress)
    first = await work.first_missing(chain)
    for layer in layers[:first]:
        if progress is not None:
            progress(layer)
    if "rebase" in snapshotter.capabilities:
        await work.side_by_side(layers, diff_ids, chain, first, parallel)
    else:
        for at in range(first, len(layers)):
            await work.on_top(layers[at], diff_ids[at], chain, at)
    return chain[-1] if chain else ""


class _Unpacking:
    """One call of `unpack`."""

    def __init__(
        self,
        snapshotter: Snapshotter,
        applier: LayerApplier,
        ready: Ready,
        labels: dict[str, str],
        progress: Callable[[Descriptor], None] | None,
    ) -> None:
        self._snapshotter = snapshotter
        self._applier = applier
        self._ready = ready
        self._labels = labels
        self._progress = progress

    async def first_missing(self, chain: Sequence[str]) -> int:
        """Return how many layers from the bottom are there; the request's lease keeps them."""
        for at in range(len(chain), 0, -1):
            with suppress(NotFound):
                await self._snapshotter.stat(chain[at - 1])
                if await self._keep(chain[at - 1]):
                    return at
        return 0

    async def _keep(self, name: str) -> bool:
        """Let the request's lease keep a snapshot that somebody else made; False if it is gone.

        A namespaced view does so when it answers AlreadyExists for a key whose label names it. A
        bare snapshotter knows no leases, and makes the key.
        """
        async with self._extracting() as key:
            try:
                await self._snapshotter.prepare(key, labels={_REF: name})
            except AlreadyExists:
                return True
            await self._snapshotter.remove(key)
        try:
            await self._snapshotter.stat(name)
        except NotFound:
            return False
        return True

    async def _prepare(self, key: str, name: str, parent: str = "") -> list[Mount] | None:
        """Prepare the key that will be `name`; None if that is there now, and kept."""
        labels = {**self._labels, _REF: name}
        try:
            return await self._snapshotter.prepare(key, parent, labels=labels)
        except AlreadyExists:
            return None

    def _tell(self, layer: Descriptor) -> None:
        if self._progress is not None:
            self._progress(layer)

    async def side_by_side(
        self,
        layers: Sequence[Descriptor],
        diff_ids: Sequence[Digest],
        chain: Sequence[str],
        first: int,
        parallel: int,
    ) -> None:
        slots = asyncio.Semaphore(parallel)
        committed = [asyncio.Event() for _ in layers]

        async def one(at: int) -> None:
            await self._arrival(layers[at])
            async with self._extracting() as key:
                async with slots:
                    mounts = await self._prepare(key, chain[at])
                    if mounts is None:
                        self._tell(layers[at])
                        committed[at].set()
                        return
                    applied = await self._apply(layers[at], diff_ids[at], mounts, overlay=True)
                if at > first:
                    await committed[at - 1].wait()
                parent = chain[at - 1] if at else ""
                if applied is not None and (
                    not parent or await self._settle(applied, mounts, parent)
                ):
                    await self._commit(layers[at], chain[at], key, parent)
                else:
                    await self._snapshotter.remove(key)
                    await self.on_top(layers[at], diff_ids[at], chain, at)
            committed[at].set()

        try:
            async with asyncio.TaskGroup() as group:
                for at in range(first, len(layers)):
                    group.create_task(one(at))
        except ExceptionGroup as errors:
            # Layers fail for reasons of their own; the first one is what the caller can act upon.
            raise errors.exceptions[0] from None

    async def on_top(
        self, layer: Descriptor, diff_id: Digest, chain: Sequence[str], at: int
    ) -> None:
        await self._arrival(layer)
        parent = chain[at - 1] if at else ""
        async with self._extracting() as key:
            mounts = await self._prepare(key, chain[at], parent)
            if mounts is None:
                self._tell(layer)
            elif await self._apply(layer, diff_id, mounts, overlay=False) is None:
                raise InvalidArgument(f"layer {layer.digest}: links to what no layer has")
            else:
                await self._commit(layer, chain[at], key, parent)

    async def _arrival(self, layer: Descriptor) -> None:
        waiting = self._ready(layer)
        if waiting is not None:
            await waiting

    @asynccontextmanager
    async def _extracting(self) -> AsyncIterator[str]:
        """Name a key, and remove it at the end if it is still there."""
        key = f"extract-{os.urandom(12).hex()}"
        try:
            yield key
        except BaseException:
            with suppress(NotFound):
                await shielded(30, self._snapshotter.remove(key))
            raise

    async def _apply(
        self, layer: Descriptor, diff_id: Digest, mounts: Sequence[Mount], *, overlay: bool
    ) -> Applied | None:
        trace("unpack.prepared")
        try:
            applied = await self._applier.apply_layer(layer, mounts, overlay=overlay)
        except MissingLink:
            return None
        trace("unpack.applied")
        if applied.descriptor.digest != diff_id:
            raise DataLoss(
                f"layer {layer.digest}: DiffID is {applied.descriptor.digest},"
                f" the image says {diff_id}"
            )
        return applied

    async def _commit(self, layer: Descriptor, name: str, key: str, parent: str) -> None:
        try:
            await self._snapshotter.commit(name, key, labels=self._labels, parent=parent or None)
        except AlreadyExists:
            # Somebody else unpacked the same layer meanwhile: theirs is as good.
            await self._snapshotter.remove(key)
            if not await self._keep(name):
                raise Unavailable(f"snapshot {name}: came and went meanwhile; try again") from None
        trace("unpack.committed")
        self._tell(layer)

    async def _settle(self, applied: Applied, mounts: Sequence[Mount], parent: str) -> bool:
        """Give folders that the layer does not list what the parents say of them.

        Returns:
          False if a parent has something else than a folder there.
        """
        if not applied.implicit:
            return True
        key = f"extract-{os.urandom(12).hex()}"
        below = await self._snapshotter.view(key, parent)
        try:
            return await self._applier.inherit(applied.implicit, mounts, below)
        finally:
            await shielded(30, self._snapshotter.remove(key))


def inherit(paths: Sequence[str], mounts: Sequence[Mount], below: Sequence[Mount]) -> bool:
    """Give folders the owner, mode and time that they have below; False if one is no folder there.

    Blocks.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
    upper, lower = open_mounts(mounts), -1
    try:
        lower = open_mounts(below)
        for path in paths:
            try:
                old = openat2(lower, path, flags, resolve=resolve)
            except FileNotFoundError:
                continue
            except OSError:
                return False
            try:
                new = openat2(upper, path, flags, resolve=resolve)
                try:
                    status = os.fstat(old)
                    os.fchown(new, status.st_uid, status.st_gid)
                    os.fchmod(new, status.st_mode & 0o7777)
                    os.utime(new, ns=(status.st_mtime_ns, status.st_mtime_ns))
                finally:
                    os.close(new)
            finally:
                os.close(old)
        return True
    finally:
        os.close(upper)
        if lower >= 0:
            os.close(lower)
