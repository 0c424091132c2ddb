"""What every gRPC service of ours has in common: a request's scope, its errors, its two shapes.

A service subclasses the generated base and writes plain methods; the decorators make them what
grpclib calls:

    class VersionService(VersionBase):
        @unary
        async def Version(self, request: Empty) -> pb.VersionResponse: ...

        @streaming
        async def Subscribe(self, request: pb.SubscribeRequest) -> AsyncIterator[pb.Envelope]: ...

Each binds namespace and lease of the request's headers (`containerd-namespace`,
`containerd-lease`) for the call, and turns a SampanError into its status by `rpc.status`. Anything
else is a defect of ours: logged with its traceback and answered as INTERNAL.

Loads grpclib: for the daemon's side alone.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from sampan import context
from sampan.errors import SampanError
from sampan.rpc import status

__all__ = ["LEASE_HEADER", "NAMESPACE_HEADER", "bidirectional", "mapped", "streaming", "unary"]

log = logging.getLogger(__name__)

NAMESPACE_HEADER = "containerd-namespace"
LEASE_HEADER = "containerd-lease"

Service = TypeVar("Service")
Request = TypeVar("Request")
Response = TypeVar("Response")


@contextmanager
def mapped(method: str, metadata: Mapping[str, Any]) -> Iterator[None]:
    """Run a call in the scope of its headers, and leave with a GRPCError or not at all."""
    namespace = str(metadata.get(NAMESPACE_HEADER) or "")
    lease = str(metadata.get(LEASE_HEADER) or "")
    try:
        with context.scope(namespace, lease=lease):
            yield
    except SampanError as err:
        raise GRPCError(Status(status.code_of(err)), status.text_of(err)) from err
    except (asyncio.CancelledError, GRPCError, StreamTerminatedError):
        raise
    except Exception as err:
        log.exception("call failed: method=%s namespace=%s", method, namespace)
        raise GRPCError(Status.INTERNAL, f"{method}: {type(err).__name__}: {err}") from err


def unary(
    method: Callable[[Service, Request], Awaitable[Response]],
) -> Callable[[Service, Any], Coroutine[Any, Any, None]]:
    """Make a method of one request and one response a handler of grpclib."""

    @functools.wraps(method)
    async def handler(self: Service, stream: Any) -> None:
        request = await stream.recv_message()
        with mapped(method.__qualname__, stream.metadata):
            response = await method(self, request)
        await stream.send_message(response)

    return handler


def streaming(
    method: Callable[[Service, Request], AsyncIterator[Response]],
) -> Callable[[Service, Any], Coroutine[Any, Any, None]]:
    """Make an asynchronous generator a handler; headers go out before its first message."""

    @functools.wraps(method)
    async def handler(self: Service, stream: Any) -> None:
        request = await stream.recv_message()
        with mapped(method.__qualname__, stream.metadata):
            responses = method(self, request)
            try:
                # Subscribers wait for the headers to know that they will miss nothing.
                await stream.send_initial_metadata()
                async for response in responses:
                    await stream.send_message(response)
            finally:
                close = getattr(responses, "aclose", None)
                if close is not None:
                    await close()

    return handler


def bidirectional(
    method: Callable[[Service, Any], Awaitable[None]],
) -> Callable[[Service, Any], Coroutine[Any, Any, None]]:
    """Make a method that reads and writes the stream itself a handler."""

    @functools.wraps(method)
    async def handler(self: Service, stream: Any) -> None:
        with mapped(method.__qualname__, stream.metadata):
            await method(self, stream)

    return handler
