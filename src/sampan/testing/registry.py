"""Registries for tests: Debian's docker-registry in three configurations, and one that lies.

    with DockerRegistry(folder, tls=True) as registry:      # or password=True, or neither
        registry.host       "127.0.0.1:41234", chosen by the kernel
        registry.certs_d    a certs.d folder by which our client reaches it
    async with LyingRegistry() as liar:
        liar.replies["GET", "/v2/x/blobs/sha256:…"] = Reply(body=b"wrong")
        liar.requests       what it was asked, headers included

Both listen on the loopback alone and are gone when their block ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["DockerRegistry", "LyingRegistry", "Recorded", "Reply"]

_START_S = 20.0
_LISTENING = re.compile(rb"listening on ([0-9.]+:[0-9]+)")


class DockerRegistry:
    """A docker-registry process with everything it keeps below one folder."""

    username = "ahab"
    password = "white whale"  # noqa: S105

    def __init__(self, folder: Path, *, tls: bool = False, password: bool = False) -> None:
        """Prepare a registry below `folder`, made if missing."""
        self._folder = folder
        self._tls = tls
        self._with_password = password
        self._process: subprocess.Popen[bytes] | None = None
        self.host = ""

    @property
    def data(self) -> Path:
        """Where it stores blobs, to spoil them."""
        return self._folder / "data"

    @property
    def certs_d(self) -> Path:
        """The folder to give to `HostsOptions.folders`."""
        return self._folder / "certs.d"

    @property
    def skopeo(self) -> list[str]:
        """Flags with which skopeo reaches it, for `skopeo inspect`; copy prefixes them."""
        flags = [f"--cert-dir={self._folder}/skopeo" if self._tls else "--tls-verify=false"]
        return flags + [f"--creds={self.username}:{self.password}"] * self._with_password

    def skopeo_as(self, side: str) -> list[str]:
        """Return the flags for `skopeo copy`, whose sides are `src` and `dest`."""
        return [f"--{side}-{flag[2:]}" for flag in self.skopeo]

    def docker_config(self) -> Path:
        """Write a config.json as docker login would, and return it."""
        import base64

        pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        file = self._folder / "config.json"
        file.write_text(json.dumps({"auths": {self.host: {"auth": pair}}}))
        return file

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.data)},
                "delete": {"enabled": True},
                "cache": {"blobdescriptor": "inmemory"},
            },
            "http": {"addr": "127.0.0.1:0", **self._tls_section()},
            **self._auth_section(),
        }
        file = self._folder / "config.yml"
        file.write_text(json.dumps(config))  # JSON is YAML
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath), "OTEL_TRACES_EXPORTER": "none"},
        )
        try:
            self.host = self._wait_for_address()
        except BaseException:
            self._stop()
            raise
        if self._tls:
            folder = self.certs_d / self.host.replace(":", "_").join(["", "_"])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "hosts.toml").write_text(
                f'server = "https://{self.host}"\nca = "{self._folder}/ca.crt"\n'
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert process.stderr is not None
        process.stderr.close()

    def _wait_for_address(self) -> str:
        assert self._process is not None
        assert self._process.stderr is not None
        said = b""
        fd = self._process.stderr.fileno()
        os.set_blocking(fd, False)
        deadline = time.monotonic() + _START_S
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                if not selector.select(left):
                    continue
                chunk = os.read(fd, 1 << 16)
                said += chunk
                if found := _LISTENING.search(said):
                    return found[1].decode()
                if not chunk:
                    break
        raise RuntimeError(f"docker-registry did not start: {said.decode(errors='replace')}")

    def _tls_section(self) -> dict[str, object]:
        if not self._tls:
            return {}
        _make_certificates(self._folder)
        (self._folder / "skopeo").mkdir(exist_ok=True)
        (self._folder / "skopeo/ca.crt").write_bytes((self._folder / "ca.crt").read_bytes())
        return {
            "tls": {
                "certificate": str(self._folder / "server.crt"),
                "key": str(self._folder / "server.key"),
            }
        }

    def _auth_section(self) -> dict[str, object]:
        if not self._with_password:
            return {}
        line = _output("htpasswd", "-nbB", "-C", "4", self.username, self.password)
        (self._folder / "htpasswd").write_text(line)
        return {"auth": {"htpasswd": {"realm": "test", "path": str(self._folder / "htpasswd")}}}


def _make_certificates(folder: Path) -> None:
    """Make an authority (ca.crt) and a certificate for 127.0.0.1 (server.crt, server.key)."""
    if (folder / "server.crt").exists():
        return
    new = ("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    _output(
        *new, "-x509", "-days", "2", "-subj", "/CN=Test CA",
        "-addext", "basicConstraints=critical,CA:TRUE",
        "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.crt",
    )  # fmt: skip
    _output(
        *new, "-subj", "/CN=127.0.0.1",
        "-keyout", f"{folder}/server.key", "-out", f"{folder}/server.csr",
    )  # fmt: skip
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    _output(
        "openssl", "x509", "-req", "-days", "2", "-in", f"{folder}/server.csr",
        "-CA", f"{folder}/ca.crt", "-CAkey", f"{folder}/ca.key", "-CAcreateserial",
        "-extfile", f"{folder}/extensions", "-out", f"{folder}/server.crt",
    )  # fmt: skip


def _output(*argv: str) -> str:
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout


@dataclass(slots=True)
class Recorded:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(slots=True)
class Reply:
    """What to answer, honest or not."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    """Content-Length is the body's unless named here; an empty one leaves it out."""
    body: bytes = b""
    cut_after: int = -1
    """Close the connection after so many bytes of the body."""
    hang: bool = False
    """Send what is due up to `cut_after`, then neither send nor close."""


Handler = Callable[[Recorded], Reply | Awaitable[Reply]]


class LyingRegistry:
    """An HTTP server that answers exactly what a test tells it, in the test's own event loop."""

    def __init__(self) -> None:
        """Make a server that knows nothing: it answers 404."""
        self.replies: dict[tuple[str, str], Reply | list[Reply]] = {}
        """By method and path; of a list, each request takes the first, but the last stays."""
        self.handler: Handler | None = None
        """Asked instead of `replies` when set."""
        self.requests: list[Recorded] = []
        self.host = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.host = f"{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    def asked(self, method: str, path: str) -> list[Recorded]:
        """Return the requests for a path, in order."""
        return [
            r for r in self.requests if r.method == method and r.target.partition("?")[0] == path
        ]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._one(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = b"".join([chunk async for chunk in _body(reader, headers)])
        recorded = Recorded(method, target, headers, body)
        self.requests.append(recorded)
        reply = await self._reply(recorded)
        lines_out = {"Content-Length": str(len(reply.body)), **reply.headers}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines_out.items() if value)
        writer.write(f"HTTP/1.1 {reply.status} X\r\n{text}\r\n".encode("latin-1"))
        sent = reply.body if reply.cut_after < 0 else reply.body[: reply.cut_after]
        if method != "HEAD":
            writer.write(sent)
        await writer.drain()
        if reply.hang:
            await asyncio.Event().wait()
        return reply.cut_after < 0 and bool(lines_out["Content-Length"])

    async def _reply(self, recorded: Recorded) -> Reply:
        if self.handler is not None:
            reply = self.handler(recorded)
            return reply if isinstance(reply, Reply) else await reply
        found = self.replies.get((recorded.method, recorded.target.partition("?")[0]))
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found or Reply(404)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readline()).strip(), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    elif length := int(headers.get("content-length", "0")):
        yield await reader.readexactly(length)
