"""The HTTP face: tokens, refusals, negotiation, timeouts, TLS, and its end."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

import pytest

from sampan.cri.streaming import StreamingConfig, StreamingServer
from sampan.cri.streaming.certificate import self_signed
from sampan.errors import (
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from sampan.testing.streaming import until

SPDY = {
    "Connection": "Upgrade",
    "Upgrade": "SPDY/3.1",
    "X-Stream-Protocol-Version": "v4.channel.k8s.io",
}
WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


async def status(clients: Any, url: str, headers: dict[str, str], method: str = "POST") -> int:
    answer = await clients.request(url, headers, method)
    answer.wire.abort()
    return int(answer.status)


async def test_a_token_works_once_and_for_its_path_only(clients: Any) -> None:
    url = clients.server.exec_url("c", ["true"], stdout=True)
    assert urlsplit(url).hostname == "127.0.0.1"
    client = await clients.spdy(url)
    await client.open("error", "stdout")
    await client.all_of("error")
    assert await status(clients, url, SPDY) == 404
    url = clients.server.exec_url("c", ["true"], stdout=True)
    assert await status(clients, url.replace("/exec/", "/attach/"), SPDY) == 404
    assert await status(clients, url, SPDY) == 404  # that attempt has used it up
    assert await status(clients, clients.server.base_url + "/exec/", SPDY) == 404
    assert await status(clients, clients.server.base_url + "/", SPDY) == 404


@pytest.mark.parametrize(
    ("headers", "method", "expected"),
    [
        ({}, "POST", 400),
        (SPDY, "DELETE", 405),
        ({**SPDY, "X-Stream-Protocol-Version": ""}, "POST", 400),
        ({**SPDY, "X-Stream-Protocol-Version": "v9.channel.k8s.io"}, "POST", 403),
        ({**SPDY, "Connection": "close"}, "POST", 400),
        ({**WEBSOCKET, "Sec-WebSocket-Version": "8"}, "GET", 400),
        ({**WEBSOCKET, "Sec-WebSocket-Key": ""}, "GET", 400),
        ({**WEBSOCKET, "Sec-WebSocket-Protocol": "v9.channel.k8s.io"}, "GET", 400),
        (WEBSOCKET, "POST", 400),
        ({"X": "y" * 70_000}, "POST", 431),
        ({"Bad Name": "x", " ": ""}, "POST", 400),
    ],
)
async def test_requests_that_cannot_be_upgraded(
    clients: Any, headers: dict[str, str], method: str, expected: int
) -> None:
    url = clients.server.exec_url("c", ["true"], stdout=True)
    assert await status(clients, url, headers, method) == expected


async def test_the_best_common_protocol_is_the_clients_first(clients: Any) -> None:
    url = clients.server.exec_url("c", ["true"], stdout=True)
    offered = "v9.channel.k8s.io, v2.channel.k8s.io,v4.channel.k8s.io"
    answer = await clients.request(url, {**SPDY, "X-Stream-Protocol-Version": offered})
    assert answer.headers["x-stream-protocol-version"] == "v2.channel.k8s.io"
    answer.wire.abort()
    url = clients.server.exec_url("c", ["true"], stdout=True)
    refused = {**SPDY, "X-Stream-Protocol-Version": "v9"}
    answer = await clients.request(url, refused)
    assert "v4.channel.k8s.io" in answer.headers["x-accepted-stream-protocol-versions"]
    answer.wire.abort()


async def test_port_forward_over_channels_needs_ports(clients: Any) -> None:
    url = clients.server.port_forward_url("p")
    assert await status(clients, url, WEBSOCKET, "GET") == 400


def test_urls_for_impossible_requests() -> None:
    server = StreamingServer(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="container_id"):
        server.exec_url("", ["sh"], stdout=True)
    with pytest.raises(InvalidArgument, match="one of stdin, stdout, or stderr"):
        server.exec_url("c", ["sh"])
    with pytest.raises(InvalidArgument, match="tty and stderr"):
        server.attach_url("c", tty=True, stderr=True)
    with pytest.raises(InvalidArgument, match="pod_sandbox_id"):
        server.port_forward_url("")
    with pytest.raises(InvalidArgument, match="65536"):
        server.port_forward_url("p", [65536])
    with pytest.raises(FailedPrecondition, match="not been started"):
        server.exec_url("c", ["sh"], stdout=True)


async def test_tokens_are_bounded(clients: Any) -> None:
    server = await clients.serve(StreamingConfig(tokens_max=2))
    server.exec_url("c", ["sh"], stdout=True)
    server.port_forward_url("p")
    with pytest.raises(ResourceExhausted, match="2 requests"):
        server.attach_url("c", stdout=True)


async def test_an_idle_connection_is_closed(clients: Any) -> None:
    server = await clients.serve(StreamingConfig(idle_timeout_s=1.0))
    client = await clients.spdy(server.exec_url("c", ["sleep", "1000"], stdout=True))
    await client.open("error", "stdout")
    assert await client.all_of("stdout") == b""
    await client.reading
    await clients.backend.cancelled.wait()


async def test_streams_that_never_come(clients: Any) -> None:
    server = await clients.serve(StreamingConfig(creation_timeout_s=1.0))
    client = await clients.spdy(server.exec_url("c", ["true"], stdout=True))
    await client.open("stdout")
    await client.reading
    assert clients.backend.running == 0


async def test_a_client_that_says_nothing_is_dropped(clients: Any) -> None:
    server = await clients.serve(StreamingConfig(creation_timeout_s=0.05))
    parts = urlsplit(server.base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_closing_ends_the_backends_calls(clients: Any) -> None:
    server = await clients.serve(StreamingConfig())
    client = await clients.spdy(server.exec_url("c", ["sleep", "1000"], stdout=True))
    await client.open("error", "stdout")
    await until(lambda: clients.backend.running)
    url = server.exec_url("c", ["true"], stdout=True)
    await server.close()
    assert clients.backend.cancelled.is_set()
    assert clients.backend.running == 0
    await client.reading
    with pytest.raises(ConnectionRefusedError):
        await clients.request(url, SPDY)


async def test_connections_are_bounded(clients: Any) -> None:
    server = await clients.serve(StreamingConfig(connections_max=1))
    parts = urlsplit(server.base_url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    url = server.exec_url("c", ["true"], stdout=True)
    assert await status(clients, url, SPDY) == 503
    writer.close()
    await writer.wait_closed()


async def test_tls_with_a_certificate(clients: Any, tmp_path: Any) -> None:
    pem = tmp_path / "both.pem"
    pem.write_bytes(self_signed(["127.0.0.1"]))
    config = StreamingConfig(tls=True, cert_file=str(pem), key_file=str(pem))
    server = await clients.serve(config)
    assert server.base_url.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cadata=pem.read_text().split("-----BEGIN EC")[0])
    url = server.exec_url("c", ["cat"], stdin=True, stdout=True)
    client = await clients.spdy(url, context=context)
    await client.open("error", "stdin", "stdout")
    data = os.urandom(300_000)
    await client.streams["stdin"].write(data)
    await client.streams["stdin"].close()
    assert await client.all_of("stdout") == data


async def test_tls_self_signed(clients: Any) -> None:
    server = await clients.serve(StreamingConfig(tls=True))
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = await clients.spdy(server.exec_url("c", ["true"], stdout=True), context=context)
    await client.open("error", "stdout")
    assert b"Success" in await client.all_of("error")


async def test_what_cannot_be_started(tmp_path: Any) -> None:
    missing = str(tmp_path / "no.pem")
    config = StreamingConfig(tls=True, cert_file=missing, key_file=missing)
    with pytest.raises(FailedPrecondition, match=r"no\.pem"):
        await StreamingServer(None, config).start()  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = StreamingConfig(port=taken.getsockname()[1])
        with pytest.raises(Unavailable, match="cannot listen"):
            await StreamingServer(None, config).start()  # type: ignore[arg-type]


async def test_base_url_is_what_clients_see(clients: Any) -> None:
    server = await clients.serve(StreamingConfig(base_url="https://node-1:10010/"))
    assert server.attach_url("c", stdout=True).startswith("https://node-1:10010/attach/")
