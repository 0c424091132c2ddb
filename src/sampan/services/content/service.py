"""The gRPC face of the content store; `write` holds the one method with a protocol of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.content.v1 import content_pb2 as pb
from sampan.api.containerd.services.content.v1.content_grpc import ContentBase
from sampan.errors import OutOfRange
from sampan.metadata import Metadata
from sampan.model import digest as digests
from sampan.rpc.grpc import bidirectional, streaming, unary
from sampan.services.content.write import write
from sampan.services.convert import mask_of, timestamp
from sampan.storage.content import Info, Status

__all__ = ["ContentService"]

_PAGE: Final = 100
_NEVER: Final = datetime.fromtimestamp(0, UTC)


class ContentService(ContentBase):
    """Content as the request's namespace sees it."""

    def __init__(self, metadata: Metadata) -> None:
        self._content = metadata.content

    @unary
    async def Info(self, request: pb.InfoRequest) -> pb.InfoResponse:
        found = await self._content.info(digests.parse(request.digest))
        return pb.InfoResponse(info=_info(found))

    @unary
    async def Update(self, request: pb.UpdateRequest) -> pb.UpdateResponse:
        wanted = Info(
            digests.parse(request.info.digest),
            request.info.size,
            _NEVER,
            _NEVER,
            dict(request.info.labels),
        )
        now = await self._content.update(wanted, mask_of(request))
        return pb.UpdateResponse(info=_info(now))

    @streaming
    async def List(self, request: pb.ListContentRequest) -> AsyncIterator[pb.ListContentResponse]:
        page: list[pb.Info] = []
        async for info in self._content.walk(tuple(request.filters)):
            page.append(_info(info))
            if len(page) == _PAGE:
                yield pb.ListContentResponse(info=page)
                page = []
        if page:
            yield pb.ListContentResponse(info=page)

    @unary
    async def Delete(self, request: pb.DeleteContentRequest) -> Empty:
        await self._content.delete(digests.parse(request.digest))
        return Empty()

    @streaming
    async def Read(self, request: pb.ReadContentRequest) -> AsyncIterator[pb.ReadContentResponse]:
        async with await self._content.reader(digests.parse(request.digest)) as reader:
            offset = max(0, request.offset)
            if offset > reader.size:
                raise OutOfRange(f"read past object length {reader.size} bytes")
            async for chunk in reader.chunks(offset, request.size if request.size > 0 else -1):
                yield pb.ReadContentResponse(offset=offset, data=chunk)
                offset += len(chunk)

    @unary
    async def Status(self, request: pb.StatusRequest) -> pb.StatusResponse:
        return pb.StatusResponse(status=_status(await self._content.status(request.ref)))

    @unary
    async def ListStatuses(self, request: pb.ListStatusesRequest) -> pb.ListStatusesResponse:
        found = await self._content.list_statuses(tuple(request.filters))
        return pb.ListStatusesResponse(statuses=[_status(one) for one in found])

    @bidirectional
    async def Write(self, stream: Any) -> None:
        await write(self._content, stream)

    @unary
    async def Abort(self, request: pb.AbortRequest) -> Empty:
        await self._content.abort(request.ref)
        return Empty()


def _info(value: Info) -> pb.Info:
    return pb.Info(
        digest=value.digest,
        size=value.size,
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
        labels=dict(value.labels),
    )


def _status(value: Status) -> pb.Status:
    return pb.Status(
        started_at=timestamp(value.started_at),
        updated_at=timestamp(value.updated_at),
        ref=value.ref,
        offset=value.offset,
        total=value.total,
        expected=value.expected or "",
    )
