"""Event sinks: each has a subscription and a loop of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from sampan.engine.extensions import EventSink
from sampan.errors import ResourceExhausted
from sampan.events import Exchange

__all__ = ["deliver"]

log = logging.getLogger(__name__)


async def deliver(exchange: Exchange, sinks: Mapping[str, EventSink]) -> None:
    """Bring events to all sinks until cancelled; a sink that fails is told of the next one."""
    async with asyncio.TaskGroup() as group:
        for id, sink in sinks.items():  # noqa: A001
            group.create_task(_one(exchange, id, sink))


async def _one(exchange: Exchange, id: str, sink: EventSink) -> None:
    while True:
        try:
            async with exchange.subscribe(*sink.filters) as envelopes:
                async for envelope in envelopes:
                    try:
                        await sink.deliver(envelope)
                    except Exception:  # the edge between us and third parties
                        log.exception("event sink failed: plugin=%s topic=%s", id, envelope.topic)
        except ResourceExhausted:
            log.warning("event sink fell behind and missed events: plugin=%s", id)
