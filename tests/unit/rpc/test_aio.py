"""The asyncio client and server, and the shim's client and server, against one another."""

import asyncio
import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from sampan.errors import DeadlineExceeded, NotFound, ResourceExhausted, Unavailable, Unimplemented
from sampan.rpc import aio
from sampan.rpc.client import Client
from sampan.rpc.link import Link
from sampan.rpc.loop import Loop
from sampan.rpc.messages.task import StartRequest, StartResponse
from sampan.rpc.server import Context, Method, Server
from sampan.rpc.wire import Message


async def echo(request: StartRequest, metadata: Mapping[str, str]) -> Message:
    if request.id == "missing":
        raise NotFound("missing: not found")
    if request.id == "slow":
        await asyncio.Event().wait()
    return StartResponse(pid=len(request.id) + len(metadata.get("k", "")))


SERVICES = {"s": {"M": (StartRequest, echo)}}


async def test_calls_errors_deadlines_and_the_end(tmp_path: Path) -> None:
    server = aio.Server(SERVICES)
    await server.listen(str(tmp_path / ("x" * 80)))
    client = await aio.connect(f"unix://{tmp_path / ('x' * 80)}")
    assert (await client.call("s", "M", StartRequest(id="abc"), StartResponse)).pid == 3
    answer = await client.call("s", "M", StartRequest(), StartResponse, metadata={"K": "vv"})
    assert answer.pid == 2
    with pytest.raises(NotFound, match="missing: not found"):
        await client.call("s", "M", StartRequest(id="missing"), StartResponse)
    with pytest.raises(Unimplemented):
        await client.call("s", "N", StartRequest(), StartResponse)
    with pytest.raises(DeadlineExceeded):
        await client.call("s", "M", StartRequest(id="slow"), StartResponse, timeout_s=0.05)
    with pytest.raises(ResourceExhausted):
        await client.call("s", "M", StartRequest(id="x" * (5 << 20)), StartResponse)
    slow = asyncio.get_running_loop().create_task(
        client.call("s", "M", StartRequest(id="slow"), StartResponse, timeout_s=None)
    )
    await client.call("s", "M", StartRequest(id="abc"), StartResponse)
    await server.close()
    with pytest.raises(Unavailable):
        await slow
    await client.wait_closed()


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await aio.connect(str(tmp_path / "none"))


def test_loop_server_with_blocking_client_and_link() -> None:
    """Both sides of the shim's own stack, the server's loop in a thread."""
    near, far = socket.socketpair()
    near2, far2 = socket.socketpair()
    loop = Loop()

    async def method(request: StartRequest, context: Context) -> Message:
        if request.id == "stop":
            loop.call_soon(loop.stop)
        if request.id == "slow":
            await loop.sleep(30)
        return StartResponse(pid=len(request.id))

    server = Server(loop, {"s": {"M": Method(StartRequest, method)}})
    server.serve(far)
    server.serve(far2)
    thread = threading.Thread(target=loop.run)
    thread.start()
    with Client(near) as client:
        first = client.begin("s", "M", StartRequest(id="slow"))
        assert client.call("s", "M", StartRequest(id="ab"), StartResponse).pid == 2
        with pytest.raises(DeadlineExceeded):
            client.call("s", "M", StartRequest(id="slow"), StartResponse, timeout_s=0.05)
        assert first == 1
        with pytest.raises(Unimplemented):
            client.call("t", "M", StartRequest(), StartResponse)
        near2.sendall(b"\xff" * 50)  # a broken peer loses its own connection alone
        client.call("s", "M", StartRequest(id="stop"), StartResponse)
    thread.join(10)
    near2.close()
    server.close()
    loop.close()
    assert not thread.is_alive()


def test_link_reports_an_absent_daemon(tmp_path: Path) -> None:
    loop = Loop()
    loop.on_error = lambda _error: None
    link = Link(loop, os.fspath(tmp_path / "none"))
    outcome = loop.spawn(_call(link))
    assert outcome.done
    with pytest.raises(Unavailable):
        outcome.result()
    loop.close()


async def _call(link: Link) -> str:
    await link.call("s", "M", StartRequest(), StartResponse, timeout_s=1)
    return "answered"
