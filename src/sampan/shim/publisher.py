"""Events on their way to the daemon: in order, one at a time, again until it has taken them.

While the daemon is away they wait here. The queue is bounded: of more than 4,096 the oldest that
is no exit goes first, since exits are what a daemon must not miss.
"""

from __future__ import annotations

import time
from collections import deque

from sampan.errors import SampanError
from sampan.rpc.link import Link
from sampan.rpc.loop import Future, Loop
from sampan.rpc.messages.events import SERVICE, ForwardRequest
from sampan.rpc.messages.types import Envelope
from sampan.rpc.messages.wellknown import Any, Empty, Timestamp
from sampan.rpc.wire import Message

__all__ = ["Publisher"]

_QUEUE_MAX = 4096
_TIMEOUT_S = 5.0
_RETRY_FIRST_S, _RETRY_LAST_S = 0.05, 2.0


class Publisher:
    """Sends to the ttrpc socket `address`; with an empty one, to nobody."""

    def __init__(self, loop: Loop, address: str, namespace: str) -> None:
        self._loop = loop
        self._link = Link(loop, address) if address else None
        self._namespace = namespace
        self._queue: deque[Envelope] = deque()
        self._sending = False
        self.idle: Future[None] | None = None
        """Set by whoever wants to know when the queue is empty next."""

    def publish(self, topic: str, event: Message) -> None:
        """Queue an event with the time of now."""
        if self._link is None:
            return
        if len(self._queue) >= _QUEUE_MAX:
            self._make_room()
        self._queue.append(
            Envelope(
                timestamp=Timestamp.of_ns(time.time_ns()),
                namespace=self._namespace,
                topic=topic,
                event=Any.pack(event),
            )
        )
        if not self._sending:
            self._sending = True
            self._loop.spawn(self._send(self._link))

    def _make_room(self) -> None:
        # Not the first: it may be on its way at this moment.
        for place in range(1, len(self._queue)):
            if self._queue[place].topic != "/tasks/exit":
                del self._queue[place]
                return
        del self._queue[1]

    async def _send(self, link: Link) -> None:
        metadata = {"containerd-namespace-ttrpc": self._namespace}
        delay_s = _RETRY_FIRST_S
        while self._queue:
            request = ForwardRequest(envelope=self._queue[0])
            try:
                await link.call(
                    SERVICE, "Forward", request, Empty, timeout_s=_TIMEOUT_S, metadata=metadata
                )
            except SampanError:
                await self._loop.sleep(delay_s)
                delay_s = min(2 * delay_s, _RETRY_LAST_S)
                continue
            self._queue.popleft()
            delay_s = _RETRY_FIRST_S
        self._sending = False
        if self.idle is not None:
            self.idle.set(None)

    @property
    def idle_now(self) -> bool:
        """Whether nothing is left to be sent."""
        return not self._sending

    def rest(self) -> bool:
        """Hang up, if nothing is left to send; return whether that is so."""
        if self._sending:
            return False
        self.close()
        return True

    async def drain(self, timeout_s: float) -> None:
        """Wait until all is sent, for at most `timeout_s`."""
        if self._queue:
            self.idle = Future()
            idle = self.idle
            self._loop.call_later(timeout_s, lambda: idle.set(None))
            await idle

    def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()
