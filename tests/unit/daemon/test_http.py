"""The small HTTP server: what it answers, and that it cannot be kept busy."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from sampan.daemon.http import Answer, serving_http, split_address
from sampan.errors import FailedPrecondition, InvalidArgument


async def hello() -> Answer:
    return Answer(b"hello\n")


async def broken() -> Answer:
    raise RuntimeError("no")


ROUTES = {"/hello": hello, "/broken": broken}


async def ask(path: Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(request)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", b"200", b"hello\n"),
        (b"GET /hello?q=1 HTTP/1.0\r\n\r\n", b"200", b"hello\n"),
        (b"HEAD /hello HTTP/1.1\r\n\r\n", b"200", b""),
        (b"POST /hello HTTP/1.1\r\n\r\n", b"405", b"only GET\n"),
        (b"GET /none HTTP/1.1\r\n\r\n", b"404", b"not here; try\n/broken\n/hello\n"),
        (b"GET /broken HTTP/1.1\r\n\r\n", b"500", b"see the log\n"),
        (b"nonsense\r\n\r\n", b"400", b"not a request\n"),
        (b"GET /hello", b"400", b"not a request\n"),
        (b"GET /hello HTTP/1.1\r\n" + b"X: y\r\n" * 9000, b"400", b"not a request\n"),
    ],
)
async def test_answers(short_path: Path, request_: bytes, status: bytes, body: bytes) -> None:
    path = short_path / "h.sock"
    async with serving_http(str(path), ROUTES):
        head, _, found = (await ask(path, request_)).partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == status
    assert found == body


async def test_the_socket_is_private_and_goes(short_path: Path) -> None:
    path = short_path / "h.sock"
    for _ in range(2):
        async with serving_http(f"unix://{path}", ROUTES):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


async def test_tcp_and_a_port_in_use(unused_port: int) -> None:
    async with serving_http(f"127.0.0.1:{unused_port}", ROUTES):
        reader, writer = await asyncio.open_connection("127.0.0.1", unused_port)
        writer.write(b"GET /hello HTTP/1.1\r\n\r\n")
        assert (await reader.read()).endswith(b"hello\n")
        writer.close()
        await writer.wait_closed()
        with pytest.raises(FailedPrecondition, match="cannot serve"):
            async with serving_http(f"127.0.0.1:{unused_port}", ROUTES):
                pass


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1338", ("", "127.0.0.1", 1338)),
        ("[::1]:80", ("", "::1", 80)),
        (":80", ("", "", 80)),
        ("/run/x.sock", ("/run/x.sock", "", 0)),
        ("unix:///run/x.sock", ("/run/x.sock", "", 0)),
        ("tcp://localhost:9", ("", "localhost", 9)),
    ],
)
def test_addresses(address: str, expected: tuple[str, str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize("address", ["localhost", "x:", "x:-1", "x:99999", "x:٣"])
def test_wrong_addresses(address: str) -> None:
    with pytest.raises(InvalidArgument, match="neither"):
        split_address(address)
