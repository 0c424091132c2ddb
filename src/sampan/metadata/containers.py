"""Containers: the records that tasks are made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sampan.errors import AlreadyExists, InvalidArgument, NotFound
from sampan.metadata import Container, Runtime, labels
from sampan.metadata.core import (
    Core,
    at,
    dump_extensions,
    dump_options,
    ensure_namespace,
    load_extensions,
    load_options,
    namespace,
    now_us,
    quoted,
)
from sampan.metadata.db import Tx
from sampan.metadata.snapshots import SnapshotView
from sampan.model import filters, identifiers
from sampan.model.opaque import Opaque

__all__ = ["Containers", "merged_extensions"]

_COLUMNS: Final = (
    "id, image, runtime, options, snapshotter, snapshot, sandbox, labels, extensions,"
    " created_us, updated_us, spec_type, spec"
)
_FIELDS: Final = {
    "image": "image",
    "spec": "spec",
    "snapshotkey": "snapshot_key",
    "snapshot_key": "snapshot_key",
    "sandboxid": "sandbox_id",
    "sandbox_id": "sandbox_id",
    "sandbox": "sandbox_id",
    "runtime": "runtime",
    "labels": "labels",
    "extensions": "extensions",
}
"""Paths a mask may name, and the attribute each sets."""


class Containers:
    """The rows of `containers` in the namespace of the request."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def get(self, id: str) -> Container:
        """Return a container.

        Raises:
          NotFound: there is none of that id in this namespace.
        """
        where = namespace()
        return await self._core.db.view(lambda tx: _get(tx, where, id))

    async def list(self, *texts: str) -> list[Container]:
        """Return the containers that any filter matches, by id."""
        where, wanted = namespace(), filters.parse_all(texts)

        def rows(tx: Tx) -> list[Container]:
            found = tx.execute(
                f"SELECT {_COLUMNS} FROM containers WHERE namespace = ? ORDER BY id",  # noqa: S608
                (where,),
            )
            return [_container(row) for row in found]

        return [one for one in await self._core.db.view(rows) if wanted.match(one)]

    async def create(self, container: Container) -> Container:
        """Add a container; on disk when it returns.

        Raises:
          AlreadyExists: the id is taken.
          InvalidArgument: a field is missing or malformed.
        """
        where = namespace()
        _check(container)

        def write(tx: Tx) -> Container:
            ensure_namespace(tx, where)
            now = now_us()
            new = dataclasses.replace(container, created_at=at(now), updated_at=at(now))
            done = tx.execute(
                f"INSERT OR IGNORE INTO containers (namespace, {_COLUMNS})"  # noqa: S608
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (where, *_row(new, now, now)),
            )
            if not done.rowcount:
                raise AlreadyExists(f"container {quoted(container.id)}: already exists")
            return new

        result = await self._core.write(write, durable=True)
        self._core.publish(
            where,
            "/containers/create",
            "ContainerCreate",
            id=result.id,
            image=result.image,
            runtime={"name": result.runtime.name, "options": result.runtime.options},
        )
        return result

    async def update(self, container: Container, fields: Sequence[str] = ()) -> Container:
        """Change what the mask names; without one, all but what is immutable.

        Raises:
          NotFound: there is none.
          InvalidArgument: the mask names something else, or an immutable field differs.
        """
        where = namespace()
        labels.paths_of(
            fields, _FIELDS, f"container {quoted(container.id)}", ("labels", "extensions")
        )

        def write(tx: Tx) -> Container:
            old = _get(tx, where, container.id)
            _check_immutable(old, container, fields)
            now = now_us()
            new = _applied(old, container, fields or tuple(_FIELDS))
            new = dataclasses.replace(new, updated_at=at(now))
            _check(new)
            assignments = ", ".join(f"{column.strip()} = ?" for column in _COLUMNS.split(","))
            created = tx.execute(
                "SELECT created_us FROM containers WHERE namespace = ? AND id = ?", (where, new.id)
            ).fetchone()[0]
            tx.execute(
                f"UPDATE containers SET {assignments} WHERE namespace = ? AND id = ?",  # noqa: S608
                (*_row(new, created, now), where, new.id),
            )
            return new

        result = await self._core.write(write, durable=True, deletes=True)
        self._core.publish(
            where,
            "/containers/update",
            "ContainerUpdate",
            id=result.id,
            image=result.image,
            labels=dict(result.labels),
            snapshot_key=result.snapshot_key,
        )
        return result

    async def delete(self, id: str, *, snapshots: Mapping[str, SnapshotView] | None = None) -> None:
        """Remove a container; its snapshot is garbage unless something else keeps it.

        This does not wait for the disk: should the machine die just now, the record may be back.

        With `snapshots` (`Metadata.snapshotters`) its snapshot goes in the same transaction.

        Raises:
          NotFound: there is none.
          FailedPrecondition: others stand upon its snapshot; nothing is removed.
        """
        where = namespace()

        def write(tx: Tx) -> tuple[SnapshotView, str, str] | None:
            old = _get(tx, where, id)
            tx.execute("DELETE FROM containers WHERE namespace = ? AND id = ?", (where, id))
            view = (snapshots or {}).get(old.snapshotter)
            if view is None or not old.snapshot_key:
                return None
            try:
                return view, old.snapshot_key, view.forget(tx, where, old.snapshot_key)
            except NotFound:
                return None

        gone = await self._core.write(write, deletes=True)
        self._core.publish(where, "/containers/delete", "ContainerDelete", id=id)
        if gone is not None:
            view, key, backend = gone
            await view.release(where, key, backend)


