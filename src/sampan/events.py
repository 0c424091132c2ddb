"""The exchange: what happened, told in order to everyone who listens.

    exchange.publish("/images/create", Event("containerd.events.ImageCreate", {"name": ref}))

    async with exchange.subscribe('topic~="/images/.*"') as envelopes:
        async for envelope in envelopes: ...

`publish` never waits: each subscriber has a queue of its own, and gets envelopes in the order they
were published. One that falls `bound` envelopes behind is cut off: it still receives what is queued
and then `ResourceExhausted`, so nobody mistakes a gap for silence and nobody else suffers. A
subscription sees all that is published after `subscribe` was called, even before it is read.

Events are plain values here: a protobuf message's full name and its fields, or, when a shim or
client forwarded one, its encoded bytes. `services` translates. All calls come from the event loop's
thread; `publish_threadsafe` is for others.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

from sampan import context
from sampan.errors import InvalidArgument, ResourceExhausted
from sampan.model import filters, identifiers
from sampan.model.opaque import Opaque

__all__ = ["Envelope", "Event", "Exchange", "Opaque", "Publisher", "Subscription"]

log = logging.getLogger(__name__)

BOUND: Final = 16384
"""Envelopes a subscriber may fall behind; a node whose pods all restart makes some thousands."""

_TOPIC = re.compile(r"(?:/[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*)+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Event:
    """An event of ours: `name` is the protobuf message's full name, `fields` are its fields."""

    name: str
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event with where and when."""

    timestamp_ns: int
    """Since the epoch, when it happened or when it was published."""
    namespace: str
    topic: str
    event: Event | Opaque

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        """Answer a filter about `namespace`, `topic` or `event.<field>...`."""
        match list(path):
            case ["namespace"]:
                return self.namespace, bool(self.namespace)
            case ["topic"]:
                return self.topic, bool(self.topic)
            case ["event", name, *rest] if isinstance(self.event, Event):
                value = self.event.fields.get(name)
                if isinstance(value, Mapping):
                    value = value.get(".".join(rest))
                elif rest:
                    value = None
                return ("", False) if value in (None, "") else (str(value), True)
            case _:
                return "", False


class Subscription:
    """One subscriber's queue: iterate it; leave the `async with` to unsubscribe."""

    def __init__(self, exchange: Exchange, wanted: filters.Filter, bound: int) -> None:
        self._exchange = exchange
        self._wanted = wanted
        self._bound = bound
        self._queue: deque[Envelope] = deque()
        self._arrived = asyncio.Event()
        self._overrun = False
        self._closed = False

    def offer(self, envelope: Envelope) -> None:
        """Queue the envelope if it is wanted; called by the exchange."""
        if self._overrun or not self._wanted.match(envelope):
            return
        if len(self._queue) >= self._bound:
            self._overrun = True
            self._exchange.drop(self)
            log.warning("event subscriber cut off: it fell %d envelopes behind", self._bound)
        else:
            self._queue.append(envelope)
        self._arrived.set()

    def close(self) -> None:
        """Unsubscribe; a pending and every later `anext` ends the iteration."""
        self._closed = True
        self._queue.clear()
        self._exchange.drop(self)
        self._arrived.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[Envelope]:
        return self

    async def __anext__(self) -> Envelope:
        """Return the next envelope.

        Raises:
          ResourceExhausted: this subscriber fell too far behind and missed events.
        """
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            if self._overrun:
                raise ResourceExhausted(
                    f"event subscriber fell more than {self._bound} events behind and missed some:"
                    " list the state anew and subscribe again"
                )
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()


class Exchange:
    """Where rooms publish and listeners subscribe."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self.published = 0
        """Envelopes until now."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def publish(self, topic: str, event: Event | Opaque, *, namespace: str | None = None) -> None:
        """Tell all subscribers of an event that happened just now.

        `namespace` is the request's unless given.

        Raises:
          InvalidArgument: topic or namespace is malformed.
          FailedPrecondition: there is no namespace.
        """
        where = context.namespace() if namespace is None else namespace
        self.forward(Envelope(time.time_ns(), where, topic, event))

    def forward(self, envelope: Envelope) -> None:
        """Tell all subscribers of an event that someone else enveloped, such as a shim.

        Raises:
          InvalidArgument: topic or namespace is malformed, or the timestamp is missing.
        """
        identifiers.check(envelope.namespace, "event namespace")
        if not _TOPIC.fullmatch(envelope.topic):
            raise InvalidArgument(
                f"event topic {envelope.topic!r} must start with '/' and consist of identifiers"
                " joined by '/'"
            )
        if envelope.timestamp_ns <= 0:
            raise InvalidArgument("event timestamp must be set on a forwarded event")
        self.published += 1
        for subscription in tuple(self._subscriptions):
            subscription.offer(envelope)

    @property
    def subscribers(self) -> int:
        """How many listen."""
        return len(self._subscriptions)

    def publish_threadsafe(self, topic: str, event: Event | Opaque, *, namespace: str) -> None:
        """Like `publish`, from a thread that is not the event loop's, if anyone listens at all."""
        if self._loop is not None and not self._loop.is_closed():
            envelope = Envelope(time.time_ns(), namespace, topic, event)
            self._loop.call_soon_threadsafe(self.forward, envelope)

    def subscribe(self, *texts: str, bound: int = BOUND) -> Subscription:
        """Start to listen, from this very call on, to envelopes that any of the filters matches.

        Raises:
          InvalidArgument: a text is no filter.
        """
        subscription = Subscription(self, filters.parse_all(texts), bound)
        self._loop = asyncio.get_running_loop()
        self._subscriptions.append(subscription)
        return subscription

    def drop(self, subscription: Subscription) -> None:
        """Forget a subscription; it may be unknown already."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)


class Publisher(Protocol):
    """What rooms that only publish ask for; `Exchange` is one."""

    def publish(self, topic: str, event: Event | Opaque, *, namespace: str | None = None) -> None:
        """Tell all subscribers of an event that happened just now."""
