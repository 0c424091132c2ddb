"""Containers with --rm whose owner died: whoever comes next clears them away.

The program that makes such a container locks `<folder>/owner` for as long as it lives, or until it
has left the container running. So a record with the label, whose lock can be taken and whose task
is gone or has ended, is nobody's.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.client.containers import Folder, remove
from sampan.errors import NotFound
from sampan.runtime import Status

if TYPE_CHECKING:
    from sampan.client import Client

__all__ = ["LABEL_REMOVE", "own", "sweep"]

LABEL_REMOVE: Final = "sampan/rm"


def own(folder: Path) -> int:
    """Make this process the owner of a container's folder; return the fd that says so."""
    fd = os.open(folder / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _take(folder: Path) -> int | None:
    try:
        return own(folder)
    except (BlockingIOError, FileNotFoundError):
        return None


async def sweep(client: Client) -> int:
    """Remove what dead owners left in this namespace; return how many containers went."""
    count = 0
    for container in await client.containers.list(f'labels."{LABEL_REMOVE}"==true'):
        folder = Folder(client, container.id)
        fd = _take(folder.path)
        if fd is None:
            continue
        try:
            try:
                ended = (await client.tasks.state(container.id)).status is Status.STOPPED
            except NotFound:
                ended = True
            if ended:
                await remove(client, container, force=True, volumes=True)
                count += 1
        except NotFound:
            continue  # somebody else was quicker
        finally:
            os.close(fd)
    return count
