"""Sandboxes: the records of pods, kept for their sandboxers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from sampan.errors import AlreadyExists, InvalidArgument, NotFound
from sampan.metadata import Runtime, Sandbox, labels
from sampan.metadata.containers import merged_extensions
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
from sampan.model import filters, identifiers
from sampan.model.opaque import Opaque

__all__ = ["Sandboxes"]

_COLUMNS: Final = (
    "id, sandboxer, runtime, options, labels, extensions, created_us, updated_us, spec_type, spec"
)
_FIELDS: Final = ("labels", "extensions", "spec", "runtime")


class Sandboxes:
    """The rows of `sandboxes` in the namespace of the request."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def get(self, id: str) -> Sandbox:
        """Return a sandbox.

        Raises:
          NotFound: there is none of that id in this namespace.
        """
        where = namespace()
        return await self._core.db.view(lambda tx: _get(tx, where, id))

    async def list(self, *texts: str) -> list[Sandbox]:
        """Return the sandboxes that any filter matches, by id."""
        where, wanted = namespace(), filters.parse_all(texts)

        def rows(tx: Tx) -> list[Sandbox]:
            found = tx.execute(
                f"SELECT {_COLUMNS} FROM sandboxes WHERE namespace = ? ORDER BY id",  # noqa: S608
                (where,),
            )
            return [_sandbox(row) for row in found]

        return [one for one in await self._core.db.view(rows) if wanted.match(one)]

    async def create(self, sandbox: Sandbox) -> Sandbox:
        """Add a sandbox; on disk when it returns.

        Raises:
          AlreadyExists: the id is taken.
        """
        where = namespace()
        _check(sandbox)

        def write(tx: Tx) -> Sandbox:
            ensure_namespace(tx, where)
            now = now_us()
            new = dataclasses.replace(sandbox, created_at=at(now), updated_at=at(now))
            done = tx.execute(
                f"INSERT OR IGNORE INTO sandboxes (namespace, {_COLUMNS})"  # noqa: S608
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (where, *_row(new, now, now)),
            )
            if not done.rowcount:
                raise AlreadyExists(f"sandbox {quoted(sandbox.id)}: already exists")
            return new

        return await self._core.write(write, durable=True)

    async def update(self, sandbox: Sandbox, fields: Sequence[str] = ()) -> Sandbox:
        """Change labels, extensions, spec or runtime by mask; without one, all of these.

        Raises:
          NotFound: there is none.
          InvalidArgument: the mask names something else.
        """
        where = namespace()
        labels.paths_of(fields, _FIELDS, f"sandbox {quoted(sandbox.id)}", ("labels", "extensions"))
        paths = fields or _FIELDS

        def write(tx: Tx) -> Sandbox:
            old = _get(tx, where, sandbox.id)
            now = now_us()
            new = dataclasses.replace(
                old,
                labels=labels.merged(old.labels, sandbox.labels, paths),
                extensions=merged_extensions(dict(old.extensions), dict(sandbox.extensions), paths),
                spec=sandbox.spec if "spec" in paths else old.spec,
                runtime=sandbox.runtime if "runtime" in paths else old.runtime,
                updated_at=at(now),
            )
            _check(new)
            tx.execute(
                "UPDATE sandboxes SET runtime = ?, options = ?, labels = ?, extensions = ?,"
                " updated_us = ?, spec_type = ?, spec = ? WHERE namespace = ? AND id = ?",
                (
                    new.runtime.name,
                    dump_options(new.runtime.options),
                    labels.dump(new.labels),
                    dump_extensions(new.extensions),
                    now,
                    new.spec.type_url,
                    new.spec.value,
                    where,
                    new.id,
                ),
            )
            return new

        return await self._core.write(write, durable=True, deletes=True)

    async def delete(self, id: str) -> None:
        """Remove a sandbox.

        Raises:
          NotFound: there is none.
        """
        where = namespace()

        def write(tx: Tx) -> None:
            done = tx.execute("DELETE FROM sandboxes WHERE namespace = ? AND id = ?", (where, id))
            if not done.rowcount:
                raise NotFound(f"sandbox {quoted(id)}: not found")

        await self._core.write(write, durable=True, deletes=True)


def _check(sandbox: Sandbox) -> None:
    identifiers.check(sandbox.id, "sandbox id")
    for name, extension in sandbox.extensions.items():
        if not name or not extension.type_url:
            raise InvalidArgument(
                f"sandbox {quoted(sandbox.id)}: extension {quoted(name)} needs a name and a type"
            )
    labels.check(sandbox.labels)


def _row(one: Sandbox, created_us: int, updated_us: int) -> tuple[Any, ...]:
    return (
        one.id,
        one.sandboxer,
        one.runtime.name,
        dump_options(one.runtime.options),
        labels.dump(one.labels),
        dump_extensions(one.extensions),
        created_us,
        updated_us,
        one.spec.type_url,
        one.spec.value,
    )


def _get(tx: Tx, where: str, id: str) -> Sandbox:
    row = tx.execute(
        f"SELECT {_COLUMNS} FROM sandboxes WHERE namespace = ? AND id = ?",  # noqa: S608
        (where, id),
    ).fetchone()
    if row is None:
        raise NotFound(f"sandbox {quoted(id)}: not found")
    return _sandbox(row)


def _sandbox(row: tuple[Any, ...]) -> Sandbox:
    name, sandboxer, runtime, options, label_text, extensions = row[:6]
    created, updated, spec_type, spec = row[6:]
    return Sandbox(
        id=name,
        sandboxer=sandboxer,
        runtime=Runtime(runtime, load_options(options)),
        spec=Opaque(spec_type, spec),
        labels=labels.load(label_text),
        extensions=load_extensions(extensions),
        created_at=at(created),
        updated_at=at(updated),
    )
