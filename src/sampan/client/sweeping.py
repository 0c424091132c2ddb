"""Containers with --rm whose owner died: whoever comes next clears them away.

The program that makes such a container locks `<folder>/owner` for as long as it lives, or until it
has left the container running. So a record with the label, whose lock can be taken and whose task
is gone or has ended, is nobody's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.client.containers import Folder, remove
from sampan.concurrency import to_thread
from sampan.errors import NotFound
from sampan.runtime import Status

if TYPE_CHECKING:
    from sampan.client import Client

__all__ = ["LABEL_REMOVE", "own", "sweep"]

LABEL_REMOVE: Final = "sampan/rm"
_YOUNG_S: Final = 5.0
_LEFT_S: Final = 3600.0


def own(folder: Path) -> int:
    """Make this process the owner of a container's folder; return the fd that says so.

    The file has its name only once it is locked: whoever finds it free knows that its owner died.
    """
    temporary = folder / f".owner.{os.getpid()}"
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(temporary, folder / "owner")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _take(folder: Path) -> int | None:
    """Lock the file of an owner who died; None if he lives, or there is none."""
    try:
        fd = os.open(folder / "owner", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


async def _sweep_folders(client: Client) -> int:
    """Remove folders and names of containers whose creation was cut short."""
    known = {one.id for one in await client.containers.list()}
    top = client.root / "containers" / client.namespace
    count = 0
    for folder in await to_thread(_strangers, top, known):
        fd = _take(folder)
        try:
            if fd is not None:
                # It may have got its record after we looked; whoever had the lock is dead by now.
                with suppress(NotFound):
                    await client.containers.get(folder.name)
                    continue
            await to_thread(shutil.rmtree, folder, True)
            count += 1
        finally:
            if fd is not None:
                os.close(fd)
    await to_thread(_sweep_names, top)
    return count


def _strangers(top: Path, known: set[str]) -> list[Path]:
    """Return folders without a record that a dead process left."""
    found = []
    try:
        names = os.listdir(top)
    except (FileNotFoundError, PermissionError):
        return []
    for name in names:
        folder = top / name
        if name == "names" or name in known:
            continue
        with suppress(OSError):
            if (folder / "owner").exists():
                fd = _take(folder)
                if fd is not None:
                    os.close(fd)
                    found.append(folder)
            elif name.startswith(".new.") and folder.stat().st_ctime < time.time() - _LEFT_S:
                found.append(folder)
    return found


def _sweep_names(top: Path) -> None:
    """Remove names without a folder, but for those whose folder is just about to be made."""
    with suppress(FileNotFoundError):
        for path in (top / "names").iterdir():
            with suppress(OSError):
                young = path.stat().st_ctime > time.time() - _YOUNG_S
                if not young and not (top / path.read_text()).is_dir():
                    path.unlink()


async def sweep(client: Client) -> int:
    """Remove what dead owners left in this namespace; return how many containers went."""
    count = 0
    count += await _sweep_folders(client)
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
