"""Leases: promises that keep resources while somebody works on them."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from sampan.errors import AlreadyExists, InvalidArgument, NotFound, Unimplemented
from sampan.metadata import Lease, Resource, labels
from sampan.metadata.core import Core, at, ensure_namespace, namespace, now_us, quoted
from sampan.metadata.db import Tx
from sampan.model import digest as digests
from sampan.model import filters

__all__ = ["EXPIRE_LABEL", "FLAT_LABEL", "Leases"]

EXPIRE_LABEL: Final = "containerd.io/gc.expire"
FLAT_LABEL: Final = "containerd.io/gc.flat"


class Leases:
    """The rows of `leases` and `lease_resources` in the namespace of the request."""

    def __init__(self, core: Core, collect: Callable[[], Awaitable[object]]) -> None:
        self._core = core
        self._collect = collect

    async def create(
        self,
        id: str = "",
        labels_: Mapping[str, str] | None = None,
        *,
        expire_s: float | None = None,
    ) -> Lease:
        """Make a lease; on disk when it returns.

        Args:
          id: Its name; empty makes one up.
          labels_: `containerd.io/gc.expire` (RFC 3339) and `gc.flat` have meaning.
          expire_s: Seconds from now; sets the label.

        Raises:
          AlreadyExists: the id is taken.
        """
        where, name = namespace(), id or uuid.uuid4().hex
        new = dict(labels_ or {})
        if expire_s is not None:
            until = datetime.now(UTC) + timedelta(seconds=expire_s)
            new[EXPIRE_LABEL] = until.isoformat().replace("+00:00", "Z")
        labels.check(new)
        now = now_us()

        def write(tx: Tx) -> None:
            ensure_namespace(tx, where)
            done = tx.execute(
                "INSERT OR IGNORE INTO leases (namespace, id, labels, created_us)"
                " VALUES (?, ?, ?, ?)",
                (where, name, labels.dump(new), now),
            )
            if not done.rowcount:
                raise AlreadyExists(f"lease {quoted(name)}: already exists")

        await self._core.write(write, durable=True)
        return Lease(name, new, at(now))

    async def get(self, id: str) -> Lease:
        """Return a lease.

        Raises:
          NotFound: there is none.
        """
        where = namespace()
        return await self._core.db.view(lambda tx: _get(tx, where, id))

    async def list(self, *texts: str) -> list[Lease]:
        """Return the leases that any filter matches, by id."""
        where, wanted = namespace(), filters.parse_all(texts)

        def rows(tx: Tx) -> list[Lease]:
            found = tx.execute(
                "SELECT id, labels, created_us FROM leases WHERE namespace = ? ORDER BY id",
                (where,),
            )
            return [Lease(id, labels.load(text), at(us)) for id, text, us in found]  # noqa: A001

        return [one for one in await self._core.db.view(rows) if wanted.match(one)]

    async def delete(self, id: str, *, sync: bool = False) -> None:
        """End a lease; what it alone kept is garbage. `sync` collects before it returns.

        Without it, this does not wait for the disk: a lease that is back keeps too much, not less.

        Raises:
          NotFound: there is none.
        """
        where = namespace()

        def write(tx: Tx) -> None:
            _get(tx, where, id)
            tx.execute("DELETE FROM leases WHERE namespace = ? AND id = ?", (where, id))
            tx.execute("DELETE FROM lease_resources WHERE namespace = ? AND lease = ?", (where, id))

        await self._core.write(write, deletes=True)
        if sync:
            await self._collect()

    async def add_resource(self, id: str, resource: Resource) -> None:
        """Let the lease keep a resource, which need not exist yet; again is fine.

        Raises:
          NotFound: there is no such lease.
          InvalidArgument: no such type of resource.
        """
        where = namespace()
        _check(resource)

        def write(tx: Tx) -> None:
            _get(tx, where, id)
            tx.execute(
                "INSERT OR IGNORE INTO lease_resources (namespace, lease, type, id)"
                " VALUES (?, ?, ?, ?)",
                (where, id, resource.type, resource.id),
            )

        await self._core.write(write, durable=True)

    async def remove_resource(self, id: str, resource: Resource) -> None:
        """Let the lease keep it no longer; removing what it does not keep is fine.

        Raises:
          NotFound: there is no such lease.
        """
        where = namespace()
        _check(resource)

        def write(tx: Tx) -> None:
            _get(tx, where, id)
            tx.execute(
                "DELETE FROM lease_resources"
                " WHERE namespace = ? AND lease = ? AND type = ? AND id = ?",
                (where, id, resource.type, resource.id),
            )

        await self._core.write(write, durable=True, deletes=True)

    async def resources(self, id: str) -> tuple[Resource, ...]:
        """Return what the lease keeps by name, in order.

        Raises:
          NotFound: there is no such lease.
        """
        where = namespace()

        def rows(tx: Tx) -> tuple[Resource, ...]:
            _get(tx, where, id)
            found = tx.execute(
                "SELECT type, id FROM lease_resources WHERE namespace = ? AND lease = ?"
                " ORDER BY type, id",
                (where, id),
            )
            return tuple(Resource(kind, name) for kind, name in found)

        return await self._core.db.view(rows)


def _get(tx: Tx, where: str, id: str) -> Lease:
    row = tx.execute(
        "SELECT labels, created_us FROM leases WHERE namespace = ? AND id = ?", (where, id)
    ).fetchone()
    if row is None:
        raise NotFound(f"lease {quoted(id)}: not found")
    return Lease(id, labels.load(row[0]), at(row[1]))


def _check(resource: Resource) -> None:
    kind, slash, snapshotter = resource.type.partition("/")
    if not resource.id:
        raise InvalidArgument(f"lease resource of type {quoted(resource.type)} needs an id")
    if kind == "content" and not slash:
        digests.parse(resource.id)
    elif kind == "snapshots":
        if not snapshotter:
            raise InvalidArgument("lease resource of type snapshots needs its snapshotter's name")
    elif resource.type not in ("images", "ingests"):
        raise Unimplemented(f"lease resource type {quoted(resource.type)} is not supported")
