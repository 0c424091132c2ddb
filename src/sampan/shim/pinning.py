"""Namespaces of a pod that live without a process: made in a worker of the zygote, held by mounts.

    <folder>/ns/user     first, when the pod has one, since it is to own all others
    <folder>/ns/ipc uts  made inside it
    <folder>/shm         a tmpfs for every container of the pod

The worker writes the pod's sysctls and host name from inside, and ends.
"""

from __future__ import annotations

import errno
import os

from sampan.linux import mounts, namespaces, process
from sampan.model.runtime.document import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["pin", "pin_user"]

_MS_BIND, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 4096, 2, 4, 8
_FLAGS = {"ipc": namespaces.CLONE_NEWIPC, "uts": namespaces.CLONE_NEWUTS}


def pin_user(payload: bytes, fds: list[int]) -> int:
    """Pin a new user namespace at `path`, with maps `uids` and `gids`; the error goes to fds[0]."""
    return _told(fds, lambda: _user(loads(payload)))


def pin(payload: bytes, fds: list[int]) -> int:
    """Pin `kinds` below `folder`, and set them up; the error goes to fds[0]."""
    return _told(fds, lambda: _pin(loads(payload)))


def _told(fds: list[int], work: Any) -> int:
    try:
        work()
    except (OSError, ValueError) as err:
        os.write(fds[0], str(err).encode())
        return 1
    return 0


def _user(values: dict[str, Any]) -> None:
    with _Paused(lambda: None, namespaces.CLONE_NEWUSER) as pid:
        namespaces.write_id_map(pid, "uid", values["uids"])
        namespaces.write_id_map(pid, "gid", values["gids"])
        _bind(f"/proc/{pid}/ns/user", values["path"])


def _pin(values: dict[str, Any]) -> None:
    folder, kinds = values["folder"], values["kinds"]
    os.makedirs(f"{folder}/ns", 0o711, exist_ok=True)
    if values["shm_bytes"]:
        _shm(f"{folder}/shm", values["shm_bytes"], values["owner"])
    with _Paused(lambda: _enter(values)) as pid:
        for kind in kinds:
            _bind(f"/proc/{pid}/ns/{kind}", f"{folder}/ns/{kind}")


def _enter(values: dict[str, Any]) -> None:
    """In the child: go where the pod is to be, and make it what it is to be."""
    network = os.open(values["network"], os.O_RDONLY) if values["network"] else -1
    if values["user"]:
        fd = os.open(values["user"], os.O_RDONLY)
        namespaces.setns(fd, namespaces.CLONE_NEWUSER)
    if network >= 0:
        namespaces.setns(network, namespaces.CLONE_NEWNET)
    if values["kinds"]:
        flags = 0
        for kind in values["kinds"]:
            flags |= _FLAGS[kind]
        namespaces.unshare(flags)
    if values["hostname"] and "uts" in values["kinds"]:
        namespaces.sethostname(values["hostname"])
    for name, value in values["sysctls"].items():
        _sysctl(name, value, required=True)
    for name, value in values["sysctls_optional"].items():
        _sysctl(name, value, required=False)


def _sysctl(name: str, value: str, *, required: bool) -> None:
    # The files of /proc/sys show and change the namespaces of who opens them.
    path = "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as err:
        if required:
            raise OSError(err.errno, f"set sysctl {name} to {value!r}: {err.strerror}") from None


def _shm(path: str, size: int, owner: list[int]) -> None:
    os.makedirs(path, 0o711, exist_ok=True)
    data = f"mode=1777,size={size},uid={owner[0]},gid={owner[1]}"
    mounts.mount("shm", path, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, data)


def _bind(source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), 0o711, exist_ok=True)
    os.close(os.open(target, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
    mounts.mount(source, target, None, _MS_BIND)


class _Paused:
    """A child that has done `work` and waits, so that its namespaces can be taken hold of."""

    def __init__(self, work: Any, flags: int = 0) -> None:
        self._work = work
        self._flags = flags
        self._pid = 0
        self._go = -1

    def __enter__(self) -> int:
        said, say = os.pipe2(os.O_CLOEXEC)
        hear, self._go = os.pipe2(os.O_CLOEXEC)
        pid, _ = process.clone3(flags=self._flags, pidfd=False)
        if pid == 0:
            self._child(say, hear)
        os.close(say)
        os.close(hear)
        self._pid = pid
        error = os.read(said, 4096)
        os.close(said)
        if error != b"ok":
            self.__exit__()
            raise OSError(errno.EIO, error.decode(errors="replace") or "a child ended")
        return pid

    def _child(self, say: int, hear: int) -> None:
        try:
            try:
                os.close(self._go)
                self._work()
                os.write(say, b"ok")
            except (OSError, ValueError) as err:
                os.write(say, (getattr(err, "strerror", "") or str(err)).encode())
            os.read(hear, 1)
        finally:
            os._exit(0)

    def __exit__(self, *_: object) -> None:
        os.close(self._go)
        os.waitpid(self._pid, 0)
