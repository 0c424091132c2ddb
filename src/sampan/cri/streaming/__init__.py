"""Streaming: the HTTP server behind Exec, Attach and PortForward.

The CRI call only answers with a URL. Its client then comes to that URL, upgrades the connection,
and speaks one of two protocols, in which the streams of one process or port travel side by side:

    kubelet, crictl                     StreamingServer                       Backend
      │ ── Exec(id, cmd, tty…) ──▶ CRI ──▶ url = server.exec_url(...)            │
      │ ◀─ http://127.0.0.1:41003/exec/Xy7…  (a token: once, within a minute)    │
      │ ── POST /exec/Xy7… Upgrade: SPDY/3.1 ─▶ │                                │
      │ ── GET  /exec/Xy7… Upgrade: websocket ─▶│ ── exec(id, cmd, stdin, …) ──▶ │
      │ ◀═ stdin stdout stderr resize error ══▶ │ ◀═ read and write ═══════════▶ │
      │ ◀─ error stream: metav1.Status ──────── │ ◀─ exit code ───────────────── │

    server = StreamingServer(backend, StreamingConfig())
    await server.start();  server.exec_url("c1", ["sh"], tty=True, stdin=True, stdout=True)
    await server.close()

The CRI rooms supply the `Backend`. Its three methods run until the process or connection is over,
and are **cancelled when the client has gone**, so an exec ends its process in `finally`, under
`concurrency.shielded`: the client may go in the middle of that, too. Reading and writing wait for
the other side; nothing is buffered without bound. `pumps` moves bytes between
these streams and fifos, pipes, terminals and sockets.

Modules: tokens · head (HTTP/1.1 requests) · spdy (frames, no I/O) · session (SPDY streams) ·
websocket (frames, no I/O) · channels (streams over a WebSocket) · remote (exec and attach) ·
forward (port-forward) · server · certificate · ports (connecting inside a pod) · pumps.

Source: k8s.io/streaming, k8s.io/cri-streaming; SPDY/3.1 draft; RFC 6455; KEP-4006.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from sampan.cri.streaming.ports import forward_port
    from sampan.cri.streaming.pumps import drain, feed
    from sampan.cri.streaming.server import StreamingServer

__all__ = [
    "Backend",
    "Duplex",
    "Reader",
    "Size",
    "StreamingConfig",
    "StreamingServer",
    "Writer",
    "drain",
    "feed",
    "forward_port",
]

CHUNK_BYTES = 32 << 10
"""How much is read at once, and the longest piece that is sent as one frame."""


class StreamingConfig(NamedTuple):
    """`stream_*` and `*_tls_streaming` of the CRI plugin's configuration."""

    address: str = "127.0.0.1"
    """Where to listen, and the host in the URLs when `base_url` is empty."""
    port: int = 0
    """0 lets the kernel choose."""
    idle_timeout_s: float = 4 * 3600
    """A connection on which nothing moves for so long is closed."""
    creation_timeout_s: float = 30
    """How long a client may take to send its request, and then to open its streams."""
    token_ttl_s: float = 60
    tokens_max: int = 1000
    """Tokens handed out and not yet used; more requests are refused."""
    connections_max: int = 4096
    tls: bool = False
    cert_file: str = ""
    """PEM, with `key_file`; empty makes a self-signed certificate at each start."""
    key_file: str = ""
    base_url: str = ""
    """What clients see, where a proxy or NAT stands between; `https://node-1:10010`."""


class Size(NamedTuple):
    """Of a terminal, in characters."""

    width: int
    height: int


class Reader(Protocol):
    """Bytes from the client: stdin."""

    async def read(self, limit: int = CHUNK_BYTES) -> bytes:
        """Return 1 to `limit` bytes as soon as there are any; b"" at the end, ever after.

        A client that vanished looks like the end.
        """
        ...


class Writer(Protocol):
    """Bytes to the client: stdout, stderr."""

    async def write(self, data: bytes) -> None:
        """Send all of `data`; waits while the client does not read.

        Raises:
          ConnectionError: The client has closed this stream or is gone.
        """
        ...

    async def close(self) -> None:
        """Say that no more will come. Twice is harmless, and the server does it at the end."""
        ...


class Duplex(Reader, Writer, Protocol):
    """Both directions; `close` ends only the sending one."""


class Backend(Protocol):
    """What executes the requests. Every SampanError reaches the client as its text."""

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
        """Run a process in a container; return its exit code when all its output is written.

        Streams that nobody asked for are None, and stderr is with a terminal. `resize` never ends
        before the connection does; consume it in a task of your own, and drop that at the end.
        """
        ...

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
        """Join the streams of a container's first process; return when that has ended."""
        ...

    async def port_forward(self, pod_id: str, port: int, stream: Duplex) -> None:
        """Connect `stream` to a TCP port inside a pod; return when both directions have ended.

        `forward_port(netns_path, port, stream)` is that for a pod with a network namespace, and
        `forward_port(None, …)` for one on the host's network.
        """
        ...


_HOMES = {
    "StreamingServer": "server",
    "drain": "pumps",
    "feed": "pumps",
    "forward_port": "ports",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(name)
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
