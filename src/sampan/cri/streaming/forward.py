"""Port-forward: one client connection carries any number of TCP connections into a pod.

Over SPDY each TCP connection is a pair of streams with the headers `port` and `requestID`: data
both ways, and an error stream that we write a text to when something failed. Over a WebSocket the
ports are those of the request, channel 2·i carries the data of port i and 2·i+1 its errors, and
both begin with the port's number as two bytes, little endian.

Source: k8s.io/cri-streaming portforward; KEP-4006.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from sampan.cri.streaming import Backend
from sampan.cri.streaming.channels import Channels, WebSocket
from sampan.cri.streaming.remote import Gone, ended, unless_gone
from sampan.cri.streaming.session import Session, Stream
from sampan.cri.streaming.tokens import PortForward
from sampan.cri.streaming.wires import Wire
from sampan.errors import SampanError

__all__ = ["PROTOCOL", "TUNNEL_PROTOCOL", "WEBSOCKET_PROTOCOLS", "over_spdy", "over_websocket"]

log = logging.getLogger(__name__)

PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
WEBSOCKET_PROTOCOLS = (
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "portforward.k8s.io",
)


class _Pairs:
    """The streams of one SPDY connection, two and two."""

    def __init__(self, request: PortForward, backend: Backend, creation_timeout_s: float) -> None:
        self._request = request
        self._backend = backend
        self._timeout_s = creation_timeout_s
        self._waiting: dict[str, tuple[Stream, asyncio.TimerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, stream: Stream) -> bool:
        kind = stream.headers.get("streamtype", "")
        port = _port(stream.headers.get("port", ""))
        if kind not in {"data", "error"} or not port:
            return False
        # Clients before requestID open error and data one after the other: 1 and 3, 5 and 7.
        first = stream.id if kind == "error" else stream.id - 2
        key = stream.headers.get("requestid") or f"#{first}"
        other = self._waiting.pop(key, None)
        loop = asyncio.get_running_loop()
        if other is None:
            timer = loop.call_later(self._timeout_s, self._late, key)
            self._waiting[key] = (stream, timer)
            return True
        first_stream, timer = other
        timer.cancel()
        if first_stream.headers.get("streamtype") == kind:
            self._start(first_stream.reset())
            return False
        data, error = (stream, first_stream) if kind == "data" else (first_stream, stream)
        error.inbox.drop()
        self._start(self._forward(port, data, error))
        return True

    def _start(self, work: object) -> None:
        task = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type, var-annotated]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _late(self, key: str) -> None:
        stream, _ = self._waiting.pop(key)
        log.info("port-forward: the second stream of request %s did not come in time", key)
        self._start(stream.reset())

    async def _forward(self, port: int, data: Stream, error: Stream) -> None:
        cut = asyncio.get_running_loop().create_task(data.cut.wait())
        try:
            work = _forwarded(self._request, self._backend, port, data)
            text = await unless_gone(work, cut)
        except Gone:
            text = ""
            data.discard()
        finally:
            await ended(cut)
        if text:
            with contextlib.suppress(ConnectionError):
                await error.write(text.encode())
        await error.close()
        if text:
            await data.reset()
        else:
            await data.close()
            data.discard()

    async def close(self) -> None:
        for _, timer in self._waiting.values():
            timer.cancel()
        for task in tuple(self._tasks):
            await ended(task)


async def _forwarded(
    request: PortForward, backend: Backend, port: int, stream: Stream | object
) -> str:
    """Forward one connection; return "" or what went wrong."""
    if request.ports and port not in request.ports:
        return f"port {port} is not among those that were asked for: {request.ports}"
    try:
        await backend.port_forward(request.pod_id, port, stream)  # type: ignore[arg-type]
    except (SampanError, OSError) as err:
        text = f"error forwarding port {port} to pod {request.pod_id}: {err}"
        log.info("port-forward: %s", text)
        return text
    except Exception as err:
        log.exception("port-forward failed: pod=%s port=%d", request.pod_id, port)
        return f"error forwarding port {port} to pod {request.pod_id}: {err}"
    return ""


def _port(text: str) -> int:
    """Return the port; 0 for anything that is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return 0
    return number if (number := int(text)) <= 0xFFFF else 0


async def over_spdy(
    wire: Wire, request: PortForward, backend: Backend, creation_timeout_s: float
) -> None:
    """Serve an upgraded connection until the client hangs up."""
    pairs = _Pairs(request, backend, creation_timeout_s)
    session = Session(wire, pairs.accept)
    try:
        await session.run()
    finally:
        await pairs.close()
        await session.goodbye()


async def over_websocket(wire: Wire, protocol: str, request: PortForward, backend: Backend) -> None:
    """Serve an upgraded connection until all ports are done, or the client hangs up."""
    socket = WebSocket(wire)
    count = len(request.ports)
    channels = Channels(socket, 2 * count, range(0, 2 * count, 2), protocol)

    async def forward(index: int, port: int) -> None:
        data, error = channels[2 * index], channels[2 * index + 1]
        head = port.to_bytes(2, "little")
        with contextlib.suppress(ConnectionError):
            await data.write(head)
            await error.write(head)
        text = await _forwarded(request, backend, port, data)
        data.inbox.drop()
        with contextlib.suppress(ConnectionError):
            if text:
                await error.write(text.encode())

    async def all_ports() -> None:
        async with asyncio.TaskGroup() as group:
            for index, port in enumerate(request.ports):
                group.create_task(forward(index, port))

    reading = asyncio.get_running_loop().create_task(channels.run(), name="port-forward")
    try:
        await unless_gone(all_ports(), reading)
    except Gone:
        pass
    finally:
        await ended(reading)
        await socket.close()
