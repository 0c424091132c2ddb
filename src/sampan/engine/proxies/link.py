"""One gRPC connection to a proxy, and what its calls have in common."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from grpclib.client import Channel
from grpclib.exceptions import GRPCError, StreamTerminatedError

from sampan import context
from sampan.engine.schema import ProxyPlugin
from sampan.errors import DeadlineExceeded, Unavailable
from sampan.rpc import status
from sampan.rpc.grpc import LEASE_HEADER, NAMESPACE_HEADER

__all__ = ["CALL_S", "Link"]

CALL_S: Final = 60.0
"""A remote snapshotter may fetch before it answers."""


class Link:
    """A channel that is opened by its first call, in the loop of that call."""

    def __init__(self, id: str, plugin: ProxyPlugin, address: str) -> None:
        self.id = id
        self.address = address
        self.namespace = plugin.exports.get("namespace", "")
        self._channel: Channel | None = None

    @property
    def channel(self) -> Channel:
        if self._channel is None:
            self._channel = Channel(path=self.address)
        return self._channel

    def headers(self, key: str = "") -> dict[str, str]:
        """Return a call's headers; `key` is a snapshot's in the bare store."""
        namespace = self.namespace or context.namespace_or_none() or key.partition("/")[0]
        found = {NAMESPACE_HEADER: namespace or context.DEFAULT_NAMESPACE}
        lease = context.lease()
        if lease:
            found[LEASE_HEADER] = lease
        return found

    async def call(
        self, method: Any, request: Any, key: str = "", timeout_s: float | None = CALL_S
    ) -> Any:
        """Make a unary call.

        Raises:
          SampanError: what the proxy answers; Unavailable if nobody does.
        """
        with self.translated():
            return await method(request, metadata=self.headers(key), timeout=timeout_s)

    async def listing(self, method: Any, request: Any) -> AsyncIterator[Any]:
        """Yield the messages of a call that streams its answer."""
        with self.translated():
            async with method.open(metadata=self.headers(), timeout=CALL_S) as stream:
                await stream.send_message(request, end=True)
                async for message in stream:
                    yield message

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what a call raises into errors of ours."""
        try:
            yield
        except GRPCError as err:
            raise status.from_status(err.status.value, err.message or "") from err
        except TimeoutError as err:
            raise DeadlineExceeded(f"proxy plugin {self.id} did not answer in time") from err
        except (StreamTerminatedError, OSError) as err:
            raise Unavailable(
                f"proxy plugin {self.id} is not reached at {self.address}: {err}"
            ) from err

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
