"""The HTTP client against a server that answers what no honest one would."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sampan.distribution.registry.hosts import Host
from sampan.distribution.registry.proxies import Proxies
from sampan.distribution.registry.transport import Deadlines, Transport, origin_of
from sampan.errors import (
    DeadlineExceeded,
    PermissionDenied,
    ResourceExhausted,
    SampanError,
    Unavailable,
)
from sampan.testing.registry import LyingRegistry, Reply

QUICK = Deadlines(answer_s=0.3, progress_s=0.3)


@pytest.fixture
async def liar() -> AsyncIterator[LyingRegistry]:
    async with LyingRegistry() as server:
        yield server


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport(Proxies({}), QUICK) as opened:
        yield opened


async def get(transport: Transport, server: LyingRegistry, path: str, limit: int = 1000) -> bytes:
    host = Host("http", server.host, dial_timeout_s=0.3, header={"X-Own": ("1",)})
    async with transport.request(
        host, "GET", f"http://{server.host}{path}", authorization="Basic secret"
    ) as response:
        return await response.read(limit)


async def test_headers_go_to_the_own_host(liar: LyingRegistry, transport: Transport) -> None:
    liar.replies["GET", "/a"] = Reply(body=b"hello")
    assert await get(transport, liar, "/a") == b"hello"
    sent = liar.requests[0].headers
    assert (sent["authorization"], sent["x-own"]) == ("Basic secret", "1")
    assert sent["accept-encoding"] == "identity"


async def test_a_redirect_to_another_origin_carries_no_credentials(
    liar: LyingRegistry, transport: Transport
) -> None:
    async with LyingRegistry() as other:
        liar.replies["GET", "/a"] = Reply(307, {"Location": f"http://{other.host}/b?sig=a%2Fb"})
        other.replies["GET", "/b"] = Reply(body=b"there")
        assert await get(transport, liar, "/a") == b"there"
        assert not {"authorization", "x-own"} & other.requests[0].headers.keys()
        assert other.requests[0].target == "/b?sig=a%2Fb"


async def test_a_redirect_to_the_same_origin_keeps_them(
    liar: LyingRegistry, transport: Transport
) -> None:
    liar.replies["GET", "/a"] = Reply(301, {"Location": "/b"})
    liar.replies["GET", "/b"] = Reply(body=b"there")
    assert await get(transport, liar, "/a") == b"there"
    assert liar.requests[1].headers["authorization"] == "Basic secret"


@pytest.mark.parametrize(
    "target", ["http://user:pw@127.0.0.1:1/x", "file:///etc/passwd", "ftp://h/x", "http://[::1/x"]
)
async def test_redirects_that_are_refused(
    liar: LyingRegistry, transport: Transport, target: str
) -> None:
    liar.replies["GET", "/a"] = Reply(302, {"Location": target})
    with pytest.raises(PermissionDenied, match="refused") as caught:
        await get(transport, liar, "/a")
    assert liar.host in str(caught.value)
    assert "pw" not in str(caught.value)


async def test_a_redirect_of_a_write_is_refused(liar: LyingRegistry, transport: Transport) -> None:
    liar.replies["PUT", "/a"] = Reply(307, {"Location": "/b"})
    with pytest.raises(PermissionDenied, match="redirects a PUT"):
        async with transport.request(Host("http", liar.host), "PUT", f"http://{liar.host}/a"):
            pass


async def test_redirects_end(liar: LyingRegistry, transport: Transport) -> None:
    liar.replies["GET", "/a"] = Reply(302, {"Location": "/a"})
    with pytest.raises(PermissionDenied, match="more than 5"):
        await get(transport, liar, "/a")
    assert len(liar.requests) == 6


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"half a body", cut_after=4, hang=True),
        Reply(headers={"Content-Length": "100"}, body=b"", hang=True),
    ],
)
async def test_a_server_that_hangs_is_left(
    liar: LyingRegistry, transport: Transport, reply: Reply
) -> None:
    liar.replies["GET", "/a"] = reply
    with pytest.raises(DeadlineExceeded):
        await get(transport, liar, "/a")


async def test_a_server_that_never_answers_is_left(
    liar: LyingRegistry, transport: Transport
) -> None:
    async def never(_: object) -> Reply:
        await asyncio.Event().wait()
        return Reply()

    liar.handler = never
    with pytest.raises(DeadlineExceeded, match="127"):
        await get(transport, liar, "/a")


async def test_a_body_cut_short_is_an_error(liar: LyingRegistry, transport: Transport) -> None:
    liar.replies["GET", "/a"] = Reply(body=b"half a body", cut_after=4)
    with pytest.raises(Unavailable):
        await get(transport, liar, "/a")


async def test_bodies_are_capped(liar: LyingRegistry, transport: Transport) -> None:
    liar.replies["GET", "/a"] = Reply(body=b"x" * 1001)
    liar.replies["GET", "/b"] = Reply(headers={"Content-Length": ""}, body=b"x" * 1001)
    for path in ("/a", "/b"):
        with pytest.raises(ResourceExhausted, match=r"1000 is the most|more than 1000"):
            await get(transport, liar, path)


async def test_nobody_there(transport: Transport) -> None:
    async with LyingRegistry() as gone:
        pass
    with pytest.raises(Unavailable):
        await get(transport, gone, "/")


async def test_no_http(transport: Transport) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(SampanError):
        async with transport.request(
            Host("http", f"127.0.0.1:{port}"), "GET", f"http://127.0.0.1:{port}/"
        ):
            pass
    server.close()
    await server.wait_closed()


def test_origins() -> None:
    assert origin_of("http://h/x") == origin_of("http://H:80/y")
    assert origin_of("https://h") != origin_of("http://h:443")
