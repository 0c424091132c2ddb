"""The applier: a blob of the content store, through a confined worker, onto a snapshot's mounts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from sampan.concurrency import to_thread
from sampan.errors import InvalidArgument
from sampan.model import descriptor as media_types
from sampan.model import digest as digests
from sampan.model.descriptor import Descriptor
from sampan.model.mounts import Mount
from sampan.storage.content import Store
from sampan.storage.detached import open_mounts
from sampan.storage.diff.processors import Processors
from sampan.storage.snapshots.folders import SNAPSHOTS
from sampan.storage.workers import Runner, SpawnRunner

__all__ = ["Applied", "LayerApplier"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a layer."""

    descriptor: Descriptor
    """The uncompressed archive: its DiffID and size."""
    entries: int
    implicit: tuple[str, ...]
    """Folders made for what lies below them, which the layer does not list itself."""


class LayerApplier:
    """See `diff.Applier`."""

    def __init__(self, store: Store, runner: Runner | None = None) -> None:
        """Read from `store`; run workers by `runner`, or by interpreters of their own.

        A runner may have an attribute `processors`, for media types that we cannot read ourselves.
        """
        self._store = store
        self._run = runner or SpawnRunner()
        self._processors: Processors = getattr(runner, "processors", None) or Processors(())

    async def apply(
        self,
        descriptor: Descriptor,
        mounts: Sequence[Mount],
        *,
        sync: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Descriptor:
        done = await self.apply_layer(descriptor, mounts, overlay=False)
        if sync:
            await to_thread(os.sync, limit=SNAPSHOTS)
        if progress is not None:
            progress(descriptor.size)
        return done.descriptor

    @property
    def _rootless(self) -> bool:
        return bool(getattr(self._run, "rootless", False))

    def _target(self, mounts: Sequence[Mount], request: dict[str, object]) -> list[int]:
        """Open the mounts; for an ordinary user leave that to the worker."""
        if not self._rootless:
            return [open_mounts(mounts)]
        from sampan.storage.rootless import to_json

        request["mounts"], request["userxattr"] = to_json(mounts), True
        return []

    async def inherit(
        self, paths: Sequence[str], mounts: Sequence[Mount], below: Sequence[Mount]
    ) -> bool:
        """See `unpack.inherit`."""
        if not self._rootless:
            from sampan.storage.unpack import inherit

            return await to_thread(inherit, paths, list(mounts), below, limit=SNAPSHOTS)
        from sampan.storage.rootless import to_json

        request = {
            "call": "inherit", "paths": list(paths), "mounts": to_json(mounts),
            "below": to_json(below),
        }  # fmt: skip
        return bool((await self._run(request, []))["value"])

    async def apply_layer(
        self, descriptor: Descriptor, mounts: Sequence[Mount], *, overlay: bool
    ) -> Applied:
        """Apply, and tell all about it.

        Args:
          descriptor: The layer.
          mounts: Where to.
          overlay: The mounts are one bind of an empty folder that will be stacked: write whiteouts
            as overlayfs reads them.

        Raises:
          MissingLink: `overlay`, and the layer needs its parents below it.
          SampanError: as `diff.Applier.apply`.
        """
        media_type = descriptor.media_type
        chain = []
        if not media_types.is_layer(media_type):
            chain = self._processors.chain(media_type)
            media_type = chain[-1][0].returns
        compression = media_types.compression(media_type)
        async with await self._store.reader(descriptor.digest) as reader:
            request: dict[str, object] = {
                "compression": compression, "overlay": overlay, "confine": True,
            }  # fmt: skip
            target = self._target(mounts, request)
            try:
                async with AsyncExitStack() as stack:
                    source = reader.fileno()
                    if chain:
                        source = await stack.enter_async_context(
                            self._processors.opened(source, chain)
                        )
                    answer = await self._run(request, [source, *target])
            finally:
                for fd in target:
                    os.close(fd)
        digest, size = digests.parse(str(answer["digest"])), answer["size"]
        entries, implicit = answer["entries"], answer["implicit"]
        if not (isinstance(size, int) and isinstance(entries, int) and isinstance(implicit, list)):
            raise InvalidArgument(f"layer {descriptor.digest}: worker answered {answer!r}")
        return Applied(
            Descriptor(media_type=media_types.OCI_LAYER, digest=digest, size=size),
            entries,
            tuple(str(one) for one in implicit),
        )
