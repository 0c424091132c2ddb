"""Exec and attach, end to end: a client's bytes, a real process, and how it ended."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from typing import Any

import pytest

from sampan.cri.streaming import Size
from sampan.testing.streaming import until

SUCCESS = {"metadata": {}, "status": "Success"}
MIB = 1 << 20


async def test_spdy_streams_and_success(clients: Any) -> None:
    command = ["sh", "-c", "cat; echo oops >&2"]
    url = clients.server.exec_url("c", command, stdin=True, stdout=True, stderr=True)
    client = await clients.spdy(url)
    await client.open("error", "stdin", "stdout", "stderr")
    await client.streams["stdin"].write(b"hello")
    await client.streams["stdin"].close()
    assert await client.all_of("stdout") == b"hello"
    assert await client.all_of("stderr") == b"oops\n"
    assert json.loads(await client.all_of("error")) == SUCCESS
    await client.reading


async def test_spdy_exit_code_is_on_the_error_stream(clients: Any) -> None:
    url = clients.server.exec_url("c", ["sh", "-c", "exit 42"], stdout=True)
    client = await clients.spdy(url)
    await client.open("error", "stdout")
    status = json.loads(await client.all_of("error"))
    assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "42"}]
    assert "exit status 42" in status["message"]


@pytest.mark.parametrize("protocol", ["v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"])
async def test_before_v4_the_error_stream_is_text(clients: Any, protocol: str) -> None:
    url = clients.server.exec_url("c", ["false"], stdout=True)
    client = await clients.spdy(url, protocol)
    await client.open("error", "stdout")
    text = await client.all_of("error")
    assert text == b"command terminated with non-zero exit code: exit status 1"
    url = clients.server.exec_url("c", ["true"], stdout=True)
    client = await clients.spdy(url, protocol)
    await client.open("error", "stdout")
    assert await client.all_of("error") == b""


async def test_an_error_of_the_backend_reaches_the_client(clients: Any) -> None:
    url = clients.server.exec_url("gone", ["true"], stdout=True)
    client = await clients.spdy(url)
    await client.open("error", "stdout")
    status = json.loads(await client.all_of("error"))
    assert (status["reason"], status["code"]) == ("InternalError", 500)
    assert "container gone" in status["message"]


async def test_attach_ends_in_success(clients: Any) -> None:
    url = clients.server.attach_url("c", stdin=True, stdout=True)
    client = await clients.spdy(url)
    await client.open("error", "stdin", "stdout")
    await client.streams["stdin"].write(b"to the first process")
    await client.streams["stdin"].close()
    assert await client.all_of("stdout") == b"to the first process"
    assert json.loads(await client.all_of("error")) == SUCCESS


async def test_terminal_and_sizes(clients: Any) -> None:
    command = ["sh", "-c", "read go; stty size; echo done"]
    url = clients.server.exec_url("c", command, tty=True, stdin=True, stdout=True)
    client = await clients.spdy(url)
    await client.open("error", "stdin", "stdout", "resize")
    # Two sizes in one piece and half of a third: the newest whole one counts.
    await client.streams["resize"].write(b'{"Width":80,"Height":24}\n{"width":132,"hei')
    await client.streams["resize"].write(b'ght":43}')
    while Size(132, 43) not in clients.backend.sizes:
        clients.backend.sized.clear()
        await clients.backend.sized.wait()
    await client.streams["stdin"].write(b"go\n")
    assert b"43 132" in await client.all_of("stdout")
    assert json.loads(await client.all_of("error")) == SUCCESS


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v2.channel.k8s.io"])
async def test_a_megabyte_each_way_is_exact(clients: Any, protocol: str) -> None:
    """Far more than every buffer between us, and no window is ever announced by such clients."""
    url = clients.server.exec_url("c", ["cat"], stdin=True, stdout=True)
    client = await clients.spdy(url, protocol)
    await client.open("error", "stdin", "stdout")
    data = os.urandom(8 * MIB + 77)

    async def send() -> None:
        for at in range(0, len(data), 50_001):
            await client.streams["stdin"].write(data[at : at + 50_001])
        await client.streams["stdin"].close()

    sending = asyncio.get_running_loop().create_task(send())
    got = await client.all_of("stdout")
    await sending
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


async def test_a_client_that_does_not_read_stops_the_process(clients: Any) -> None:
    command = ["dd", "if=/dev/zero", "bs=65536", "count=1600"]
    url = clients.server.exec_url("c", command, stdout=True, stderr=False)
    client = await clients.spdy(url)
    await client.open("error", "stdout")
    inbox = client.streams["stdout"].inbox
    # The session stops reading when its inbox is full; then pipes and sockets fill up, too.
    await until(lambda: inbox.full)
    assert not client.reading.done()
    assert clients.backend.running == 1
    total = len(await client.all_of("stdout"))
    assert total == 1600 * 65536
    assert json.loads(await client.all_of("error")) == SUCCESS


async def test_unread_stdin_does_not_stop_the_exit(clients: Any) -> None:
    url = clients.server.exec_url("c", ["sh", "-c", "echo out"], stdin=True, stdout=True)
    client = await clients.spdy(url)
    await client.open("error", "stdin", "stdout")

    async def flood() -> None:
        try:
            while True:
                await client.streams["stdin"].write(bytes(32768))
        except ConnectionError:
            pass

    flooding = asyncio.get_running_loop().create_task(flood())
    assert await client.all_of("stdout") == b"out\n"
    assert json.loads(await client.all_of("error")) == SUCCESS
    flooding.cancel()
    await asyncio.wait((flooding,))


async def test_a_client_that_vanishes_cancels_the_backend(clients: Any) -> None:
    url = clients.server.exec_url("c", ["sleep", "1000"], stdin=True, stdout=True)
    client = await clients.spdy(url)
    await client.open("error", "stdin", "stdout")
    await until(lambda: clients.backend.running)
    await client.close()
    await clients.backend.cancelled.wait()


@pytest.mark.parametrize(
    "protocol",
    ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"],
)
async def test_websocket_streams_and_status(clients: Any, protocol: str) -> None:
    command = ["sh", "-c", "head -c 5; echo oops >&2; exit 3"]
    url = clients.server.exec_url("c", command, stdin=True, stdout=True, stderr=True)
    client = await clients.websocket(url, protocol)
    await client.send(0, b"hello")
    await client.finished()
    assert (client.got[1], client.got[2]) == (b"hello", b"oops\n")
    assert json.loads(client.got[3])["details"]["causes"][0]["message"] == "3"


@pytest.mark.parametrize("protocol", ["", "channel.k8s.io", "base64.channel.k8s.io"])
async def test_websocket_before_v4_has_text(clients: Any, protocol: str) -> None:
    url = clients.server.exec_url("c", ["sh", "-c", "echo hi; exit 3"], stdout=True)
    client = await clients.websocket(url, protocol)
    await client.finished()
    assert client.got[1] == b"hi\n"
    assert client.got[3] == b"command terminated with non-zero exit code: exit status 3"


async def test_v5_closes_stdin(clients: Any) -> None:
    url = clients.server.exec_url("c", ["cat"], stdin=True, stdout=True)
    client = await clients.websocket(url)
    await client.send(0, b"all of it")
    await client.socket.send(b"\xff\x00")
    await client.finished()
    assert client.got[1] == b"all of it"
    assert json.loads(client.got[3]) == SUCCESS


async def test_websocket_terminal(clients: Any) -> None:
    command = ["sh", "-c", "read go; stty size"]
    url = clients.server.exec_url("c", command, tty=True, stdin=True, stdout=True)
    client = await clients.websocket(url)
    await client.send(4, b'{"Width":100,"Height":30}')
    await clients.backend.sized.wait()
    await client.send(0, b"go\n")
    await client.finished()
    assert b"30 100" in client.got[1]


async def test_websocket_bytes_are_exact(clients: Any) -> None:
    url = clients.server.exec_url("c", ["cat"], stdin=True, stdout=True)
    client = await clients.websocket(url)
    data = os.urandom(4 * MIB + 5)
    for at in range(0, len(data), 100_003):
        await client.send(0, data[at : at + 100_003])
    await client.socket.send(b"\xff\x00")
    await client.finished()
    assert client.got[1] == data


async def test_websocket_client_that_closes_cancels_the_backend(clients: Any) -> None:
    url = clients.server.exec_url("c", ["sleep", "1000"], stdout=True)
    client = await clients.websocket(url)
    await until(lambda: clients.backend.running)
    await client.socket.close()
    await clients.backend.cancelled.wait()
    await client.finished()
