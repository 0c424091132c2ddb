"""Calls of gRPC, counted and traced where somebody asked for that; else nothing is in their way.

grpclib lets a listener put another function in place of a call's handler: `watch` puts one there
that runs every `Watcher` around the call.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from grpclib.const import Status
from grpclib.events import RecvRequest, listen
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.server import Server

from sampan.daemon.prometheus import Family, Histogram

__all__ = ["Call", "CallMetrics", "Watcher", "watch"]

_NAMES: Final = {
    Status.OK: "OK",
    **{one: "".join(word.title() for word in one.name.split("_")) for one in Status if one.value},
}
"""As Go writes codes: NotFound, DeadlineExceeded."""


class Call:
    """One call: what it is and how it went."""

    __slots__ = ("ended_s", "metadata", "method", "service", "status", "text", "type")

    def __init__(self, path: str, type: str, metadata: Mapping[str, Any]) -> None:
        self.service, _, self.method = path.lstrip("/").rpartition("/")
        self.type = type
        """unary, server_stream, client_stream or bidi_stream."""
        self.metadata = metadata
        self.status = Status.OK
        self.text = ""
        self.ended_s = 0.0
        """How long it took."""


class Watcher(Protocol):
    """What happens around every call."""

    def __call__(self, call: Call) -> Callable[[], None]:
        """Note its begin; what is returned is called at its end, with `call` complete."""
        ...


def watch(server: Server, handlers: Sequence[Any], watchers: Sequence[Watcher]) -> None:
    """Run the watchers around every call of a server that has not started yet."""
    if not watchers:
        return
    types = {
        path: _type(handler.cardinality)
        for service in handlers
        for path, handler in service.__mapping__().items()
    }

    async def on_request(event: RecvRequest) -> None:
        call = Call(event.method_name, types.get(event.method_name, "unary"), event.metadata)
        inner: Callable[[Any], Awaitable[None]] = event.method_func

        async def watched(stream: Any) -> None:
            ends = [watcher(call) for watcher in watchers]
            began = time.perf_counter()
            try:
                await inner(stream)
            except GRPCError as err:
                call.status, call.text = err.status, err.message or ""
                raise
            except (asyncio.CancelledError, StreamTerminatedError):
                call.status = Status.CANCELLED
                raise
            except TimeoutError:
                call.status = Status.DEADLINE_EXCEEDED
                raise
            except BaseException:
                call.status = Status.UNKNOWN
                raise
            finally:
                call.ended_s = time.perf_counter() - began
                for end in reversed(ends):
                    end()

        event.method_func = watched

    listen(server, RecvRequest, on_request)


def _type(cardinality: Any) -> str:
    if cardinality.client_streaming:
        return "bidi_stream" if cardinality.server_streaming else "client_stream"
    return "server_stream" if cardinality.server_streaming else "unary"


class CallMetrics:
    """The families that containerd's gRPC server has; a Watcher."""

    def __init__(self, *, histogram: bool = False) -> None:
        self._started: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._handled: defaultdict[tuple[str, str, str, str], int] = defaultdict(int)
        self._seconds: defaultdict[tuple[str, str, str], Histogram] = defaultdict(Histogram)
        self._histogram = histogram

    def __call__(self, call: Call) -> Callable[[], None]:
        key = (call.type, call.service, call.method)
        self._started[key] += 1

        def end() -> None:
            self._handled[(*key, _NAMES[call.status])] += 1
            if self._histogram:
                self._seconds[key].observe(call.ended_s)

        return end

    def families(self) -> list[Family]:
        """Return what was counted until now."""
        started = Family("grpc_server_started_total", "counter", "RPCs started on the server.")
        handled = Family("grpc_server_handled_total", "counter", "RPCs completed on the server.")
        seconds = Family("grpc_server_handling_seconds", "histogram", "Seconds until completed.")
        for key, count in self._started.items():
            started.add(count, _labels(*key))
        for (*key_, code), count in self._handled.items():
            handled.add(count, {"grpc_code": code, **_labels(*key_)})
        for key, one in self._seconds.items():
            one.add_to(seconds, _labels(*key))
        return [started, handled, seconds]


def _labels(type: str, service: str, method: str) -> dict[str, str]:
    return {"grpc_method": method, "grpc_service": service, "grpc_type": type}
