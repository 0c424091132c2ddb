"""Streaming calls of the shim's server, by the asyncio client."""

import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sampan.errors import NotFound, ResourceExhausted, Unavailable
from sampan.rpc import aio
from sampan.rpc.frames import DATA, Frame
from sampan.rpc.loop import IN, Future, Loop
from sampan.rpc.messages.task import StartRequest, StartResponse
from sampan.rpc.server import Context, Method, Server
from sampan.rpc.streaming import Stream

GOT: list[str] = []


async def echo(argument: StartRequest | None, context: Context) -> None:
    """Answer each message with its length; after `fail`, with an error."""
    if argument is not None:
        for number in range(int(argument.id)):
            await context.stream.send(StartResponse(pid=number))
        return
    while (item := await context.stream.receive()) is not None:
        if item.id == "fail":
            raise NotFound("fail: not found")
        GOT.append(item.id)
        await context.stream.send(StartResponse(pid=len(item.id)))


async def deaf(_argument: StartRequest | None, _context: Context) -> None:
    await Future[None]()


@contextmanager
def server() -> Iterator[Callable[[], socket.socket]]:
    """A server in a thread; the function returns a socket that it serves."""
    loop = Loop()
    served = Server(
        loop,
        {"s": {"Echo": Method(StartRequest, echo, streams=True),
               "Deaf": Method(StartRequest, deaf, streams=True)}},
    )  # fmt: skip
    ready, wake = os.pipe()
    new: list[socket.socket] = []

    def woken(_events: int) -> None:
        for word in os.read(ready, 16):
            if word == ord("q"):
                loop.stop()
            else:
                served.serve(new.pop(0))

    loop.watch(ready, IN, woken)
    thread = threading.Thread(target=loop.run)
    thread.start()

    def connect() -> socket.socket:
        ours, theirs = socket.socketpair()
        new.append(theirs)
        os.write(wake, b"c")
        return ours

    try:
        yield connect
    finally:
        os.write(wake, b"q")
        thread.join()
        served.close()
        loop.close()
        os.close(ready)
        os.close(wake)


@pytest.fixture
async def client() -> AsyncIterator[Any]:
    with server() as connect:
        made = await aio.Connection.over(connect())
        yield made
        await made.wait_closed()


async def test_both_ways_until_the_client_has_said_all(client: aio.Connection) -> None:
    stream = await client.stream("s", "Echo", StartResponse)
    for word in ("a", "bb", "ccc"):
        await stream.send(StartRequest(id=word))
        answer = await stream.receive()
        assert isinstance(answer, StartResponse)
        assert answer.pid == len(word)
    await stream.close_send()
    assert await stream.receive() is None


async def test_the_server_alone_streams_more_than_a_socket_holds(client: aio.Connection) -> None:
    stream = await client.stream("s", "Echo", StartResponse, StartRequest(id="200"))
    got = [item.pid async for item in stream]  # type: ignore[attr-defined]
    assert got == list(range(200))


async def test_an_error_ends_the_stream(client: aio.Connection) -> None:
    stream = await client.stream("s", "Echo", StartResponse)
    await stream.send(StartRequest(id="fail"))
    with pytest.raises(NotFound, match="fail: not found"):
        await stream.receive()
    # The connection serves on.
    again = await client.stream("s", "Echo", StartResponse, StartRequest(id="1"))
    assert isinstance(await again.receive(), StartResponse)


async def test_streams_do_not_wait_for_each_other(client: aio.Connection) -> None:
    first = await client.stream("s", "Echo", StartResponse)
    second = await client.stream("s", "Echo", StartResponse)
    await second.send(StartRequest(id="bb"))
    assert isinstance(await second.receive(), StartResponse)
    await first.send(StartRequest(id="a"))
    assert isinstance(await first.receive(), StartResponse)
    await first.close_send()
    await second.close_send()
    assert await first.receive() is None
    assert await second.receive() is None


def test_a_server_that_does_not_read_does_not_grow() -> None:
    done: Future[None] = Future()
    done.set(None)
    stream = Stream(1, StartRequest, lambda _frame: None, lambda: done, open=True)
    body = bytes(StartRequest(id="x"))
    for _ in range(300):
        stream.feed(Frame(1, DATA, 0, body))
    for _ in range(256):
        assert run(stream.receive()) is not None
    with pytest.raises(ResourceExhausted):
        run(stream.receive())


def run(coroutine: Any) -> Any:
    """Run what does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


async def test_a_client_that_hangs_up_ends_the_handler() -> None:
    with server() as connect:
        sock = connect()
        client = await aio.Connection.over(sock)
        stream = await client.stream("s", "Echo", StartResponse)
        await stream.send(StartRequest(id="last"))
        assert isinstance(await stream.receive(), StartResponse)
        await client.wait_closed()
        with pytest.raises(Unavailable):
            await stream.receive()
    assert GOT[-1] == "last"
