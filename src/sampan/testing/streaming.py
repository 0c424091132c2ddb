"""Streaming for tests: a backend of real processes, a server with it, and clients in Python.

`serving()` yields `Clients`: `spdy`, `websocket` and `tunnel` connect to URLs of its `server`,
whose `backend` runs programs of this host as if they were in containers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import os
import pty
import ssl
import struct
import termios
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from sampan.concurrency import shielded
from sampan.cri.streaming import (
    Duplex,
    Reader,
    Size,
    StreamingConfig,
    StreamingServer,
    Writer,
    drain,
    feed,
    forward_port,
)
from sampan.cri.streaming.channels import TunnelWire, WebSocket
from sampan.cri.streaming.session import Session, Stream
from sampan.cri.streaming.wires import SocketWire
from sampan.errors import NotFound

__all__ = [
    "Clients",
    "Processes",
    "SpdyClient",
    "Upgraded",
    "WebSocketClient",
    "serving",
    "until",
]


async def until(true: Callable[[], object]) -> None:
    """Let the event loop run on until `true()`; the test's own timeout bounds it."""
    while not true():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0)


class Processes:
    """A backend whose containers are all this host. Counts what it has running."""

    def __init__(self) -> None:
        self.running = 0
        self.cancelled = asyncio.Event()
        self.sizes: list[Size] = []
        self.sized = asyncio.Event()
        self.netns: str | None = None

    async def exec(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        tty: bool,
        stdin: Reader | None,
        stdout: Writer | None,
        stderr: Writer | None,
        resize: AsyncIterator[Size],
    ) -> int:
        if container_id == "gone":
            raise NotFound("container gone")
        self.running += 1
        try:
            if tty:
                return await self._terminal(command, stdin, stdout, resize)
            return await self._pipes(command, stdin, stdout, stderr)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.running -= 1

    async def attach(
        self,
        container_id: str,
        *,
        tty: bool,
        stdin: Reader | None,
        stdout: Writer | None,
        stderr: Writer | None,
        resize: AsyncIterator[Size],
    ) -> None:
        await self.exec(
            container_id,
            ["cat"],
            tty=tty,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            resize=resize,
        )

    async def port_forward(self, pod_id: str, port: int, stream: Duplex) -> None:
        self.running += 1
        try:
            await forward_port(self.netns, port, stream)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.running -= 1

    async def _pipes(
        self,
        command: Sequence[str],
        stdin: Reader | None,
        stdout: Writer | None,
        stderr: Writer | None,
    ) -> int:
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        ours = [pipes[0][1], pipes[1][0], pipes[2][0]]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        for fd in ours:
            os.set_blocking(fd, False)
        try:
            process = await _spawn(command, *theirs)
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)

        async def into() -> None:
            if stdin is not None:
                await feed(stdin, ours[0])
            os.close(ours[0])
            ours[0] = -1

        loop = asyncio.get_running_loop()
        feeding = loop.create_task(into())
        try:
            async with asyncio.TaskGroup() as group:
                if stdout is not None:
                    group.create_task(drain(ours[1], stdout))
                if stderr is not None:
                    group.create_task(drain(ours[2], stderr))
            return await process.wait()
        finally:
            try:
                # The client may vanish in the middle of this.
                await shielded(10, _end(process, feeding))
            finally:
                for fd in ours:
                    if fd >= 0:
                        os.close(fd)

    async def _terminal(
        self,
        command: Sequence[str],
        stdin: Reader | None,
        stdout: Writer | None,
        resize: AsyncIterator[Size],
    ) -> int:
        ours, theirs = pty.openpty()
        os.set_blocking(ours, False)
        try:
            process = await _spawn(command, theirs, theirs, theirs, session=True)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)

        async def follow() -> None:
            async for size in resize:
                self.sizes.append(size)
                packed = struct.pack("HHHH", size.height, size.width, 0, 0)
                fcntl.ioctl(ours, termios.TIOCSWINSZ, packed)
                self.sized.set()

        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(follow())]
        if stdin is not None:
            tasks.append(loop.create_task(feed(stdin, ours)))
        try:
            if stdout is not None:
                await drain(ours, stdout)
            return await process.wait()
        finally:
            try:
                await shielded(10, _end(process, *tasks))
            finally:
                os.close(ours)