def merged_extensions(
    old: dict[str, Opaque], new: dict[str, Opaque], fields: Sequence[str]
) -> dict[str, Opaque]:
    """Apply a mask with `extensions` or `extensions.<name>` paths."""
    if "extensions" in fields:
        return dict(new)
    result = dict(old)
    for path in fields:
        if path.startswith("extensions."):
            name = path.removeprefix("extensions.")
            if name in new:
                result[name] = new[name]
            else:
                result.pop(name, None)
    return result


def _applied(old: Container, new: Container, fields: Sequence[str]) -> Container:
    changes: dict[str, Any] = {
        _FIELDS[path]: getattr(new, _FIELDS[path]) for path in fields if path in _FIELDS
    }
    changes["labels"] = labels.merged(old.labels, new.labels, fields)
    changes["extensions"] = merged_extensions(dict(old.extensions), dict(new.extensions), fields)
    return dataclasses.replace(old, **changes)


def _check_immutable(old: Container, new: Container, fields: Sequence[str]) -> None:
    if (not fields or "runtime" in fields) and new.runtime.name != old.runtime.name:
        raise InvalidArgument(f"container {quoted(old.id)}: Runtime.Name field is immutable")
    if not fields and new.snapshotter != old.snapshotter:
        raise InvalidArgument(f"container {quoted(old.id)}: Snapshotter field is immutable")


def _check(container: Container) -> None:
    identifiers.check(container.id, "container id")
    what = f"container {quoted(container.id)}"
    if not container.runtime.name:
        raise InvalidArgument(f"{what}: Runtime.Name must be set")
    if not container.spec.type_url and not container.spec.value:
        raise InvalidArgument(f"{what}: Spec must be set")
    if container.snapshot_key and not container.snapshotter:
        raise InvalidArgument(f"{what}: Snapshotter must be set if SnapshotKey is set")
    for name, extension in container.extensions.items():
        if not name or not extension.type_url:
            raise InvalidArgument(f"{what}: extension {quoted(name)} needs a name and a type URL")
    labels.check(container.labels)


def _row(one: Container, created_us: int, updated_us: int) -> tuple[Any, ...]:
    return (
        one.id,
        one.image,
        one.runtime.name,
        dump_options(one.runtime.options),
        one.snapshotter,
        one.snapshot_key,
        one.sandbox_id,
        labels.dump(one.labels),
        dump_extensions(one.extensions),
        created_us,
        updated_us,
        one.spec.type_url,
        one.spec.value,
    )


def _get(tx: Tx, where: str, id: str) -> Container:
    row = tx.execute(
        f"SELECT {_COLUMNS} FROM containers WHERE namespace = ? AND id = ?",  # noqa: S608
        (where, id),
    ).fetchone()
    if row is None:
        raise NotFound(f"container {quoted(id)} in namespace {quoted(where)}: not found")
    return _container(row)


def _container(row: tuple[Any, ...]) -> Container:
    (name, image, runtime, options, snapshotter, snapshot, sandbox, label_text, extensions) = row[
        :9
    ]
    created, updated, spec_type, spec = row[9:]
    return Container(
        id=name,
        image=image,
        runtime=Runtime(runtime, load_options(options)),
        spec=Opaque(spec_type, spec),
        snapshotter=snapshotter,
        snapshot_key=snapshot,
        sandbox_id=sandbox,
        labels=labels.load(label_text),
        extensions=load_extensions(extensions),
        created_at=at(created),
        updated_at=at(updated),
    )
