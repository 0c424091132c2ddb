"""Exec and attach, once the streams are there: calls the backend, and says how it ended.

The error stream carries the outcome: from v4 on a metav1.Status as JSON, before that a text, and
nothing for success.

Source: k8s.io/cri-streaming remotecommand; metav1.Status.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import Any, NamedTuple, TypeVar

from sampan.cri.streaming import Backend, Reader, Size, Writer
from sampan.cri.streaming.channels import Channels, WebSocket
from sampan.cri.streaming.session import Session, Stream
from sampan.cri.streaming.tokens import Attach, Exec
from sampan.cri.streaming.wires import Wire
from sampan.errors import SampanError

__all__ = [
    "SPDY_PROTOCOLS",
    "WEBSOCKET_PROTOCOLS",
    "Gone",
    "Sizes",
    "over_spdy",
    "over_websocket",
    "unless_gone",
]

log = logging.getLogger(__name__)

T = TypeVar("T")

SPDY_PROTOCOLS = tuple(f"{version}channel.k8s.io" for version in ("v4.", "v3.", "v2.", ""))
"""X-Stream-Protocol-Version, the best first."""
WEBSOCKET_PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)
"""Sec-WebSocket-Protocol; none at all is allowed, too, and means channel.k8s.io."""

_SIZE_MAX = 0xFFFF
_SIZES_TEXT_MAX = 64 << 10


class Gone(Exception):
    """The client went away before the work was done."""


class _Streams(NamedTuple):
    stdin: Reader | None
    stdout: Writer | None
    stderr: Writer | None
    error: Writer
    sizes: Sizes
    json: bool


class Sizes:
    """Sizes of the client's terminal as they come; only the newest counts."""

    def __init__(self, reader: Reader | None) -> None:
        self._reader = reader
        self._newest: Size | None = None
        self._changed = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[Size]:
        return self

    async def __anext__(self) -> Size:
        while self._newest is None:
            self._changed.clear()
            await self._changed.wait()
        newest, self._newest = self._newest, None
        return newest

    async def run(self) -> None:
        """Read JSON objects until the stream ends, or does not make sense any more."""
        text = ""
        decoder = json.JSONDecoder()
        while self._reader is not None and (data := await self._reader.read()):
            text = (text + data.decode("utf-8", "replace")).lstrip()
            while text:
                try:
                    value, end = decoder.raw_decode(text)
                    size = _size(value)
                except (json.JSONDecodeError, RecursionError):
                    if len(text) < _SIZES_TEXT_MAX:
                        break  # the rest is still to come
                    return await self._ignore()
                except ValueError:
                    return await self._ignore()
                self._newest = size
                self._changed.set()
                text = text[end:].lstrip()
        return None

    async def _ignore(self) -> None:
        log.info("the client's terminal sizes make no sense and are ignored from now on")
        while self._reader is not None and await self._reader.read():
            pass


def _size(value: Any) -> Size:
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one kind of error for all that is wrong
    fields = {str(key).lower(): number for key, number in value.items()}
    width, height = fields.get("width", 0), fields.get("height", 0)
    for number in (width, height):
        if type(number) is not int or not 0 <= number <= _SIZE_MAX:
            raise ValueError("not a size")
    return Size(width, height)


async def over_spdy(
    wire: Wire, protocol: str, request: Exec | Attach, backend: Backend, creation_timeout_s: float
) -> None:
    """Serve a request over an upgraded connection."""
    version = SPDY_PROTOCOLS.index(protocol)
    with_sizes = request.tty and version <= 1
    wanted = {"error"}
    wanted |= {name for name in ("stdin", "stdout", "stderr") if getattr(request, name)}
    if with_sizes:
        wanted.add("resize")
    streams: dict[str, Stream] = {}
    ready = asyncio.Event()

    def accept(stream: Stream) -> bool:
        kind = stream.headers.get("streamtype", "")
        if kind not in {"error", "stdin", "stdout", "stderr", "resize"} or kind in streams:
            return False
        streams[kind] = stream
        if kind not in wanted or kind not in {"stdin", "resize"}:
            stream.inbox.drop()
        if wanted <= streams.keys():
            ready.set()
        return True

    session = Session(wire, accept)
    reading = asyncio.get_running_loop().create_task(session.run(), name="streaming spdy")
    try:
        async with asyncio.timeout(creation_timeout_s):
            await unless_gone(ready.wait(), reading)
        await _serve(
            request,
            backend,
            _Streams(
                stdin=streams["stdin"] if request.stdin else None,
                stdout=streams["stdout"] if request.stdout else None,
                stderr=streams["stderr"] if request.stderr else None,
                error=streams["error"],
                sizes=Sizes(streams["resize"] if with_sizes else None),
                json=version == 0,
            ),
            reading,
        )
    except TimeoutError:
        log.info("streaming connection ended: the client did not open its streams in time")
    except Gone:
        pass
    finally:
        await session.goodbye()
        await ended(reading)


