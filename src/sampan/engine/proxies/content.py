"""A content store behind containerd.services.content.v1.

Our workers read layers from a file: so a reader first copies the blob into a file without a name
(in memory if it is small), and checks its digest on the way.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC
from types import TracebackType
from typing import Any, Final, Self

from google.protobuf.field_mask_pb2 import FieldMask
from grpclib.client import Stream
from grpclib.exceptions import StreamTerminatedError

from sampan.api.containerd.services.content.v1 import content_pb2 as pb
from sampan.api.containerd.services.content.v1.content_grpc import ContentStub
from sampan.concurrency import to_thread
from sampan.engine.proxies.link import CALL_S, Link
from sampan.engine.schema import ProxyPlugin
from sampan.errors import DataLoss, FailedPrecondition, OutOfRange
from sampan.model import digest as digests
from sampan.model.digest import Digest
from sampan.storage.content import Info, Status

__all__ = ["ProxyContent"]

_IN_MEMORY: Final = 8 << 20
_CHUNK: Final = 1 << 20


class ProxyContent:
    """See `storage.content.Store`."""

    def __init__(self, id: str, plugin: ProxyPlugin, address: str) -> None:
        self._link = Link(id, plugin, address)

    def _stub(self) -> ContentStub:
        return ContentStub(self._link.channel)

    async def info(self, digest: Digest) -> Info:
        found = await self._link.call(self._stub().Info, pb.InfoRequest(digest=digest))
        return _info(found.info)

    async def update(self, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        request = pb.UpdateRequest(
            info=pb.Info(digest=info.digest, labels=dict(info.labels)),
            update_mask=FieldMask(paths=list(fieldpaths)) if fieldpaths else None,
        )
        return _info((await self._link.call(self._stub().Update, request)).info)

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        request = pb.ListContentRequest(filters=list(filters))
        async for message in self._link.listing(self._stub().List, request):
            for info in message.info:
                yield _info(info)

    async def delete(self, digest: Digest) -> None:
        await self._link.call(self._stub().Delete, pb.DeleteContentRequest(digest=digest))

    async def reader(self, digest: Digest) -> _Reader:
        info = await self.info(digest)
        fd = await to_thread(_nameless, info.size)
        try:
            hashed = hashlib.new(digest.partition(":")[0])
            request = pb.ReadContentRequest(digest=digest)
            async for message in self._link.listing(self._stub().Read, request):
                hashed.update(message.data)
                await to_thread(_write_all, fd, message.data)
            _check(f"{hashed.name}:{hashed.hexdigest()}", digest, self._link.id)
        except BaseException:
            os.close(fd)
            raise
        return _Reader(digest, info.size, fd)

    async def writer(self, ref: str, *, expected: Digest | None = None, total: int = 0) -> _Writer:
        made = _Writer(self._link, self._stub(), ref, expected, total)
        await made.open()
        return made

    async def status(self, ref: str) -> Status:
        found = await self._link.call(self._stub().Status, pb.StatusRequest(ref=ref))
        return _status(found.status)

    async def list_statuses(self, filters: Sequence[str] = ()) -> list[Status]:
        request = pb.ListStatusesRequest(filters=list(filters))
        found = await self._link.call(self._stub().ListStatuses, request)
        return [_status(one) for one in found.statuses]

    async def abort(self, ref: str) -> None:
        await self._link.call(self._stub().Abort, pb.AbortRequest(ref=ref))

    async def cleanup(self) -> None:
        """Do nothing: the other side cleans up by itself."""

    async def close(self) -> None:
        await self._link.close()


class _Reader:
    """A blob in a file without a name; owns the fd."""

    def __init__(self, digest: Digest, size: int, fd: int) -> None:
        self.digest = digest
        self.size = size
        self._fd = fd

    def fileno(self) -> int:
        os.lseek(self._fd, 0, os.SEEK_SET)
        return self._fd

    async def read_at(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0 or offset > self.size:
            raise OutOfRange(f"content {self.digest}: no bytes at {offset}")
        return await to_thread(os.pread, self._fd, length, offset)

    async def chunks(self, offset: int = 0, length: int = -1) -> AsyncIterator[bytes]:
        left = self.size - offset if length < 0 else length
        while left > 0 and (data := await self.read_at(offset, min(left, _CHUNK))):
            yield data
            offset += len(data)
            left -= len(data)

    async def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class _Writer:
    """One Write stream: it holds the ref while it is open."""

    def __init__(
        self, link: Link, stub: ContentStub, ref: str, expected: Digest | None, total: int
    ) -> None:
        self.ref = ref
        self._link = link
        self._stub = stub
        self._expected = expected
        self._total = total
        self._stream: Stream[Any, Any] | None = None
        self._offset = 0
        self._closed = False

    async def open(self) -> None:
        """Take the ref, once more if an error has ended the stream."""
        self._stream = self._stub.Write.open(metadata=self._link.headers())
        await self._stream.__aenter__()
        answer = await self._ask(
            pb.WriteContentRequest(
                action=pb.STAT, ref=self.ref, total=self._total, expected=self._expected or ""
            )
        )
        self._offset = answer.offset

    async def _ask(self, request: pb.WriteContentRequest) -> Any:
        if self._closed:
            raise FailedPrecondition(f"ingest {self.ref!r}: the writer is closed or committed")
        if self._stream is None:
            await self.open()
        stream = self._stream
        assert stream is not None  # noqa: S101 - open has made it
        with self._link.translated():
            try:
                async with asyncio.timeout(CALL_S):
                    await stream.send_message(request)
                    answer = _answer(await stream.recv_message())
            except BaseException as err:
                self._stream = None
                # Raises the status instead, if it came before the stream was reset.
                await stream.__aexit__(type(err), err, err.__traceback__)
                raise
        return answer

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        whole = memoryview(data)
        for at in range(0, len(whole), _CHUNK):
            part = bytes(whole[at : at + _CHUNK])
            request = pb.WriteContentRequest(action=pb.WRITE, offset=self._offset, data=part)
            self._offset = (await self._ask(request)).offset
        return self._offset

    async def digest(self, algorithm: str = "") -> Digest:
        answer = await self._ask(pb.WriteContentRequest(action=pb.STAT))
        return digests.parse(answer.digest)

    async def status(self) -> Status:
        found = await self._link.call(self._stub.Status, pb.StatusRequest(ref=self.ref))
        return _status(found.status)

    async def truncate(self, offset: int) -> None:
        if offset != self._offset:
            if offset:
                raise OutOfRange(f"ingest {self.ref!r}: a proxy's can be cut to nothing only")
            # Offset 0 on an ingest that has begun starts it anew.
            await self._ask(pb.WriteContentRequest(action=pb.WRITE, offset=0, data=b""))
            self._offset = 0

    async def commit(
        self,
        size: int = 0,
        expected: Digest | None = None,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> Info:
        if self._stream is None and not self._closed:
            await self.open()
        request = pb.WriteContentRequest(
            action=pb.COMMIT,
            offset=self._offset,
            total=size or self._total,
            expected=expected or self._expected or "",
            labels=dict(labels or {}),
        )
        digest = digests.parse((await self._ask(request)).digest)
        await self.close()
        found = await self._link.call(self._stub.Info, pb.InfoRequest(digest=digest))
        return _info(found.info)

    async def close(self) -> None:
        self._closed = True
        stream, self._stream = self._stream, None
        if stream is not None:
            with self._link.translated():
                await stream.cancel()
                await stream.__aexit__(None, None, None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _info(message: Any) -> Info:
    return Info(
        digests.parse(message.digest),
        message.size,
        message.created_at.ToDatetime(UTC),
        message.updated_at.ToDatetime(UTC),
        dict(message.labels),
    )


def _status(message: Any) -> Status:
    return Status(
        message.ref,
        message.offset,
        message.total,
        digests.parse(message.expected) if message.expected else None,
        message.started_at.ToDatetime(UTC),
        message.updated_at.ToDatetime(UTC),
    )


def _answer(message: Any) -> Any:
    if message is None:
        raise StreamTerminatedError("the proxy ended its stream")
    return message


def _check(found: str, digest: Digest, id: str) -> None:
    if found != digest:
        raise DataLoss(f"proxy plugin {id} sent {found} for content {digest}")


def _nameless(size: int) -> int:
    if size <= _IN_MEMORY:
        return os.memfd_create("proxy-content", os.MFD_CLOEXEC)
    return os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
