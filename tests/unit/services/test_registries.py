"""What a registry client of one transfer asks of its client: credentials, and to read the log."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from sampan.api.containerd.types.transfer import registry_pb2 as pb
from sampan.api.containerd.types.transfer.streaming_pb2 import Data, WindowUpdate
from sampan.errors import InvalidArgument, Unauthenticated
from sampan.services.streaming.registry import Stream, pack
from sampan.services.transfer.registries import Lines, StreamCredentials


class Client:
    """Answers each message by one of its own, or keeps it."""

    def __init__(self, *answers: Message) -> None:
        self.asked: list[AnyMessage] = []
        self.stream = Stream(self)
        self._answers = list(answers)

    async def send_message(self, message: AnyMessage) -> None:
        self.asked.append(message)
        if self._answers:
            await self.stream.push(pack(self._answers.pop(0)))


async def looked_up(answer: Message) -> tuple[Client, object]:
    client = Client(answer)
    source = StreamCredentials(client.stream, "docker.io/library/box:1")
    return client, await source.lookup("docker.io")


async def test_the_client_is_asked() -> None:
    given = pb.AuthResponse(authType=pb.CREDENTIALS, username="u", secret="p")  # noqa: S106
    client, found = await looked_up(given)
    asked = pb.AuthRequest.FromString(client.asked[0].value)
    assert (asked.host, asked.reference) == ("registry-1.docker.io", "docker.io/library/box:1")
    assert (found.username, found.password) == ("u", "p")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        (pb.AuthResponse(authType=pb.REFRESH, secret="t"), "identity_token", "t"),  # noqa: S106
        (pb.AuthResponse(authType=pb.HEADER, secret="Bearer t"), "registry_token", "t"),  # noqa: S106
        (pb.AuthResponse(), "username", ""),
    ],
)
async def test_kinds_of_answers(given: pb.AuthResponse, field: str, value: str) -> None:
    _, found = await looked_up(given)
    assert getattr(found, field) == value


async def test_a_client_that_hangs_up_or_babbles() -> None:
    with pytest.raises(InvalidArgument):
        await looked_up(WindowUpdate(update=1))
    client = Client()
    client.stream.finish()
    with pytest.raises(Unauthenticated):
        await StreamCredentials(client.stream, "x").lookup("x")


async def test_the_log_is_sent_as_the_client_reads_it() -> None:
    client = Client()
    lines = Lines(client.stream)
    lines("GET /v2/: 401")
    await client.stream.push(pack(WindowUpdate(update=1000)))
    lines("GET /v2/: 200")
    async with asyncio.timeout(10):
        await lines.close()
    sent = b"".join(Data.FromString(one.value).data for one in client.asked)
    assert sent == b"GET /v2/: 401\nGET /v2/: 200\n"
