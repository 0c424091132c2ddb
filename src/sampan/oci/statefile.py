"""The folder of one container's state, safe under concurrent commands and a kill at any point.

    <root>/<id>/            0711
        config.json         as create was given it, written once
        state.json          replaced by rename; missing while create has not come that far
        lock                OFD lock: held by each command that changes the container
        exec.fifo           what init waits at; removed by start

What must be undone is written before it is done: state.json names the cgroups before they are
made, and init's pid before init goes on. A folder whose state.json says `creating`, or that has
none, and whose lock is free is a create that died: `delete --force` removes all of it.
"""

# ruff: noqa: SIM105  contextlib is slow to import

from __future__ import annotations

import os
import select
import time

from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from sampan.linux import fds
from sampan.model.runtime.document import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

__all__ = ["StateFolder", "check_id", "list_ids"]

_VERSION = 1
_LOCK_TIMEOUT_S = 20.0
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
    """Entered as a context, it holds the lock; contexts nest."""

    __slots__ = ("_depth", "_lock", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = -1
        self._depth = 0

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

    def lock(self, timeout_s: float = _LOCK_TIMEOUT_S) -> None:
        """Wait for the lock and hold it.

        Raises:
          NotFound: the container was deleted meanwhile.
          FailedPrecondition: another command has held it for `timeout_s`.
        """
        try:
            self._lock = os.open(f"{self.path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as err:
            raise NotFound("container does not exist") from err
        deadline = 0.0
        wait_ms = 1
        while not fds.lock(self._lock):
            now = time.monotonic()
            deadline = deadline or now + timeout_s
            if now >= deadline:
                self.unlock()
                raise FailedPrecondition(
                    f"another command has been changing the container for {timeout_s:g} s: "
                    f"its lock is {self.path}/lock"
                )
            select.poll().poll(wait_ms)
            wait_ms = min(2 * wait_ms, 20)
        if not os.fstat(self._lock).st_nlink:
            self.unlock()
            raise NotFound("container does not exist")

    def unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        if not self._depth and self._lock < 0:
            self.lock()
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.unlock()

    def write_config(self, text: bytes) -> None:
        """Keep config.json for commands to come."""
        self._replace("config.json", text)

    def read_config(self) -> bytes:
        """Return config.json as it was at create."""
        return self._read("config.json")

    def write(self, document: dict[str, Any]) -> None:
        """Replace state.json. Not synced: after a crash of the host there is no container."""
        self._replace("state.json", dumps({"sampan": _VERSION, **document}).encode())

    def read(self) -> dict[str, Any]:
        """Return state.json.

        Raises:
          NotFound: the container's create has not come that far, or died.
        """
        document: dict[str, Any] = loads(self._read("state.json"))
        return document

    def _read(self, name: str) -> bytes:
        try:
            with open(f"{self.path}/{name}", "rb") as file:
                return file.read()
        except FileNotFoundError as err:
            raise NotFound("container does not exist: its creation was not completed") from err

    def _replace(self, name: str, text: bytes) -> None:
        temporary = f"{self.path}/{name}.tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fds.write_all(fd, text)
        finally:
            os.close(fd)
        os.rename(temporary, f"{self.path}/{name}")

    def make_fifo(self) -> int:
        """Make exec.fifo and return an fd for the child (read and write: it never sees EOF)."""
        os.mkfifo(self.fifo, 0o600)
        return os.open(self.fifo, os.O_RDWR | os.O_CLOEXEC)

    def remove(self) -> None:
        """Remove the folder and all in it; state.json goes last but one."""
        try:
            names = sorted(os.listdir(self.path), key=lambda name: name in ("state.json", "lock"))
        except FileNotFoundError:
            names = []
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
