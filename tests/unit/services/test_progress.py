"""Progress in containerd's words, whatever the speed of the reader."""

from __future__ import annotations

import asyncio

from google.protobuf.any_pb2 import Any as AnyMessage

from sampan.api.containerd.types.transfer.progress_pb2 import Progress as Message
from sampan.distribution import Progress
from sampan.services.streaming.registry import Stream
from sampan.services.transfer.progress import Reporter


class Carrier:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    async def send_message(self, message: AnyMessage) -> None:
        self.sent.append(Message.FromString(message.value))


async def reported(*events: Progress) -> list[Message]:
    carrier = Carrier()
    reporter = Reporter(Stream(carrier))
    reporter.root = "name:1"
    for event in events:
        reporter.tell(event)
    reporter.finish()
    await reporter.pump()
    return carrier.sent


async def test_a_download() -> None:
    sent = await reported(
        Progress("downloading", "sha256:m", "manifest", 0, 9),
        Progress("complete", "sha256:m", "manifest", 9, 9),
        Progress("downloading", "sha256:l", "layer", 0, 5, ("sha256:m",)),
        Progress("downloading", "sha256:l", "layer", 2, 5, ("sha256:m",)),
        Progress("exists", "sha256:c", "config", 4, 4, ("sha256:m",)),
        Progress("done", "name:1"),
    )
    assert [(one.event, one.name, list(one.parents), one.progress, one.total) for one in sent] == [
        ("waiting", "manifest-sha256:m", ["name:1"], 0, 9),
        ("complete", "manifest-sha256:m", ["name:1"], 9, 9),
        ("waiting", "layer-sha256:l", ["manifest-sha256:m"], 0, 5),
        ("downloading", "layer-sha256:l", ["manifest-sha256:m"], 2, 5),
        ("waiting", "config-sha256:c", ["manifest-sha256:m"], 0, 4),
        ("already exists", "config-sha256:c", [], 4, 4),
    ]


async def test_figures_are_newest_only_and_gone_when_complete() -> None:
    figures = [Progress("downloading", "sha256:l", "layer", n, 100) for n in range(1, 100)]
    sent = await reported(*figures)
    assert [(one.event, one.progress) for one in sent] == [("waiting", 0), ("downloading", 99)]
    sent = await reported(*figures, Progress("complete", "sha256:l", "layer", 100, 100))
    assert [one.event for one in sent] == ["waiting", "complete"]


async def test_nobody_listens() -> None:
    reporter = Reporter(None)
    reporter.say("Importing")
    async with asyncio.timeout(1):
        await reporter.pump()


async def test_a_reader_that_goes_stops_nothing() -> None:
    stream = Stream(Carrier())
    reporter = Reporter(stream)
    stream.close()
    reporter.say("Importing")
    reporter.finish()
    async with asyncio.timeout(1):
        await reporter.pump()
