"""The HTTP server: tokens out, upgraded connections in.

    /exec/TOKEN  /attach/TOKEN  /portforward/TOKEN        GET or POST, upgraded to
        SPDY/3.1    X-Stream-Protocol-Version says which protocol is spoken in it
        websocket   Sec-WebSocket-Protocol does

A token that does not exist, or was used, or came to the wrong path, is 404. It is used up by any
request, also by one that cannot be upgraded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Sequence
from http import HTTPStatus

from sampan.cri.streaming import Backend, StreamingConfig, forward, remote
from sampan.cri.streaming.channels import TunnelWire, WebSocket
from sampan.cri.streaming.head import (
    HEAD_MAX_BYTES,
    BadRequest,
    Head,
    parse_head,
    response,
    switching,
)
from sampan.cri.streaming.tokens import Attach, Exec, PortForward, Request, Tokens
from sampan.cri.streaming.websocket import accept_key
from sampan.cri.streaming.wires import SocketWire, Wire
from sampan.errors import FailedPrecondition, InvalidArgument, Unavailable

__all__ = ["StreamingServer"]

log = logging.getLogger(__name__)

_PATHS = {"exec": Exec, "attach": Attach, "portforward": PortForward}
_SPDY = "SPDY/3.1"
_PORTS_MAX = 100


class StreamingServer:
    """Listens, hands out URLs, and serves each of them once."""

    def __init__(self, backend: Backend, config: StreamingConfig = StreamingConfig()) -> None:  # noqa: B008 - immutable
        self._backend = backend
        self._config = config
        self._tokens = Tokens(config.token_ttl_s, config.tokens_max)
        self._server: asyncio.Server | None = None
        self._base = config.base_url.rstrip("/")
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        """What the URLs begin with, once started."""
        return self._base

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen. Twice is harmless.

        Raises:
          Unavailable: The address cannot be listened on.
          FailedPrecondition: The certificate or key cannot be used.
        """
        if self._server is not None:
            return
        config = self._config
        context = await self._tls()
        try:
            self._server = await asyncio.start_server(
                self._connected,
                config.address,
                config.port,
                limit=HEAD_MAX_BYTES,
                ssl=context,
                ssl_handshake_timeout=config.creation_timeout_s if context else None,
            )
        except OSError as err:
            where = f"{config.address}:{config.port}"
            raise Unavailable(f"streaming: cannot listen on {where}: {err}") from err
        if not config.base_url:
            host, port = self._server.sockets[0].getsockname()[:2]
            name = f"[{host}]" if ":" in host else host
            self._base = f"{'https' if context else 'http'}://{name}:{port}"

    async def _tls(self) -> ssl.SSLContext | None:
        config = self._config
        if not config.tls:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if config.cert_file or config.key_file:
                context.load_cert_chain(config.cert_file, config.key_file)
            else:
                from sampan.cri.streaming.certificate import load_self_signed

                load_self_signed(context, config.address)
        except (OSError, ssl.SSLError) as err:
            raise FailedPrecondition(
                f"streaming: certificate {config.cert_file or '(self-signed)'} "
                f"with key {config.key_file or '(new)'}: {err}"
            ) from err
        return context

    async def close(self) -> None:
        """Stop listening, end all connections, and wait for the backend's calls to end."""
        server, self._server = self._server, None
        if server is None:
            return
        self._tokens.clear()
        server.close()
        while self._connections:
            for task in self._connections:
                task.cancel()
            await asyncio.wait(self._connections)
        await server.wait_closed()

    # --- URLs ----------------------------------------------------------------------------

    def exec_url(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        tty: bool = False,
        stdin: bool = False,
        stdout: bool = False,
        stderr: bool = False,
    ) -> str:
        """Return a URL for ExecResponse.

        Raises:
          InvalidArgument: No container, no stream at all, or stderr with a terminal.
          ResourceExhausted: Too many URLs are waiting for their clients.
        """
        _check(container_id, tty, stdin, stdout, stderr)
        request = Exec(container_id, tuple(command), tty, stdin, stdout, stderr)
        return self._url("exec", request)

    def attach_url(
        self,
        container_id: str,
        *,
        tty: bool = False,
        stdin: bool = False,
        stdout: bool = False,
        stderr: bool = False,
    ) -> str:
        """Return a URL for AttachResponse; raises as `exec_url` does."""
        _check(container_id, tty, stdin, stdout, stderr)
        return self._url("attach", Attach(container_id, tty, stdin, stdout, stderr))

    def port_forward_url(self, pod_id: str, ports: Sequence[int] = ()) -> str:
        """Return a URL for PortForwardResponse; without `ports`, the client may name any.

        Raises:
          InvalidArgument: No pod, or a number that is no port.
          ResourceExhausted: Too many URLs are waiting for their clients.
        """
        if not pod_id:
            raise InvalidArgument("missing required pod_sandbox_id")
        if len(ports) > _PORTS_MAX:
            raise InvalidArgument(f"port-forward to {len(ports)} ports; at most {_PORTS_MAX}")
        for port in ports:
            if not 0 < port <= 0xFFFF:
                raise InvalidArgument(f"port-forward to port {port}: must be 1 to 65535")
        return self._url("portforward", PortForward(pod_id, tuple(ports)))

    def _url(self, path: str, request: Request) -> str:
        if not self._base:
            raise FailedPrecondition("streaming: the server has not been started")
        return f"{self._base}/{path}/{self._tokens.add(request)}"

    # --- connections ---------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio calls us in a task
        self._connections.add(task)
        wire = SocketWire(reader, writer, self._config.idle_timeout_s)
        try:
            await self._serve(reader, wire)
            await wire.close()
        except asyncio.CancelledError:
            log.debug("streaming connection ended with the server")
        except ConnectionError as err:
            log.debug("streaming connection ended: %s", err)
        except Exception:
            log.exception("streaming connection failed")
        finally:
            wire.abort()
            self._connections.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, wire: SocketWire) -> None:
        try:
            async with asyncio.timeout(self._config.creation_timeout_s):
                raw = await reader.readuntil(b"\r\n\r\n")
            await self._answer(wire, parse_head(raw))
        except (asyncio.IncompleteReadError, TimeoutError):
            return
        except asyncio.LimitOverrunError:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            await wire.write(response(status, "the head of the request is too long"))
        except BadRequest as err:
            headers = {"Retry-After": "1"} if err.status >= 500 else None
            await wire.write(response(err.status, str(err), headers))

    async def _answer(self, wire: SocketWire, head: Head) -> None:
        if len(self._connections) > self._config.connections_max:
            raise BadRequest("too many connections", HTTPStatus.SERVICE_UNAVAILABLE)
        request = self._request(head)
        if head.upgrades_to("websocket"):
            await self._websocket(wire, head, request)
        elif head.upgrades_to(_SPDY):
            await self._spdy(wire, head, request)
        else:
            raise BadRequest("unable to upgrade: missing upgrade headers in request")

    def _request(self, head: Head) -> Request:
        parts = head.path.rsplit("/", 2)
        if head.method not in {"GET", "POST"}:
            raise BadRequest("method not allowed", HTTPStatus.METHOD_NOT_ALLOWED)
        request = self._tokens.take(parts[-1]) if len(parts) == 3 else None
        if request is None or type(request) is not _PATHS.get(parts[1]):
            raise BadRequest("404 page not found", HTTPStatus.NOT_FOUND)
        return request

    async def _spdy(self, wire: SocketWire, head: Head, request: Request) -> None:
        forwards = isinstance(request, PortForward)
        ours = (forward.PROTOCOL,) if forwards else remote.SPDY_PROTOCOLS
        asked = head.items("x-stream-protocol-version")
        if not asked:
            raise BadRequest("unable to upgrade: X-Stream-Protocol-Version is missing or empty")
        chosen = next((name for name in asked if name in ours), None)
        if chosen is None:
            text = f"unable to negotiate protocol: client supports {asked}, server {list(ours)}"
            accepted = {"X-Accepted-Stream-Protocol-Versions": ",".join(ours)}
            await wire.write(response(HTTPStatus.FORBIDDEN, f"unable to upgrade: {text}", accepted))
            return
        await wire.write(switching(_SPDY, {"X-Stream-Protocol-Version": chosen}))
        await self._streams(wire, chosen, request)

    async def _streams(self, wire: Wire, protocol: str, request: Request) -> None:
        """Speak SPDY."""
        timeout_s = self._config.creation_timeout_s
        if isinstance(request, PortForward):
            await forward.over_spdy(wire, request, self._backend, timeout_s)
        else:
            await remote.over_spdy(wire, protocol, request, self._backend, timeout_s)

    async def _websocket(self, wire: SocketWire, head: Head, request: Request) -> None:
        key = head.headers.get("sec-websocket-key", "")
        if head.method != "GET" or not key or head.headers.get("sec-websocket-version") != "13":
            raise BadRequest("unable to upgrade: not a WebSocket handshake of version 13")
        forwards = isinstance(request, PortForward)
        ours = list(forward.WEBSOCKET_PROTOCOLS if forwards else remote.WEBSOCKET_PROTOCOLS)
        if forwards:
            ours.append(forward.TUNNEL_PROTOCOL)
        asked = head.items("sec-websocket-protocol")
        chosen = next((name for name in asked if name in ours), None)
        if asked and chosen is None:
            raise BadRequest(f"unable to upgrade: client supports {asked}, server {ours}")
        tunnels = chosen == forward.TUNNEL_PROTOCOL
        if isinstance(request, PortForward) and not request.ports and not tunnels:
            raise BadRequest("port-forward over a WebSocket needs ports in its request")
        headers = {"Sec-WebSocket-Accept": accept_key(key)}
        if chosen is not None:
            headers["Sec-WebSocket-Protocol"] = chosen
        await wire.write(switching("websocket", headers))
        if tunnels:
            tunnel = TunnelWire(WebSocket(wire), wire)
            await self._streams(tunnel, forward.PROTOCOL, request)
            with contextlib.suppress(ConnectionError):
                await tunnel.close()
        elif isinstance(request, PortForward):
            await forward.over_websocket(wire, chosen or "", request, self._backend)
        else:
            await remote.over_websocket(wire, chosen or "", request, self._backend)


def _check(container_id: str, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> None:
    if not container_id:
        raise InvalidArgument("missing required container_id")
    if tty and stderr:
        raise InvalidArgument("tty and stderr cannot both be true")
    if not (stdin or stdout or stderr):
        raise InvalidArgument("one of stdin, stdout, or stderr must be set")
