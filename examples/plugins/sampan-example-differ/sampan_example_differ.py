"""A differ that refuses large layers, and leaves the others to the next one.

    [plugins."io.containerd.service.v1.diff-service"]
      default = ["capped", "walking"]

    [plugins."io.containerd.differ.v1.capped"]
      largest_bytes = 2000000000

The order is the policy: what says Unimplemented passes the question on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from sampan.engine.extensions import DIFFER, Differ, DifferFactory
from sampan.errors import ResourceExhausted, Unimplemented
from sampan.model.descriptor import Descriptor
from sampan.model.mounts import Mount
from sampan.plugin import InitContext, plugin
from sampan.storage.content import Store

__all__ = ["capped"]


class CappedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The plugin's table."""

    largest_bytes: int = 2 << 30


@plugin(DIFFER, "capped", config=CappedConfig)
def capped(ctx: InitContext[CappedConfig]) -> DifferFactory:
    """Return what makes the differ, once there is content to read."""
    return partial(Capped, ctx.config.largest_bytes)


class Capped:
    """See the module."""

    def __init__(self, largest_bytes: int, content: Store) -> None:
        self._largest = largest_bytes
        self._content = content

    async def apply(
        self,
        descriptor: Descriptor,
        mounts: Sequence[Mount],
        *,
        sync: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Descriptor:
        # What the caller says is no proof: the content store knows.
        size = (await self._content.info(descriptor.digest)).size
        if size > self._largest:
            raise ResourceExhausted(
                f"layer {descriptor.digest} has {size} bytes; {self._largest} is the most here"
            )
        raise Unimplemented("small enough: the next differ applies it")

    async def compare(
        self,
        lower: Sequence[Mount],
        upper: Sequence[Mount],
        *,
        media_type: str = "",
        ref: str = "",
        labels: Mapping[str, str] | None = None,
        source_date_epoch: int | None = None,
    ) -> Descriptor:
        raise Unimplemented("the next differ makes it")


_: type[Differ] = Capped
