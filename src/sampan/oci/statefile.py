"""The folder of one container's state, safe under concurrent commands and a kill at any point.

    <root>/<id>/            0711
        state.json          replaced by rename; missing while create has not come that far
        lock                OFD lock: held by each command that changes the container
        exec.fifo           what init waits at; removed by start

A folder without a state.json and without a holder of its lock is a create that died: `load` says so
and `delete --force` removes it, cgroups included when state.json had been written.
"""

# ruff: noqa: SIM105  contextlib is slow to import

from __future__ import annotations

import os

from sampan.errors import AlreadyExists, InvalidArgument, NotFound
from sampan.linux import fds
from sampan.model.runtime.document import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["StateFolder", "check_id", "list_ids"]

_VERSION = 1
_ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-")


def check_id(id: str) -> None:
    """Raise InvalidArgument unless `id` may name a container."""
    if not id:
        raise InvalidArgument("container id cannot be empty")
    if id in (".", "..") or len(id) > 1024 or not _ID_LETTERS.issuperset(id):
        raise InvalidArgument("invalid container ID format")


def list_ids(root: str) -> list[str]:
    """Return the ids of all containers below `root`, sorted.

    Raises:
      NotFound: there is no such root.
    """
    try:
        names = os.listdir(root)
    except FileNotFoundError as err:
        raise NotFound(f"open {root}: no such file or directory") from err
    return sorted(n for n in names if not n.startswith(".") and os.path.isdir(f"{root}/{n}"))


class StateFolder:
    __slots__ = ("_lock", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = -1

    @property
    def fifo(self) -> str:
        return f"{self.path}/exec.fifo"

    @classmethod
    def make(cls, root: str, id: str) -> StateFolder:
        """Make the folder, which claims the id, and lock it."""
        check_id(id)
        os.makedirs(root, 0o711, exist_ok=True)
        folder = cls(f"{root}/{id}")
        try:
            os.mkdir(folder.path, 0o711)
        except FileExistsError as err:
            raise AlreadyExists("container with given ID already exists") from err
        os.chmod(folder.path, 0o711)  # noqa: S103  independent of the umask: CVE-2021-41103
        folder.lock()
        return folder

    @classmethod
    def open(cls, root: str, id: str) -> StateFolder:
        """Return the folder of a container that exists."""
        check_id(id)
        folder = cls(f"{root}/{id}")
        if not os.path.isdir(folder.path):
            raise NotFound("container does not exist")
        return folder

    def lock(self) -> None:
        """Wait for the lock and hold it."""
        self._lock = os.open(f"{self.path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fds.lock(self._lock, wait=True)

    def unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def write(self, document: dict[str, Any]) -> None:
        """Replace state.json. Not synced: after a crash of the host there is no container."""
        temporary = f"{self.path}/state.json.tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fds.write_all(fd, dumps({"sampan": _VERSION, **document}).encode())
        finally:
            os.close(fd)
        os.rename(temporary, f"{self.path}/state.json")

    def read(self) -> dict[str, Any]:
        """Return state.json.

        Raises:
          NotFound: the container's create has not come that far, or died.
        """
        try:
            with open(f"{self.path}/state.json", "rb") as file:
                document: dict[str, Any] = loads(file.read())
        except FileNotFoundError as err:
            raise NotFound("container does not exist: its creation was not completed") from err
        return document

    def make_fifo(self) -> int:
        """Make exec.fifo and return an fd for the child (read and write: it never sees EOF)."""
        os.mkfifo(self.fifo, 0o600)
        return os.open(self.fifo, os.O_RDWR | os.O_CLOEXEC)

    def remove(self) -> None:
        """Remove the folder and all in it; state.json goes last but one."""
        names = sorted(os.listdir(self.path), key=lambda name: name == "state.json")
        for name in names:
            try:
                os.unlink(f"{self.path}/{name}")
            except FileNotFoundError:
                pass
        self.unlock()
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            pass
