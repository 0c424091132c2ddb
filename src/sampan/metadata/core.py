"""What the stores of this room share: the database, who we are, whom to tell."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import msgspec

from sampan import context
from sampan.errors import NotFound
from sampan.events import Event, Publisher
from sampan.metadata.db import Database, Tx
from sampan.metadata.owners import Owners
from sampan.model import identifiers
from sampan.model.opaque import Opaque

__all__ = [
    "Core",
    "at",
    "dump_extensions",
    "dump_options",
    "ensure_namespace",
    "keep_by_lease",
    "load_extensions",
    "load_options",
    "now_us",
]

T = TypeVar("T")

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_extensions: Final = msgspec.json.Decoder(dict[str, Opaque])
_options: Final = msgspec.json.Decoder(Opaque)


class Core:
    """One a process and root."""

    def __init__(self, db: Database, owners: Owners, events: Publisher | None) -> None:
        self.db = db
        self.owners = owners
        self.on_change: Callable[[bool], None] = lambda deleted: None
        """Told of each transaction that changed what is kept, and whether it deleted."""
        self.in_progress: set[str] = set()
        """Backend names of snapshots that this process has made and not yet written down."""
        self._events = events
        self._made = 0

    def backend_name(self, namespace: str, key: str) -> str:
        """Return a new name for a snapshot in a bare store; it says who made it."""
        self._made += 1
        return f"{namespace}/{self.owners.id}.{self._made}/{key}"

    async def write(
        self, fn: Callable[[Tx], T], *, durable: bool = False, deletes: bool = False
    ) -> T:
        """Run a write transaction and count it for the scheduler of collections."""
        result = await self.db.update(fn, durable=durable)
        self.on_change(deletes)
        return result

    def publish(self, namespace: str, topic: str, message: str, **fields: object) -> None:
        """Tell of a change that is committed; from the event loop."""
        if self._events is not None:
            event = Event(f"containerd.events.{message}", fields)
            self._events.publish(topic, event, namespace=namespace)


def namespace() -> str:
    """Return the namespace of this request, checked."""
    return identifiers.check(context.namespace(), "namespace")


def ensure_namespace(tx: Tx, name: str) -> None:
    """Let the namespace exist: its first object makes it."""
    tx.execute("INSERT OR IGNORE INTO namespaces (name) VALUES (?)", (name,))


def keep_by_lease(tx: Tx, namespace: str, lease: str | None, type: str, id: str) -> None:
    """Add what is created to the lease of its request, if there is one.

    Raises:
      NotFound: there is no such lease any more; what it should keep would be garbage at once.
    """
    if lease is None:
        return
    found = tx.execute("SELECT 1 FROM leases WHERE namespace = ? AND id = ?", (namespace, lease))
    if found.fetchone() is None:
        raise NotFound(f"lease {lease!r} in namespace {namespace!r}: it was deleted or expired")
    tx.execute(
        "INSERT OR IGNORE INTO lease_resources (namespace, lease, type, id) VALUES (?, ?, ?, ?)",
        (namespace, lease, type, id),
    )


def now_us() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1000


def at(us: int) -> datetime:
    """Return microseconds since the epoch as an aware datetime, exactly."""
    return _EPOCH + timedelta(microseconds=us)


def dump_extensions(extensions: Mapping[str, Opaque]) -> str:
    """Encode extensions for the database: JSON, bytes in base64."""
    return msgspec.json.encode(dict(extensions)).decode() if extensions else "{}"


def load_extensions(text: str) -> dict[str, Opaque]:
    """Decode extensions of the database."""
    return {} if text == "{}" else _extensions.decode(text)


def dump_options(options: Opaque | None) -> str | None:
    """Encode a runtime's options for the database."""
    return None if options is None else msgspec.json.encode(options).decode()


def load_options(text: str | None) -> Opaque | None:
    """Decode a runtime's options of the database."""
    return None if text is None else _options.decode(text)


def quoted(name: str) -> str:
    """Quote a name for a message, as Go's %q does for ordinary names."""
    return json.dumps(name)
