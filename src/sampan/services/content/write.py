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
from sampan.storage.content import Store, Writer

__all__ = ["write"]


async def write(store: Store, stream: Any) -> None:
    """Serve one Write stream.

    Raises:
      InvalidArgument: the first message names no ref.
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
        self._said = pb.WriteContentResponse()

    async def answer(self, request: pb.WriteContentRequest) -> pb.WriteContentResponse:
        """Do what is asked; fields that an earlier answer had stay, as containerd has it."""
        await self._learn(request)
        said = self._said
        said.action = request.action
        said.offset = (await self.writer.status()).offset
        if request.action == pb.STAT:
            await self._stat()
        elif request.action in (pb.WRITE, pb.COMMIT):
            said.offset = await self._append(request)
            if request.action == pb.COMMIT:
                info = await self.writer.commit(
                    self._total, self._expected, labels=dict(request.labels)
                )
                said.offset, said.digest = info.size, info.digest
            else:
                said.digest = await self.writer.digest()
        return said

    async def _learn(self, request: pb.WriteContentRequest) -> None:
        """Take total and digest from any message: clients learn them late."""
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

    async def _stat(self) -> None:
        status = await self.writer.status()
        said = self._said
        said.started_at.FromDatetime(status.started_at)
        said.updated_at.FromDatetime(status.updated_at)
        said.total = self._total
        said.digest = await self.writer.digest()

    async def _append(self, request: pb.WriteContentRequest) -> int:
        at = (await self.writer.status()).offset
        if request.offset > 0 and request.offset != at:
            raise OutOfRange(f"write @{request.offset} must occur at current offset {at}")
        if request.offset == 0 and at:
            await self.writer.truncate(0)
            at = 0
        if request.data:
            at = await self.writer.write(request.data)
        return at