async def over_websocket(
    wire: Wire, protocol: str, request: Exec | Attach, backend: Backend
) -> None:
    """Serve a request over an upgraded connection."""
    socket = WebSocket(wire)
    readable = {4} | ({0} if request.stdin else set())
    channels = Channels(socket, 5, readable, protocol)
    # An empty message tells the client, whose library may wait for one, that we are there.
    first = 1 if request.stdout else 2 if request.stderr else 3
    with contextlib.suppress(ConnectionError):
        await channels[first].write(b"")
    reading = asyncio.get_running_loop().create_task(channels.run(), name="streaming websocket")
    try:
        await _serve(
            request,
            backend,
            _Streams(
                stdin=channels[0] if request.stdin else None,
                stdout=channels[1] if request.stdout else None,
                stderr=channels[2] if request.stderr else None,
                error=channels[3],
                sizes=Sizes(channels[4]),
                json=protocol.startswith(("v4.", "v5.")),
            ),
            reading,
        )
    except Gone:
        pass
    finally:
        await ended(reading)
        await socket.close()


async def _serve(
    request: Exec | Attach, backend: Backend, streams: _Streams, reading: asyncio.Task[None]
) -> None:
    sizes = asyncio.get_running_loop().create_task(streams.sizes.run(), name="terminal sizes")
    try:
        status = await _outcome(request, backend, streams, reading)
    finally:
        await ended(sizes)
    for writer in (streams.stdout, streams.stderr):
        if writer is not None:
            await writer.close()
    text = json.dumps(status, separators=(",", ":")) if streams.json else status.get("message", "")
    with contextlib.suppress(ConnectionError):
        if text:
            await streams.error.write(str(text).encode())
        await streams.error.close()


async def _outcome(
    request: Exec | Attach, backend: Backend, streams: _Streams, reading: asyncio.Task[None]
) -> dict[str, Any]:
    """Call the backend; return the metav1.Status that tells how it ended."""
    io: dict[str, Any] = {
        "tty": request.tty,
        "stdin": streams.stdin,
        "stdout": streams.stdout,
        "stderr": None if request.tty else streams.stderr,
        "resize": streams.sizes,
    }
    try:
        if isinstance(request, Attach):
            await unless_gone(backend.attach(request.container_id, **io), reading)
            return {"metadata": {}, "status": "Success"}
        call = backend.exec(request.container_id, request.command, **io)
        code = await unless_gone(call, reading)
    except SampanError as err:
        return _failed(request, err)
    except (asyncio.CancelledError, Gone):
        raise
    except Exception as err:
        if not hung_up(err):
            log.exception("streaming failed: container=%s", request.container_id)
        return _failed(request, err)
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _failed(request: Exec | Attach, error: Exception) -> dict[str, Any]:
    what = "attaching to" if isinstance(request, Attach) else "executing command in"
    text = f"error {what} container: {error}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {text}",
        "reason": "InternalError",
        "details": {"causes": [{"message": text}]},
        "code": 500,
    }


async def unless_gone(work: Awaitable[T], reading: asyncio.Task[Any]) -> T:
    """Await `work`, but cancel it and wait for its end as soon as `reading` is over.

    Raises:
      Gone: the client hung up before `work` was done.
    """
    task = asyncio.ensure_future(work)  # noqa: TID251 - takes coroutines, and tasks as they are
    try:
        await asyncio.wait((task, reading), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        await ended(task)
    raise Gone


async def ended(task: asyncio.Future[Any]) -> None:
    """Cancel a task that still runs, and wait for its end; errors are logged."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
        error = None if task.cancelled() else task.exception()
        if error is not None and not hung_up(error):
            log.warning("streaming: %s failed when it was cancelled", task, exc_info=error)


def hung_up(error: BaseException) -> bool:
    """Whether an error only says that the client is gone, alone or in a group of such."""
    if isinstance(error, BaseExceptionGroup):
        return all(hung_up(one) for one in error.exceptions)
    return isinstance(error, ConnectionError)