async def _end(process: asyncio.subprocess.Process, *tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def _spawn(
    command: Sequence[str], stdin: int, stdout: int, stderr: int, *, session: bool = False
) -> asyncio.subprocess.Process:
    """Start a process; cancelled meanwhile, it has ended again, which asyncio does not promise."""
    starting = asyncio.get_running_loop().create_task(
        asyncio.create_subprocess_exec(
            *command, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=session
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        process = await starting
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise


class Upgraded:
    """A client's connection after its 101."""

    def __init__(self, wire: SocketWire, head: bytes) -> None:
        self.wire = wire
        self.status = int(head.split(b" ", 2)[1])
        self.headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (
                line.partition(":") for line in head.decode().split("\r\n")[1:] if line
            )
        }


async def request(
    url: str, headers: dict[str, str], method: str = "POST", context: ssl.SSLContext | None = None
) -> Upgraded:
    """Send a request; return the connection with the answer's head read."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
    lines = [f"{method} {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    head = await reader.readuntil(b"\r\n\r\n")
    return Upgraded(SocketWire(reader, writer, 60), head)


async def upgrade_spdy(url: str, protocol: str, context: ssl.SSLContext | None = None) -> Upgraded:
    """Ask for SPDY."""
    headers = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
    return await request(url, {**headers, "X-Stream-Protocol-Version": protocol}, context=context)


async def upgrade_websocket(url: str, protocol: str = "") -> Upgraded:
    """Ask for a WebSocket."""
    headers = {
        "Connection": "keep-alive, Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
    if protocol:
        headers["Sec-WebSocket-Protocol"] = protocol
    return await request(url, headers, method="GET")


class SpdyClient:
    """What kubelet's client does, in Python: a stream for each name, and the result."""

    def __init__(self, upgraded: Upgraded, *, wire: object = None) -> None:
        self.upgraded = upgraded
        self.wire = wire or upgraded.wire
        self.session = Session(self.wire, server=False)  # type: ignore[arg-type]
        self.streams: dict[str, Stream] = {}
        self.reading = asyncio.get_running_loop().create_task(self.session.run())

    async def open(self, *names: str, **headers: str) -> None:
        for name in names:
            self.streams[name] = await self.session.open({"streamType": name, **headers})

    async def all_of(self, name: str) -> bytes:
        return await everything(self.streams[name])

    async def close(self) -> None:
        self.reading.cancel()
        await asyncio.wait((self.reading,))
        self.upgraded.wire.abort()


async def everything(stream: Reader) -> bytes:
    """Read to the end."""
    pieces = []
    while piece := await stream.read():
        pieces.append(piece)
    return b"".join(pieces)


class WebSocketClient:
    """Sorts messages by channel; `finished` is set when the server has closed."""

    def __init__(self, upgraded: Upgraded, *, text: bool = False) -> None:
        self.upgraded = upgraded
        self.socket = WebSocket(upgraded.wire, server=False)
        self.text = text
        self.got: dict[int, bytes] = {}
        self.changed = asyncio.Event()
        self.reading = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        message = b""
        while (piece := await self.socket.receive()) is not None:
            message += piece.data
            if piece.last:
                number = message[0] - 48 if self.text else message[0]
                data = base64.b64decode(message[1:]) if self.text else message[1:]
                self.got[number] = self.got.get(number, b"") + data
                message = b""
                self.changed.set()

    async def send(self, number: int, data: bytes) -> None:
        if self.text:
            await self.socket.send(bytes((48 + number,)) + base64.b64encode(data), 1)
        else:
            await self.socket.send(bytes((number,)) + data)

    async def until(self, true: Callable[[dict[int, bytes]], object]) -> None:
        while not true(self.got):
            self.changed.clear()
            await self.changed.wait()

    async def finished(self) -> None:
        await self.reading

    async def close(self) -> None:
        self.reading.cancel()
        await asyncio.wait((self.reading,))
        self.upgraded.wire.abort()


class Clients:
    """Everything a test needs, in one place; closed by the fixture."""

    def __init__(self) -> None:
        self.backend = Processes()
        self.server = StreamingServer(self.backend)
        self._opened: list[SpdyClient | WebSocketClient | StreamingServer] = []

    async def serve(self, config: StreamingConfig) -> StreamingServer:
        """Start another server with the same backend."""
        server = StreamingServer(self.backend, config)
        self._opened.append(server)
        await server.start()
        return server

    async def spdy(
        self, url: str, protocol: str = "v4.channel.k8s.io", context: ssl.SSLContext | None = None
    ) -> SpdyClient:
        upgraded = await upgrade_spdy(url, protocol, context)
        client = SpdyClient(upgraded)
        self._opened.append(client)
        assert (upgraded.status, upgraded.headers["x-stream-protocol-version"]) == (101, protocol)
        return client

    async def tunnel(self, url: str) -> SpdyClient:
        upgraded = await upgrade_websocket(url, "SPDY/3.1+portforward.k8s.io")
        socket = WebSocket(upgraded.wire, server=False)
        client = SpdyClient(upgraded, wire=TunnelWire(socket, upgraded.wire))
        self._opened.append(client)
        assert upgraded.status == 101
        return client

    async def websocket(self, url: str, protocol: str = "v5.channel.k8s.io") -> WebSocketClient:
        upgraded = await upgrade_websocket(url, protocol)
        client = WebSocketClient(upgraded, text="base64" in protocol)
        self._opened.append(client)
        assert upgraded.status == 101
        assert upgraded.headers.get("sec-websocket-protocol", "") == protocol
        return client

    def forget(self, client: SpdyClient | WebSocketClient) -> None:
        """Keep no trace of a client that was closed."""
        self._opened.remove(client)

    request: Callable[..., Awaitable[Upgraded]] = staticmethod(request)
    everything: Callable[[Reader], Awaitable[bytes]] = staticmethod(everything)

    async def close(self) -> None:
        for one in reversed(self._opened):
            await one.close()
        await self.server.close()
        assert self.backend.running == 0


@asynccontextmanager
async def serving(timeout_s: float = 40) -> AsyncIterator[Clients]:
    """Yield clients of a server that listens; everything has ended afterwards."""
    made = Clients()
    await made.server.start()
    async with asyncio.timeout(timeout_s):
        yield made
    await made.close()
