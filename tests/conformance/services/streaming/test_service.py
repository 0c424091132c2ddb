"""Streams: opened, named, ended."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.streaming.v1 import streaming_pb2 as streaming
from sampan.api.containerd.types.transfer import (
    progress_pb2,
    streaming_pb2,
)
from sampan.testing import requires

pytestmark = requires("root", "module:grpc", "containerd-2")


CASES: list[Callable[[Any], Any]] = []


def case(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    CASES.append(function)
    return function


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.__name__)
def test_alike(alike: Any, one: Any) -> None:
    alike(one)


def pack(message: Any) -> AnyMessage:
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


class Stream:
    """A stream as a client has one: opened, then named in a call."""

    def __init__(self, peer: Any, name: str) -> None:
        self._out: queue.Queue[AnyMessage | None] = queue.Queue()
        self._call = peer.stream("streaming.v1.Streaming/Stream", self._requests(), AnyMessage)
        self.send(streaming.StreamInit(id=name))
        first = next(self._call)
        assert first.type_url == "google.protobuf.Empty"

    def _requests(self) -> Iterator[AnyMessage]:
        while (message := self._out.get()) is not None:
            yield message

    def send(self, message: Any) -> None:
        self._out.put(pack(message))

    def finish(self) -> None:
        """Send no more."""
        self._out.put(None)

    def close(self) -> None:
        self.finish()
        self._call.cancel()

    def send_all(self, data: bytes) -> None:
        """Send bytes as the peer gives window for them, and finish."""
        window = 0
        while data:
            while window <= 0:
                window += streaming_pb2.WindowUpdate.FromString(next(self._call).value).update
            part = data[: min(window, 32 << 10)]
            self.send(streaming_pb2.Data(data=part))
            window -= len(part)
            data = data[len(part) :]
        self.finish()

    def receive_all(self, window: int = 64 << 10) -> bytes:
        """Receive bytes until either ends the stream, giving the peer window after window."""
        self.found = b""
        left = 0
        while True:
            if left <= 0:
                self.send(streaming_pb2.WindowUpdate(update=window))
                left += window
            try:
                message = next(self._call, None)
            except grpc.RpcError:
                return self.found
            if message is None:
                return self.found
            part = streaming_pb2.Data.FromString(message.value).data
            assert len(part) <= left
            left -= len(part)
            self.found += part

    def progress(self) -> list[Any]:
        """Return all progress until the peer ends the stream."""
        found = []
        try:
            for message in self._call:
                assert message.type_url == "containerd.types.transfer.Progress"
                found.append(progress_pb2.Progress.FromString(message.value))
        except grpc.RpcError:
            pass
        return found


@case
def streams(peer: Any) -> Any:
    method = "streaming.v1.Streaming/Stream"
    first = Stream(peer, "one")
    found = [
        peer.stream_code(method, [pack(streaming.StreamInit(id="one"))], AnyMessage) != "OK",
        peer.stream_code(method, [pack(Empty())], AnyMessage) != "OK",
    ]
    first.close()
    return found


def test_name_of_a_stream_is_free_when_the_client_goes(ours: Any) -> None:
    """containerd keeps it until a collection."""
    ours.namespace = "free"
    Stream(ours, "one").close()
    deadline = time.monotonic() + 10
    while not _opened(ours, "one"):
        assert time.monotonic() < deadline


def _opened(peer: Any, name: str) -> bool:
    try:
        Stream(peer, name).close()
    except grpc.RpcError:
        return False
    return True
