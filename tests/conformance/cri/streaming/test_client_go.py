"""Kubernetes' own clients against our server: k8s.io/client-go v0.36, over each transport."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from sampan.cri.streaming import Size
from sampan.testing import requires
from sampan.testing.streaming import Clients

SOURCE = Path(__file__).parent / "client_go"
TRANSPORTS = ["spdy", "websocket", "v4.channel.k8s.io"]

pytestmark = requires("go")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client") / "src"
    shutil.copytree(SOURCE, folder)
    built = subprocess.run(
        ["go", "build", "-p", "1", "-o", "client", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if built.returncode != 0:
        pytest.skip(f"client-go cannot be had: {built.stderr[-300:]}")
    return folder / "client"


async def run(
    program: Path, transport: str, flags: str, url: str, stdin: bytes = b""
) -> tuple[int, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        program, "exec", transport, flags, url, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        out, err = await process.communicate(stdin)
        code = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return code, out, err


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_streams_and_exit_code(clients: Clients, program: Path, transport: str) -> None:
    script = "head -c 5; echo oops >&2; exit 17"
    url = clients.server.exec_url("c", ["sh", "-c", script], stdin=True, stdout=True, stderr=True)
    assert await run(program, transport, "ie", url, b"hello") == (17, b"hello", b"oops\n")


@pytest.mark.parametrize("transport", ["spdy", "websocket"])
async def test_half_closed_stdin(clients: Clients, program: Path, transport: str) -> None:
    data = os.urandom(5_000_003)
    url = clients.server.exec_url("c", ["cat"], stdin=True, stdout=True)
    code, out, err = await run(program, transport, "i", url, data)
    assert (code, out == data, err) == (0, True, b"")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_terminal_size(clients: Clients, program: Path, transport: str) -> None:
    script = "until stty size | grep '^37 121'; do sleep 0.01; done"
    url = clients.server.exec_url("c", ["sh", "-c", script], tty=True, stdin=True, stdout=True)
    code, out, _ = await run(program, transport, "it", url)
    assert (code, b"37 121" in out) == (0, True)
    assert Size(121, 37) in clients.backend.sizes


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_failure_of_the_runtime(clients: Clients, program: Path, transport: str) -> None:
    url = clients.server.exec_url("gone", ["true"], stdout=True)
    code, _, err = await run(program, transport, "", url)
    assert (code, b"container gone" in err) == (125, True)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_short_outputs_never_lose_their_end(
    clients: Clients, program: Path, transport: str
) -> None:
    """The answer is complete before the connection goes, whatever the client still sends."""
    for number in range(8):
        url = clients.server.exec_url(
            "c", ["sh", "-c", f"echo {number}; exit {number}"], stdin=True, stdout=True
        )
        code, out, _ = await run(program, transport, "i", url, bytes(100_000))
        assert (code, out) == (number, b"%d\n" % number)


@pytest.mark.parametrize("transport", ["spdy", "tunnel"])
async def test_port_forward(clients: Clients, program: Path, transport: str) -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read(-1)).upper())
        writer.close()

    server = await asyncio.start_server(upper, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = clients.server.port_forward_url("p")
    process = await asyncio.create_subprocess_exec(
        program, "forward", transport, url, str(port), stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    assert process.stdin
    assert process.stdout
    try:
        local = int(await process.stdout.readline())

        async def one(data: bytes) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", local)
            writer.write(data)
            writer.write_eof()
            assert await reader.read(-1) == data.upper()
            writer.close()
            await writer.wait_closed()

        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(one(b"%d forwarded " % number * 20_000))
        process.stdin.close()
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        server.close()
        await server.wait_closed()
