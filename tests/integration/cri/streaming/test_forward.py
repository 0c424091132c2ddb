"""Port-forward, end to end: into this namespace, into another one, and with half-closed ends."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sampan.cri.streaming.ports import connect_port
from sampan.errors import NotFound, Unavailable
from sampan.linux.netsocket import socket_in
from sampan.testing import requires

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


async def _upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer only when the client has half-closed."""
    writer.write((await reader.read(-1)).upper())
    writer.close()


@asynccontextmanager
async def listening(handler: Handler, sock: socket.socket | None = None) -> AsyncIterator[int]:
    """Serve on the loopback of our namespace, or on a socket that lies in another."""
    if sock is None:
        sock = socket.create_server(("127.0.0.1", 0))
    server = await asyncio.start_server(handler, sock=sock)
    try:
        yield sock.getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def test_half_closed_both_ways(clients: Any) -> None:
    async with listening(_upper) as port:
        client = await clients.spdy(clients.server.port_forward_url("p"), "portforward.k8s.io")
        await client.open("error", port=str(port), requestID="0")
        await client.open("data", port=str(port), requestID="0")
        await client.streams["data"].write(b"shout")
        await client.streams["data"].close()
        assert await client.all_of("data") == b"SHOUT"
        assert await client.all_of("error") == b""


async def test_many_at_once_are_exact(clients: Any) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def one(client: Any, port: int, number: int) -> None:
        headers = {"port": str(port), "requestID": str(number)}
        error = await client.session.open({"streamType": "error", **headers})
        await error.close()
        stream = await client.session.open({"streamType": "data", **headers})
        data = os.urandom(300_000 + number)

        async def send() -> None:
            await stream.write(data)
            await stream.close()

        async with asyncio.TaskGroup() as group:
            got = group.create_task(clients.everything(stream))
            group.create_task(send())
        assert got.result() == data
        assert await clients.everything(error) == b""

    async with listening(echo) as port:
        client = await clients.spdy(clients.server.port_forward_url("p"), "portforward.k8s.io")
        async with asyncio.TaskGroup() as group:
            for number in range(12):
                group.create_task(one(client, port, number))
    assert not client.session.streams


async def test_clients_without_request_ids(clients: Any) -> None:
    async with listening(_upper) as port:
        client = await clients.spdy(clients.server.port_forward_url("p"), "portforward.k8s.io")
        for text in (b"one", b"two"):
            await client.open("error", "data", port=str(port))
            await client.streams["data"].write(text)
            await client.streams["data"].close()
            assert await client.all_of("data") == text.upper()


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def test_nobody_listens(clients: Any) -> None:
    port = _closed_port()
    client = await clients.spdy(clients.server.port_forward_url("p"), "portforward.k8s.io")
    await client.open("error", "data", port=str(port), requestID="0")
    text = await client.all_of("error")
    assert f"error forwarding port {port} to pod p".encode() in text
    assert b"refused" in text
    assert await client.all_of("data") == b""
    assert client.streams["data"].was_reset


async def test_a_port_that_was_not_asked_for(clients: Any) -> None:
    client = await clients.spdy(clients.server.port_forward_url("p", [80]), "portforward.k8s.io")
    await client.open("error", "data", port="22", requestID="0")
    assert b"port 22 is not among" in await client.all_of("error")


@pytest.mark.parametrize(
    "headers",
    [
        {"streamType": "data"},
        {"streamType": "data", "port": "0"},
        {"streamType": "data", "port": "65536"},
        {"streamType": "data", "port": "+80"},
        {"streamType": "other", "port": "80"},
        {"port": "80"},
    ],
)
async def test_streams_that_make_no_sense_are_reset(clients: Any, headers: Any) -> None:
    client = await clients.spdy(clients.server.port_forward_url("p"), "portforward.k8s.io")
    with pytest.raises(ConnectionRefusedError):
        await client.session.open(headers)
    await client.session.ping()


async def test_a_reset_stream_ends_its_connection(clients: Any) -> None:
    closed = asyncio.Event()

    async def wait_for_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        await asyncio.sleep(0)
        closed.set()
        writer.close()

    async with listening(wait_for_end) as port:
        client = await clients.spdy(clients.server.port_forward_url("p"), "portforward.k8s.io")
        await client.open("error", "data", port=str(port), requestID="0")
        await client.streams["data"].reset()
        await closed.wait()
        await clients.backend.cancelled.wait()


async def test_over_websocket(clients: Any) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got " + await reader.readexactly(4))
        writer.close()

    dead = _closed_port()
    async with listening(greet) as port:
        url = clients.server.port_forward_url("p", [port, dead])
        client = await clients.websocket(url, "v4.channel.k8s.io")
        await client.send(0, b"ping")
        await client.until(lambda got: b"got ping" in got.get(0, b""))
        await client.until(lambda got: b"refused" in got.get(3, b""))
        assert client.got[0] == port.to_bytes(2, "little") + b"got ping"
        assert client.got[1] == port.to_bytes(2, "little")
        assert client.got[2] == dead.to_bytes(2, "little")


async def test_spdy_tunnelled_through_a_websocket(clients: Any) -> None:
    async with listening(_upper) as port:
        client = await clients.tunnel(clients.server.port_forward_url("p"))
        await client.open("error", "data", port=str(port), requestID="0")
        data = os.urandom(1 << 20).hex().encode()
        await client.streams["data"].write(data)
        await client.streams["data"].close()
        assert await client.all_of("data") == data.upper()


@requires("root")
async def test_into_another_namespace(clients: Any, tmp_path: Path) -> None:
    with namespace(tmp_path / "netns") as path:
        clients.backend.netns = str(path)
        inside = socket_in(path, socket.AF_INET, socket.SOCK_STREAM)
        inside.bind(("127.0.0.1", 0))
        async with listening(_upper, inside) as port:
            # The same port is not open out here.
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            client = await clients.spdy(clients.server.port_forward_url("p"), "portforward.k8s.io")
            await client.open("error", "data", port=str(port), requestID="0")
            await client.streams["data"].write(b"inside")
            await client.streams["data"].close()
            assert await client.all_of("data") == b"INSIDE"
        inside6 = socket_in(path, socket.AF_INET6, socket.SOCK_STREAM)
        inside6.bind(("::1", 0))
        async with listening(_upper, inside6) as port:
            with await connect_port(path, port) as sock:
                assert sock.family == socket.AF_INET6
        with pytest.raises(Unavailable, match="refused"):
            await connect_port(path, port)
    with pytest.raises(NotFound):
        await connect_port(path / "no", 80)


@contextmanager
def namespace(path: Path) -> Iterator[Path]:
    """A network namespace with its loopback up, pinned at `path`."""
    path.touch()
    pin = ["unshare", f"--net={path}", "ip", "link", "set", "lo", "up"]
    subprocess.run(pin, check=True, timeout=20)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True, timeout=20)
        path.unlink()
