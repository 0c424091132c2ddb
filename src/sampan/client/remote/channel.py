"""One connection to a daemon: the namespace and lease of each request, and errors as they were."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from grpclib.client import Channel
from grpclib.exceptions import GRPCError, StreamTerminatedError

from sampan import context
from sampan.errors import DeadlineExceeded, PermissionDenied, SampanError, Unavailable
from sampan.rpc.status import from_status

__all__ = ["Connection"]

_DEADLINE_S: Final = 60.0


class Connection:
    """Calls methods of the daemon's services. Owns the channel."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = Channel(path=address.removeprefix("unix://"))

    def close(self) -> None:
        """Hang up; calls under way fail."""
        self.channel.close()

    @staticmethod
    def _metadata() -> dict[str, str]:
        found = {"containerd-namespace": context.namespace()}
        if lease := context.lease():
            found["containerd-lease"] = lease
        return found

    async def call(
        self,
        method: Callable[..., Awaitable[Any]],
        request: Any,
        *,
        timeout_s: float | None = _DEADLINE_S,
    ) -> Any:
        """Return the answer of a unary method of a stub.

        Raises:
          SampanError: what the daemon raised, in its own class; Unavailable: it does not answer.
        """
        try:
            return await method(request, metadata=self._metadata(), timeout=timeout_s)
        except (TimeoutError, GRPCError, StreamTerminatedError, OSError) as err:
            raise self._translated(err) from err

    async def stream(self, method: Any, request: Any) -> AsyncIterator[Any]:
        """Yield the answers of a method that streams them.

        Raises:
          SampanError: as `call`.
        """
        try:
            async with method.open(metadata=self._metadata()) as stream:
                await stream.send_message(request, end=True)
                async for answer in stream:
                    yield answer
        except (GRPCError, StreamTerminatedError, OSError) as err:
            raise self._translated(err) from err

    def _translated(self, err: Exception) -> SampanError:
        if isinstance(err, GRPCError):
            return from_status(err.status.value, err.message or err.status.name)
        if isinstance(err, TimeoutError):
            return DeadlineExceeded(f"the daemon at {self.address} gave no answer in time")
        if isinstance(err, PermissionError) or getattr(err, "errno", 0) == errno.EACCES:
            return PermissionDenied(
                f"the daemon's socket {self.address} is not for this user: run as root"
            )
        return Unavailable(f"no daemon answers at {self.address}: {err}; start sampand")
