"""The gRPC face of streams."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.streaming.v1 import streaming_pb2 as pb
from sampan.api.containerd.services.streaming.v1.streaming_grpc import StreamingBase
from sampan.errors import InvalidArgument
from sampan.rpc.grpc import bidirectional
from sampan.services.streaming.registry import Stream, Streams, pack

__all__ = ["StreamingService"]


class StreamingService(StreamingBase):
    """A stream lives as long as its call: until whoever uses it closes it, or the client goes."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    @bidirectional
    async def Stream(self, stream: Any) -> None:
        first = await stream.recv_message()
        if first is None:
            return
        made = Stream(stream)
        name = _id(first)
        self._streams.add(name, made)
        try:
            await stream.send_message(pack(Empty()))
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(_read(stream, made))
                await made.closed.wait()
                reading.cancel()
        finally:
            self._streams.remove(name, made)


async def _read(carrier: Any, stream: Stream) -> None:
    async for message in carrier:
        await stream.push(message)
    stream.finish()


def _id(message: Any) -> str:
    if message.type_url.rpartition("/")[2] != pb.StreamInit.DESCRIPTOR.full_name:
        raise InvalidArgument(f"stream begins with {message.type_url[:100]!r}, not a StreamInit")
    init = pb.StreamInit()
    init.ParseFromString(message.value)
    return init.id
