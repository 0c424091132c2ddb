"""Namespaces: made by their first object or by name, and removed only when empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sampan.errors import AlreadyExists, FailedPrecondition, NotFound
from sampan.metadata import Namespace, labels
from sampan.metadata.core import Core, quoted
from sampan.metadata.db import Tx
from sampan.model import filters, identifiers

__all__ = ["Namespaces"]

_HELD: Final = (
    ("images", "images"),
    ("content", "blobs"),
    ("containers", "containers"),
    ("sandboxes", "sandboxes"),
    ("ingests", "ingests"),
)


class Namespaces:
    """The rows of `namespaces`. The namespace of the request does not matter here."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def get(self, name: str) -> Namespace:
        """Return a namespace.

        Raises:
          NotFound: there is none.
        """
        identifiers.check(name, "namespace")
        return await self._core.db.view(lambda tx: _get(tx, name))

    async def list(self, *texts: str) -> list[Namespace]:
        """Return the namespaces that any filter matches, by name."""
        wanted = filters.parse_all(texts)

        def rows(tx: Tx) -> list[Namespace]:
            found = tx.execute("SELECT name, labels FROM namespaces ORDER BY name")
            return [Namespace(name, labels.load(text)) for name, text in found]

        return [one for one in await self._core.db.view(rows) if wanted.match(one)]

    async def create(self, name: str, labels_: Mapping[str, str] | None = None) -> Namespace:
        """Make a namespace.

        Raises:
          AlreadyExists: it is there, if only by an object in it.
        """
        identifiers.check(name, "namespace")
        new = labels.check(labels_ or {})

        def insert(tx: Tx) -> None:
            done = tx.execute(
                "INSERT OR IGNORE INTO namespaces (name, labels) VALUES (?, ?)",
                (name, labels.dump(new)),
            )
            if not done.rowcount:
                raise AlreadyExists(f"namespace {quoted(name)}: already exists")

        await self._core.write(insert, durable=True)
        self._core.publish(name, "/namespaces/create", "NamespaceCreate", name=name, labels=new)
        return Namespace(name, new)

    async def update(
        self, name: str, labels_: Mapping[str, str], fields: Sequence[str] = ()
    ) -> Namespace:
        """Set labels by mask, and make the namespace if there is none, as containerd does."""
        identifiers.check(name, "namespace")
        labels.paths_of(fields, ("labels",), f"namespace {quoted(name)}")

        def upsert(tx: Tx) -> Namespace:
            row = tx.execute("SELECT labels FROM namespaces WHERE name = ?", (name,)).fetchone()
            old = labels.load(row[0]) if row else {}
            new = labels.merged(old, labels_, fields)
            tx.execute(
                "INSERT INTO namespaces (name, labels) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET labels = excluded.labels",
                (name, labels.dump(new)),
            )
            return Namespace(name, new)

        result = await self._core.write(upsert, durable=True)
        self._core.publish(
            name, "/namespaces/update", "NamespaceUpdate", name=name, labels=dict(result.labels)
        )
        return result

    async def delete(self, name: str) -> None:
        """Remove an empty namespace.

        Raises:
          NotFound: there is none.
          FailedPrecondition: it holds something; the message says what.
        """
        identifiers.check(name, "namespace")

        def remove(tx: Tx) -> None:
            _get(tx, name)
            if held := _held(tx, name):
                raise FailedPrecondition(
                    f"namespace {quoted(name)} must be empty, but it still has {', '.join(held)}"
                )
            # Leases alone hold nothing, and go with it, as in containerd.
            tx.execute("DELETE FROM lease_resources WHERE namespace = ?", (name,))
            tx.execute("DELETE FROM leases WHERE namespace = ?", (name,))
            tx.execute("DELETE FROM namespaces WHERE name = ?", (name,))

        await self._core.write(remove, durable=True)
        self._core.publish(name, "/namespaces/delete", "NamespaceDelete", name=name)


def _get(tx: Tx, name: str) -> Namespace:
    row = tx.execute("SELECT labels FROM namespaces WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound(f"namespace {quoted(name)}: not found")
    return Namespace(name, labels.load(row[0]))


def _held(tx: Tx, name: str) -> list[str]:
    """Name what is left in the namespace."""
    held = []
    for table, word in _HELD:
        if tx.execute(f"SELECT 1 FROM {table} WHERE namespace = ? LIMIT 1", (name,)).fetchone():  # noqa: S608
            held.append(word)
    found = tx.execute(
        "SELECT DISTINCT snapshotter FROM snapshots WHERE namespace = ? ORDER BY 1", (name,)
    )
    held += [f"snapshots on {quoted(snapshotter)} snapshotter" for (snapshotter,) in found]
    return held
