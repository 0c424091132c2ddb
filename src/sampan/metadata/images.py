"""Images: names for descriptors."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from sampan import context
from sampan.errors import AlreadyExists, InvalidArgument, NotFound
from sampan.metadata import Image, labels
from sampan.metadata.core import (
    Core,
    at,
    ensure_namespace,
    keep_by_lease,
    namespace,
    now_us,
    quoted,
)
from sampan.metadata.db import Tx
from sampan.model import digest as digests
from sampan.model import filters
from sampan.model.descriptor import Descriptor
from sampan.model.digest import Digest

__all__ = ["Images"]

_COLUMNS: Final = "name, target, labels, created_us, updated_us"
_target: Final = msgspec.json.Decoder(Descriptor)


class Images:
    """The rows of `images` in the namespace of the request."""

    def __init__(self, core: Core, collect: Callable[[], Awaitable[object]]) -> None:
        self._core = core
        self._collect = collect

    async def get(self, name: str) -> Image:
        """Return an image.

        Raises:
          NotFound: there is none of that name in this namespace.
        """
        where = namespace()
        return await self._core.db.view(lambda tx: _get(tx, where, name))

    async def list(self, *texts: str) -> list[Image]:
        """Return the images that any filter matches, by name."""
        where, wanted = namespace(), filters.parse_all(texts)

        def rows(tx: Tx) -> list[Image]:
            found = tx.execute(
                f"SELECT {_COLUMNS} FROM images WHERE namespace = ? ORDER BY name",  # noqa: S608
                (where,),
            )
            return [_image(row) for row in found]

        return [one for one in await self._core.db.view(rows) if wanted.match(one)]

    async def create(self, image: Image) -> Image:
        """Add an image; on disk when it returns.

        Raises:
          AlreadyExists: the name is taken.
          InvalidArgument: no name, or no proper target.
        """
        result = await self._put(image, replace=False)
        return result[0]

    async def put(self, image: Image) -> Image:
        """Add an image, or replace the target and labels of the one that has the name."""
        result = await self._put(image, replace=True)
        return result[0]

    async def _put(self, image: Image, *, replace: bool) -> tuple[Image, bool]:
        where, lease = namespace(), context.lease()
        _check(image)

        def write(tx: Tx) -> tuple[Image, bool]:
            row = tx.execute(
                "SELECT created_us FROM images WHERE namespace = ? AND name = ?",
                (where, image.name),
            ).fetchone()
            if row is not None and not replace:
                raise AlreadyExists(f"image {quoted(image.name)}: already exists")
            ensure_namespace(tx, where)
            keep_by_lease(tx, where, lease, "images", image.name)
            now = now_us()
            created = row[0] if row else now
            _save(tx, where, image, created, now)
            return dataclasses.replace(image, created_at=at(created), updated_at=at(now)), bool(row)

        result, existed = await self._core.write(write, durable=True, deletes=replace)
        verb, message = ("update", "ImageUpdate") if existed else ("create", "ImageCreate")
        self._tell(where, verb, message, result)
        return result, existed

    async def update(self, image: Image, fields: Sequence[str] = ()) -> Image:
        """Change `target`, `labels` or `labels.<key>`; without a mask all of these.

        Raises:
          NotFound: there is none.
          InvalidArgument: the mask names something else.
        """
        where = namespace()
        labels.paths_of(fields, ("target", "labels"), f"image {quoted(image.name)}")

        def write(tx: Tx) -> Image:
            old = _get(tx, where, image.name)
            new = dataclasses.replace(
                old,
                target=image.target if not fields or "target" in fields else old.target,
                labels=labels.merged(old.labels, image.labels, fields),
                updated_at=at(now := now_us()),
            )
            _check(new)
            _save(tx, where, new, None, now)
            return new

        result = await self._core.write(write, durable=True, deletes=True)
        self._tell(where, "update", "ImageUpdate", result)
        return result

    async def delete(self, name: str, *, target: Digest | None = None, sync: bool = False) -> None:
        """Remove a name; what it alone kept is garbage. `sync` collects before it returns.

        Args:
          name: The image.
          target: Only if it still has this digest.
          sync: Wait for a collection.

        Raises:
          NotFound: there is none, or its target is another.
        """
        where = namespace()

        def write(tx: Tx) -> None:
            image = _get(tx, where, name)
            if target is not None and image.target.digest != target:
                raise NotFound(
                    f"image {quoted(name)} with target {target}: it is {image.target.digest} now"
                )
            tx.execute("DELETE FROM images WHERE namespace = ? AND name = ?", (where, name))

        await self._core.write(write, durable=True, deletes=True)
        self._core.publish(where, "/images/delete", "ImageDelete", name=name)
        if sync:
            await self._collect()

    def _tell(self, where: str, verb: str, message: str, image: Image) -> None:
        self._core.publish(
            where, f"/images/{verb}", message, name=image.name, labels=dict(image.labels)
        )


def _save(tx: Tx, where: str, image: Image, created_us: int | None, updated_us: int) -> None:
    """Write the row; `created_us` None leaves that column of an existing row."""
    tx.execute(
        "INSERT INTO images (namespace, name, digest, target, labels, created_us, updated_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (namespace, name) DO UPDATE SET"
        " digest = excluded.digest, target = excluded.target, labels = excluded.labels,"
        " updated_us = excluded.updated_us",
        (
            where,
            image.name,
            image.target.digest,
            msgspec.json.encode(image.target).decode(),
            labels.dump(image.labels),
            created_us or 0,
            updated_us,
        ),
    )


def _check(image: Image) -> None:
    if not image.name:
        raise InvalidArgument("image name must not be empty")
    digests.parse(image.target.digest)
    if not image.target.media_type:
        raise InvalidArgument(f"image {quoted(image.name)}: target.mediaType must be set")
    if image.target.size <= 0:
        raise InvalidArgument(f"image {quoted(image.name)}: target.size must be greater than zero")
    labels.check(image.labels)


def _get(tx: Tx, where: str, name: str) -> Image:
    row = tx.execute(
        f"SELECT {_COLUMNS} FROM images WHERE namespace = ? AND name = ?",  # noqa: S608
        (where, name),
    ).fetchone()
    if row is None:
        raise NotFound(f"image {quoted(name)}: not found")
    return _image(row)


def _image(row: tuple[Any, ...]) -> Image:
    name, target, label_text, created, updated = row
    return Image(
        name=name,
        target=_target.decode(target),
        labels=labels.load(label_text),
        created_at=at(created),
        updated_at=at(updated),
    )
