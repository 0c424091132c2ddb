"""A bundle: the folder of one task, from before its shim starts until its shim is gone.

Who changes what a bundle stands for (creates, buries, removes) holds a lock on the folder itself,
so that no other caller or process takes a creation under way for a task whose shim has died:

    .<id>.<pid>.new   locked, filled ─ rename ─▶ <id> ─ unlock when Create was answered
    <id>              locked, buried: gets the file `exit`
    <id>              locked ─ rename ─▶ .<id>.gone ─ removed

Everything here blocks, for microseconds on a tmpfs: call it in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sampan.errors import AlreadyExists, NotFound, ResourceExhausted, Unavailable
from sampan.model import identifiers

__all__ = ["TASKS", "Bundle", "Lock", "bundles", "root_group", "sweep"]

TASKS: Final = "io.containerd.runtime.v2.task"
_POLL_S: Final = 0.01
_TAKEN: Final = (errno.EEXIST, errno.ENOTEMPTY)


class Lock:
    """An advisory lock on a bundle's folder; the kernel drops it when its process dies."""

    def __init__(self) -> None:
        self._fd = -1

    def take(self, folder: Path, timeout_s: float = 0.0) -> None:
        """Lock the folder, waiting for at most `timeout_s`.

        Raises:
          FileNotFoundError: there is no such folder, or it was replaced while we waited.
          Unavailable: somebody else holds it.
        """
        until_s = time.monotonic() + timeout_s
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _check_same(fd, folder)
                break
            except BlockingIOError:
                if time.monotonic() < until_s:
                    time.sleep(_POLL_S)
                    continue
                os.close(fd)
                raise Unavailable(
                    f"task {folder.name} is being created or deleted by somebody else: try again"
                ) from None
            except BaseException:
                os.close(fd)
                raise
        self._fd = fd

    def release(self) -> None:
        """Unlock; harmless when not locked."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _check_same(fd: int, folder: Path) -> None:
    if not os.path.samestat(os.fstat(fd), os.stat(folder)):
        raise FileNotFoundError(errno.ENOENT, "replaced meanwhile", os.fspath(folder))


class Bundle:
    """`<state>/io.containerd.runtime.v2.task/<namespace>/<id>`; the room's front door draws it."""

    KIND: str = TASKS

    def __init__(self, state: Path, namespace: str, id: str) -> None:
        identifiers.check(namespace, "namespace")
        identifiers.check(id, "container id")
        self.namespace = namespace
        self.id = id
        self.path = state / self.KIND / namespace / id
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

    def create(self, spec: bytes, lock: Lock, files: dict[str, bytes], gid: int = 0) -> None:
        """Make the folder, complete and locked by `lock`, with modes whatever the umask.

        Args:
          spec: config.json.
          lock: Taken here; released by the caller when the task is made or undone.
          files: More of them, by name.
          gid: Group that may pass through to the rootfs: that of a user namespace's root.

        Raises:
          AlreadyExists: there is one.
          ResourceExhausted: the state folder is full.
        """
        for folder, mode in ((self._sockets, 0o700), (self.path.parent, 0o711)):
            if not folder.is_dir():
                folder.mkdir(mode=mode, parents=True, exist_ok=True)
                folder.chmod(mode)
        if self.path.exists():
            raise AlreadyExists(f"task {self.id}: already exists")
        made = self.path.with_name(f".{self.id}.{os.getpid()}.{id(lock):x}.new")
        try:
            os.mkdir(made, 0o700)
            lock.take(made)
            os.mkdir(made / "rootfs", 0o711)
            if gid:
                os.chown(made, -1, gid)
                os.chmod(made, 0o710)  # noqa: S103  passed through, not read
            for name, data in {"config.json": spec, **files}.items():
                _write(made / name, data)
            os.rename(made, self.path)
        except OSError as err:
            lock.release()
            shutil.rmtree(made, ignore_errors=True)
            if err.errno in _TAKEN:
                raise AlreadyExists(f"task {self.id}: already exists") from err
            raise ResourceExhausted(f"write bundle {self.path}: {err.strerror}") from err

    def write(self, name: str, data: bytes) -> None:
        """Write a file at once; the folder does not outlive the machine, so nothing is synced."""
        temporary = self.path / f".{name}.{os.getpid()}"
        _write(temporary, data)
        os.rename(temporary, self.path / name)

    def read(self, name: str) -> str:
        """Return a file's text, empty if there is none."""
        try:
            return (self.path / name).read_text("utf-8", "surrogateescape").strip()
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def read_bytes(self, name: str) -> bytes:
        """Return a file's bytes, empty if there is none."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return b""

    def exists(self) -> bool:
        """Tell whether there is a task of this id, dead or alive."""
        return self.path.is_dir()

    def require(self) -> None:
        """Raise NotFound unless it exists."""
        if not self.exists():
            raise NotFound(f"task {self.id}: not found")

    def remove(self) -> None:
        """Remove the folder and the socket; refuses to cross into what is still mounted.

        Raises:
          OSError: EBUSY, the rootfs is mounted.
        """
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(self.rootfs)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        doomed = self.path.with_name(f".{self.id}.{time.monotonic_ns():x}.gone")
        try:
            os.rename(self.path, doomed)
        except FileNotFoundError:
            return
        _remove(doomed)


def _write(file: Path, data: bytes) -> None:
    # Specs hold environments, and those hold secrets.
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb", buffering=0) as out:
        out.write(data)


def _remove(folder: Path) -> None:
    """Remove a folder of plain files, without what rmtree costs; fall back to it."""
    try:
        for name in os.listdir(folder):
            os.unlink(folder / name)
        os.rmdir(folder)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)


def root_group(spec: bytes) -> int:
    """Return the host's id of group 0 in the user namespace that a config.json asks for, or 0."""
    if b'"gidMappings"' not in spec:
        return 0
    try:
        maps = json.loads(spec)["linux"]["gidMappings"]
        return next((int(one["hostID"]) for one in maps if one["containerID"] == 0), 0)
    except (ValueError, KeyError, TypeError):
        return 0  # the runtime says what is wrong with it


def bundles(state: Path, namespace: str | None = None) -> Iterator[Bundle]:
    """Yield the bundles below a state folder, of one namespace or of all."""
    top = state / TASKS
    names = [namespace] if namespace is not None else _names(top)
    for each in names:
        for name in _names(top / each):
            yield Bundle(state, each, name)


def sweep(state: Path) -> None:
    """Remove what creations and removals that were cut short have left; the living are locked."""
    for namespace in _names(state / TASKS):
        folder = state / TASKS / namespace
        for name in os.listdir(folder):
            if not (name.startswith(".") and name.endswith((".new", ".gone"))):
                continue
            with Lock() as lock, contextlib.suppress(OSError, Unavailable):
                lock.take(folder / name)
                _remove(folder / name)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
