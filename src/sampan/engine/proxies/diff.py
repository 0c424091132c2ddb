"""A differ behind containerd.services.diff.v1: it reads content from us as any client does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.api.containerd.services.diff.v1 import diff_pb2 as pb
from sampan.api.containerd.services.diff.v1.diff_grpc import DiffStub
from sampan.engine.extensions import Differ
from sampan.engine.proxies.link import Link
from sampan.engine.schema import ProxyPlugin
from sampan.model.descriptor import Descriptor
from sampan.model.mounts import Mount
from sampan.services.convert import descriptor_from, descriptor_of, mounts_from
from sampan.storage.content import Store

__all__ = ["ProxyDiffer"]

_WORK_S: Final = 1800.0
"""A layer may be large, and its storage slow."""


class ProxyDiffer:
    """See `engine.extensions.Differ`; also its factory, since it wants no content of ours."""

    def __init__(self, id: str, plugin: ProxyPlugin, address: str) -> None:
        self._link = Link(id, plugin, address)

    def __call__(self, content: Store) -> Differ:
        del content
        return self

    async def apply(
        self,
        descriptor: Descriptor,
        mounts: Sequence[Mount],
        *,
        sync: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Descriptor:
        request = pb.ApplyRequest(
            diff=descriptor_from(descriptor), mounts=mounts_from(mounts), sync_fs=sync
        )
        method = DiffStub(self._link.channel).Apply
        answer = await self._link.call(method, request, timeout_s=_WORK_S)
        if progress is not None:
            progress(descriptor.size)
        return descriptor_of(answer.applied)

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
        request = pb.DiffRequest(
            left=mounts_from(lower),
            right=mounts_from(upper),
            media_type=media_type,
            ref=ref,
            labels=dict(labels or {}),
        )
        if source_date_epoch is not None:
            request.source_date_epoch.CopyFrom(Timestamp(seconds=source_date_epoch))
        method = DiffStub(self._link.channel).Diff
        answer = await self._link.call(method, request, timeout_s=_WORK_S)
        return descriptor_of(answer.diff)

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()
