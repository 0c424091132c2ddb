"""A bundle: the folder of one task, from before its shim starts until its shim is gone."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from sampan.errors import AlreadyExists, NotFound
from sampan.model import identifiers

__all__ = ["Bundle", "bundles"]

TASKS: Final = "io.containerd.runtime.v2.task"


class Bundle:
    """`<state>/io.containerd.runtime.v2.task/<namespace>/<id>`; the room's front door draws it."""

    def __init__(self, state: Path, namespace: str, id: str) -> None:
        identifiers.check(namespace, "namespace")
        identifiers.check(id, "container id")
        self.namespace = namespace
        self.id = id
        self.path = state / TASKS / namespace / id
        self._sockets = state / "s"

    @property
    def rootfs(self) -> Path:
        """Where the shim mounts the root file system."""
        return self.path / "rootfs"

    @property
    def socket(self) -> Path:
        """Where the task's own shim listens; a hash, since such paths end at 107 bytes."""
        name = f"{self.path}".encode()
        return self._sockets / hashlib.sha256(name).hexdigest()[:40]

    def create(self, spec: bytes) -> None:
        """Make the folder, with modes that do not depend on the umask.

        Raises:
          AlreadyExists: there is one.
        """
        for folder, mode in ((self._sockets, 0o700), (self.path.parent, 0o711)):
            if not folder.is_dir():
                folder.mkdir(mode=mode, parents=True, exist_ok=True)
                folder.chmod(mode)
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            raise AlreadyExists(f"task {self.id} exists already: delete it first") from None
        self.path.chmod(0o700)
        self.rootfs.mkdir(mode=0o711)
        self.write("config.json", spec)

    def write(self, name: str, data: bytes) -> None:
        """Write a file at once; the folder does not outlive the machine, so nothing is synced."""
        temporary = self.path / f".{name}.{os.getpid()}"
        temporary.write_bytes(data)
        temporary.rename(self.path / name)

    def read(self, name: str) -> str:
        """Return a file's text, empty if there is none."""
        try:
            return (self.path / name).read_text("utf-8", "surrogateescape").strip()
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def exists(self) -> bool:
        """Tell whether there is a task of this id, dead or alive."""
        return self.path.is_dir()

    def require(self) -> None:
        """Raise NotFound unless it exists."""
        if not self.exists():
            raise NotFound(f"task {self.id} not found")

    def remove(self) -> None:
        """Remove the folder and the socket; refuses to cross into what is still mounted."""
        self.socket.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self.rootfs.rmdir()
        doomed = self.path.with_name(f".{self.id}.gone")
        try:
            self.path.rename(doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed, ignore_errors=True)


def bundles(state: Path, namespace: str | None = None) -> Iterator[Bundle]:
    """Yield the bundles below a state folder, of one namespace or of all."""
    top = state / TASKS
    names = [namespace] if namespace is not None else _names(top)
    for each in names:
        for name in _names(top / each):
            yield Bundle(state, each, name)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except FileNotFoundError:
        return []
