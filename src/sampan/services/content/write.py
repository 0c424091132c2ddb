"""Content.Write: an ingest driven by a stream of actions, each answered in turn.

    client                                   server
      │ ── STAT    ref, expected, total ───────▶ │  opens the one writer of the ref
      │ ◀─ offset, total, digest, times ──────── │
      │ ── WRITE   offset, data ───────────────▶ │  offset 0 on a begun ingest starts it anew
      │ ◀─ offset, digest ────────────────────── │
      │ ── COMMIT  total, expected, labels ────▶ │  may carry the last data
      │ ◀─ offset, digest ────────────────────── │

The writer is closed, and so the ref unlocked, when the stream ends, however it ends; what is not
committed stays. Source: containerd api content/v1 and its documented error classes.
"""

from __future__ import annotations

from typing import Any

from sampan.api.containerd.services.content.v1 import content_pb2 as pb
from sampan.errors import AlreadyExists, InvalidArgument, NotFound, OutOfRange
from sampan.model import digest as digests
from sampan.model.digest import Digest
from sampan.services.convert import timestamp
from sampan.storage.content import Store, Writer

__all__ = ["write"]


async def write(store: Store, stream: Any) -> None:
    """Serve one Write stream.

    Raises:
      InvalidArgument: the first message names no ref, or a later one another ref.
      OutOfRange: a write at another place than the ingest's end.
    """
    request = await stream.recv_message()
    if request is None:
        return
    if not request.ref:
        raise InvalidArgument("first message must have a reference")
    expected = digests.parse(request.expected) if request.expected else None
    session = _Session(store, request.ref, request.total, expected)
    session.writer = await store.writer(request.ref, expected=expected, total=request.total)
    try:
        while request is not None:
            await stream.send_message(await session.answer(request))
            request = await stream.recv_message()
    finally:
        await session.writer.close()


class _Session:
    """What one stream has said so far."""

    writer: Writer

    def __init__(self, store: Store, ref: str, total: int, expected: Digest | None) -> None:
        self._store = store
        self._ref = ref
        self._total = total
        self._expected = expected

    async def answer(self, request: pb.WriteContentRequest) -> pb.WriteContentResponse:
        await self._learn(request)
        if request.action == pb.STAT:
            return await self._stat()
        if request.action not in (pb.WRITE, pb.COMMIT):
            raise InvalidArgument(f"unknown write action {request.action}")
        offset = await self._append(request)
        if request.action == pb.WRITE:
            digest = await self.writer.digest()
            return pb.WriteContentResponse(action=pb.WRITE, offset=offset, digest=digest)
        info = await self.writer.commit(self._total, self._expected, labels=dict(request.labels))
        return pb.WriteContentResponse(
            action=pb.COMMIT, offset=info.size, total=info.size, digest=info.digest
        )

    async def _learn(self, request: pb.WriteContentRequest) -> None:
        """Take total and digest from any message: clients learn them late."""
        if request.ref and request.ref != self._ref:
            raise InvalidArgument(f"ref changed from {self._ref} to {request.ref} in one stream")
        if request.total:
            self._total = request.total
        if request.expected and request.expected != self._expected:
            self._expected = digests.parse(request.expected)
            try:
                await self._store.info(self._expected)
            except NotFound:
                return
            await self.writer.close()
            await self._store.abort(self._ref)
            raise AlreadyExists(f"blob with expected digest {self._expected} exists")

    async def _stat(self) -> pb.WriteContentResponse:
        status = await self.writer.status()
        return pb.WriteContentResponse(
            action=pb.STAT,
            started_at=timestamp(status.started_at),
            updated_at=timestamp(status.updated_at),
            offset=status.offset,
            total=self._total or status.total,
            digest=await self.writer.digest(),
        )

    async def _append(self, request: pb.WriteContentRequest) -> int:
        at = (await self.writer.status()).offset
        if request.offset and request.offset != at:
            raise OutOfRange(f"write @{request.offset} must occur at current offset {at}")
        if not request.offset and at and (request.data or request.action == pb.WRITE):
            await self.writer.truncate(0)
            at = 0
        if request.data:
            at = await self.writer.write(request.data)
        return at
