"""The mounts of a task's rootfs, as far as its shim cannot make them by itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from sampan.errors import AlreadyExists, NotFound, SampanError, Unimplemented
from sampan.model.mounts import Mount
from sampan.runtime.mounting import MountManager

__all__ = ["TaskMounts"]

log = logging.getLogger(__name__)

_BACK: Final = "containerd.io/gc.bref.container"


class TaskMounts:
    """Activations named for their container, from its task's creation to its deletion."""

    def __init__(self, mounts: MountManager) -> None:
        self._mounts = mounts

    async def activate(self, id: str, rootfs: Sequence[Mount]) -> tuple[list[Mount], bool]:
        """Return what the shim is to mount, and whether something was activated for it.

        What an earlier try of the same container activated is used again.
        """
        try:
            made = await self._mounts.activate(id, _spelled_out(rootfs), labels={_BACK: id})
        except Unimplemented:
            return list(rootfs), False
        except AlreadyExists:
            return list((await self._mounts.info(id)).system), False
        return list(made.system), True

    async def deactivate(self, id: str) -> None:
        """Undo it; most tasks have none."""
        with suppress(NotFound):
            try:
                await self._mounts.deactivate(id)
            except NotFound:
                raise
            except SampanError as err:
                log.warning("mounts of a task are left: container=%s: %s", id, err)


def _spelled_out(rootfs: Sequence[Mount]) -> list[Mount]:
    """Return the mounts with each option `loop` as the two mounts that it stands for."""
    if any(mount.type.startswith("format/") for mount in rootfs):
        return list(rootfs)
    found: list[Mount] = []
    for mount in rootfs:
        if "loop" not in mount.options or "bind" in mount.options:
            found.append(mount)
            continue
        options = tuple(option for option in mount.options if option != "loop")
        read_only = ("ro",) if "ro" in options else ()
        found.append(Mount("loop", mount.source, "", read_only))
        device = f"{{{{ mount {len(found) - 1} }}}}"
        found.append(replace(mount, type=f"format/{mount.type}", source=device, options=options))
    return found
