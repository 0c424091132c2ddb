"""Who is alive on this root: each process holds a lock that dies with it.

    <root>/owners/
      3f0c…e1    an OFD write lock on it is held by the process whose owner id is 3f0c…e1
      91aa…07    nobody holds its lock: that process is dead; what it left half done may be undone

Names of things in progress contain an owner id. Before anybody undoes such a thing, he asks
`is_alive`; a dead owner's file is removed by `reap` once nothing names it any more. OFD locks
belong to the open file, so neither threads nor closing another fd of it let them go; the fd is
close-on-exec, and the daemon never forks, so that nobody inherits our life.

Source: fcntl(2), open file description locks.
"""

from __future__ import annotations

import fcntl
import os
import struct
import uuid
from pathlib import Path
from typing import Final

from sampan.concurrency.trace import trace
from sampan.errors import Unavailable

__all__ = ["Owners"]

_LOCK: Final = struct.Struct("hhqqi4x")
"""struct flock: l_type, l_whence, l_start, l_len, l_pid."""


class Owners:
    """The folder of owners, and this process's place in it. Owns one fd. Calls block, shortly."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.id, self._fd = self._enter()

    def _enter(self) -> tuple[str, int]:
        for _ in range(100):
            name = uuid.uuid4().hex
            fd = os.open(
                self._folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            trace("owners.created")
            if _lock(fd) and os.fstat(fd).st_nlink:
                return name, fd
            # Someone took the file for a dead owner's between our two calls: use another name.
            os.close(fd)
        raise Unavailable(f"cannot hold a lock in {self._folder}: others remove it each time")

    def is_alive(self, owner: str) -> bool:
        """Tell whether the process with this id lives; false for ids nobody has."""
        if owner == self.id:
            return self._fd >= 0
        try:
            fd = os.open(self._folder / owner, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _is_free(fd)
        finally:
            os.close(fd)

    def alive(self) -> frozenset[str]:
        """Return the ids of all live owners, ours included."""
        return frozenset(name for name in os.listdir(self._folder) if self.is_alive(name))

    def reap(self) -> list[str]:
        """Remove the files of dead owners and return their ids."""
        dead = []
        for name in os.listdir(self._folder):
            if name == self.id:
                continue
            try:
                fd = os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                # Locked while we unlink, so that a newcomer who has created but not yet locked
                # the file finds it gone (its link count is zero) and takes another name.
                if _lock(fd):
                    os.unlink(self._folder / name)
                    dead.append(name)
            except FileNotFoundError:
                continue
            finally:
                os.close(fd)
        return dead

    def close(self) -> None:
        """Leave: remove our file and release the lock. Idempotent."""
        if self._fd >= 0:
            (self._folder / self.id).unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def _lock(fd: int) -> bool:
    """Try to take the lock, for as long as the open file lives."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except BlockingIOError:
        return False
    return True


def _is_free(fd: int) -> bool:
    """Ask whether the lock could be taken, without taking it: a test must not disturb its owner."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    kind: int = _LOCK.unpack(answer)[0]
    return kind == fcntl.F_UNLCK
