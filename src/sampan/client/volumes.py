"""Named volumes: folders that outlive containers.

<root>/volumes/<namespace>/<name>/
  _data/            what is mounted
  volume.json       labels, whether a name was given, when it was made
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.concurrency import to_thread
from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

if TYPE_CHECKING:
    from sampan.client import Client

__all__ = ["LABEL", "NamedVolume", "Volumes"]

LABEL: Final = "sampan/volumes"
"""Of a container: names of the volumes it uses, with commas between."""
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NamedVolume:
    """A volume."""

    name: str
    path: Path
    """The folder that is mounted."""
    created_at: datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False
    """Nobody gave it a name: it goes with its container when that is removed with its volumes."""


class Volumes:
    """The volumes of a client's namespace."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._top = client.root / "volumes" / client.namespace

    async def create(
        self, name: str = "", *, labels: Mapping[str, str] | None = None, exist_ok: bool = False
    ) -> NamedVolume:
        """Make one; without a name, an anonymous one.

        Raises:
          AlreadyExists: the name is taken, unless `exist_ok`.
          InvalidArgument: it is no name.
        """
        if name and not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"volume name {name!r} is refused: letters, digits and _.- only, not first"
            )
        return await to_thread(self._create, name, dict(labels or {}), exist_ok)

    def _create(self, name: str, labels: dict[str, str], exist_ok: bool) -> NamedVolume:
        chosen = name or secrets.token_hex(32)
        self._top.mkdir(mode=0o711, parents=True, exist_ok=True)
        # Whole or not at all: made aside and renamed, which fails on a folder that is not empty.
        temporary = self._top / f".{secrets.token_hex(8)}"
        temporary.mkdir(mode=0o711)
        try:
            (temporary / "_data").mkdir()
            (temporary / "_data").chmod(0o755)
            made = datetime.now(UTC)
            values = {"created": made.isoformat(), "labels": labels, "anonymous": not name}
            (temporary / "volume.json").write_text(json.dumps(values))
            os.rename(temporary, self._top / chosen)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            if not (self._top / chosen).is_dir():
                raise
            if not exist_ok:
                raise AlreadyExists(f"volume {chosen} exists") from None
            return self._read(chosen)
        return NamedVolume(chosen, self._top / chosen / "_data", made, labels, not name)

    def _read(self, name: str) -> NamedVolume:
        if not _NAME.fullmatch(name):
            raise NotFound(f"no such volume: {name}")
        folder = self._top / name
        try:
            values = json.loads((folder / "volume.json").read_text())
        except (OSError, ValueError):
            raise NotFound(f"no such volume: {name}; see `sampan volume ls`") from None
        return NamedVolume(
            name,
            folder / "_data",
            datetime.fromisoformat(values["created"]),
            values.get("labels", {}),
            bool(values.get("anonymous")),
        )

    async def get(self, name: str) -> NamedVolume:
        """Return one.

        Raises:
          NotFound: there is none.
        """
        return await to_thread(self._read, name)

    async def list(self) -> Sequence[NamedVolume]:
        """Return all, by name."""
        return await to_thread(self._list)

    def _list(self) -> Sequence[NamedVolume]:
        try:
            names = sorted(os.listdir(self._top))
        except FileNotFoundError:
            return []
        return [self._read(name) for name in names if not name.startswith(".")]

    async def users(self, name: str) -> Sequence[str]:
        """Return the ids of the containers that use it."""
        containers = await self._client.containers.list()
        return [one.id for one in containers if name in one.labels.get(LABEL, "").split(",")]

    async def remove(self, name: str) -> None:
        """Remove a volume and what is in it.

        Raises:
          NotFound: there is none.
          FailedPrecondition: a container uses it.
        """
        await self.get(name)
        users = await self.users(name)
        if users:
            raise FailedPrecondition(
                f"volume {name} is in use by container {users[0][:12]}: remove that first"
            )
        await to_thread(self._remove, name)

    def _remove(self, name: str) -> None:
        aside = self._top / f".{secrets.token_hex(8)}"
        os.rename(self._top / name, aside)
        shutil.rmtree(aside)

    async def prune(self, *, all: bool = False) -> Sequence[str]:
        """Remove anonymous volumes, or all, that no container uses; return their names."""
        gone = []
        for one in await self.list():
            if (one.anonymous or all) and not await self.users(one.name):
                await self.remove(one.name)
                gone.append(one.name)
        return gone
