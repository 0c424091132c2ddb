"""An event sink: what happens, as lines of JSON in a file.

[plugins."io.sampan.event-sink.v1.journal"]
  path = "/var/log/sampan-events.jsonl"
  filters = ['topic~="^/tasks/"']
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import msgspec

from sampan.concurrency import to_thread
from sampan.engine.extensions import EVENT_SINK, EventSink
from sampan.events import Envelope, Event
from sampan.plugin import InitContext, plugin

__all__ = ["journal"]


class JournalConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The plugin's table."""

    path: str = "/var/log/sampan-events.jsonl"
    filters: tuple[str, ...] = ()
    """As of `ctr events`; none is everything."""


@plugin(EVENT_SINK, "journal", config=JournalConfig)
def journal(ctx: InitContext[JournalConfig]) -> EventSink:
    """Append to the file of the configuration."""
    return Journal(ctx.config.path, ctx.config.filters)


class Journal:
    """See the module."""

    def __init__(self, path: str, filters: Sequence[str]) -> None:
        self._path = path
        self.filters = tuple(filters)

    async def deliver(self, envelope: Envelope) -> None:
        event = envelope.event
        line = {
            "time_ns": envelope.timestamp_ns,
            "namespace": envelope.namespace,
            "topic": envelope.topic,
            "type": event.name if isinstance(event, Event) else event.type_url,
        }
        await to_thread(self._append, json.dumps(line).encode() + b"\n")

    def _append(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o640)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)
