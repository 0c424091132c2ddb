"""Running the interpreter from where nobody can write to it.

A container's process can be made to run the file behind our `/proc/PID/exe`, keep it open, and
write to it once nobody executes it any more; with Python the interpreter is that file
(CVE-2019-5736). So whatever enters containers is exec'd from one of three:

    a detached, read-only clone of the mount the interpreter lies on    root; costs 0.1 ms
    a sealed copy in memory                                             anyone; 3 ms and 7 MB
    a read-only bind mount below the state folder, for a launcher       root; made once

The first two are `protected_interpreter`, the third is `ensure_mounted`. A read-only *mount* is
enough: the attacker's reopening goes through it, and gets EROFS.
"""

from __future__ import annotations

import errno
import os
import sys

from sampan.linux import fds as fdlib
from sampan.linux import mounts, paths, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self

__all__ = [
    "Interpreter",
    "ensure_mounted",
    "interpreter_path",
    "is_protected",
    "protected_clone",
    "protected_interpreter",
    "remove_mounted",
    "sealed_copy",
]

_ST_RDONLY = 1


def interpreter_path() -> str:
    """Return the real file of the interpreter that runs us, virtual environments looked through."""
    if sys.executable:
        return os.path.realpath(sys.executable)
    return os.readlink("/proc/self/exe")


def is_protected() -> bool:
    """Return whether what `/proc/self/exe` is cannot be written to through that link."""
    with fdlib.OwnedFd(os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)) as own:
        return bool(os.fstatvfs(own.fd).f_flag & _ST_RDONLY) or fdlib.is_sealed(own.fd)


class Interpreter:
    """A protected interpreter, ready to be exec'd; owns the fd of its file."""

    __slots__ = ("argv0", "file", "kind")

    def __init__(self, file: fdlib.OwnedFd, argv0: str, kind: str) -> None:
        self.file = file
        self.argv0 = argv0
        """The path by which Python finds its standard library."""
        self.kind = kind
        """`clone` or `memfd`."""

    def spawn(self, arguments: Sequence[str], file_actions: Sequence[Any] = ()) -> int:
        """Start it in a session of its own and return the pid, a child of the caller.

        Safe in a process with threads. Dispositions and mask are reset; stdin is /dev/null; fds
        follow `file_actions` of os.posix_spawn, all others of ours being CLOEXEC.
        """
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), *file_actions]
        return os.posix_spawn(
            paths.fd_path(self.file.fd),
            [self.argv0, *arguments],
            _environment(),
            file_actions=actions,
            setsid=True,
            setsigmask=[],
            setsigdef=[n for n in range(1, 32) if n not in (9, 19)],
        )

    def execve(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Become this interpreter; fds without CLOEXEC survive.

        Raises:
          OSError: As execve(2).
        """
        argv = [self.argv0, *arguments]
        process.execveat(self.file.fd, "", argv, environment, process.AT_EMPTY_PATH)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def protected_interpreter(path: str | None = None) -> Interpreter:
    """Return the interpreter (by default ours), protected in the best way that this user has."""
    real = os.path.realpath(path) if path is not None else interpreter_path()
    try:
        return protected_clone(real)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.EACCES):
            raise
    return sealed_copy(real)


def protected_clone(path: str) -> Interpreter:
    """Return `path` on a detached read-only clone of its mount.

    Raises:
      OSError: EPERM, no CAP_SYS_ADMIN; ENOSYS, Linux before 5.12.
    """
    with fdlib.OwnedFd(os.open(path, os.O_PATH | os.O_CLOEXEC)) as original:
        root = _mount_root(path, paths.statx(original.fd).mnt_id)
        with fdlib.OwnedFd(
            mounts.open_tree(mounts.AT_FDCWD, root, mounts.OPEN_TREE_CLONE)
        ) as clone:
            mounts.mount_setattr(
                clone.fd,
                "",
                mounts.AT_EMPTY_PATH,
                add=mounts.MOUNT_ATTR_RDONLY,
                propagation=mounts.MS_PRIVATE,
            )
            relative = os.path.relpath(path, root)
            file = fdlib.OwnedFd(_open_on(clone.fd, relative))
        if not os.path.samestat(os.fstat(file.fd), os.fstat(original.fd)):
            file.close()
            raise OSError(errno.EINVAL, "another mount covers the interpreter", path)
    return Interpreter(file, path, "clone")


def _open_on(tree: int, relative: str) -> int:
    if relative == ".":
        return os.dup(tree)
    return paths.openat2(tree, relative, os.O_PATH, resolve=paths.RESOLVE_BENEATH)


def _mount_root(path: str, mount_id: int) -> str:
    """Return the highest folder (or the file itself) on the same mount as `path`.

    Cloned from there, the file keeps its path within the mount, and a shared libpython that is
    looked for beside it ($ORIGIN) is found wherever that mount is the root mount.
    """
    root = path
    while root != "/":
        parent = os.path.dirname(root)
        with fdlib.OwnedFd(os.open(parent, os.O_PATH | os.O_CLOEXEC)) as folder:
            if paths.statx(folder.fd).mnt_id != mount_id:
                break
        root = parent
    return root


def sealed_copy(path: str) -> Interpreter:
    """Return a copy of `path` in memory that cannot be changed; for users without privileges."""
    with (
        fdlib.OwnedFd(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) as original,
        fdlib.OwnedFd(fdlib.memfd_create("sampan-python", executable=True)) as copy,
    ):
        while os.sendfile(copy.fd, original.fd, None, 1 << 30):
            pass
        fdlib.seal(copy.fd)
        os.fchmod(copy.fd, 0o555)
        # Executing a file that is open for writing fails with ETXTBSY.
        file = fdlib.OwnedFd(paths.reopen(copy.fd, os.O_RDONLY))
    return Interpreter(file, path, "memfd")


def _environment() -> dict[str, str]:
    """Return the environment for a protected interpreter: next to nothing.

    A shared libpython found through $ORIGIN would be looked for beside the clone's idea of the
    path, so its folder is named; -I makes Python ignore all PYTHON* variables.
    """
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    for line in mounts.read_all("/proc/self/maps").splitlines():
        if b"/libpython" in line:
            library = line.split(maxsplit=5)[5]
            environment["LD_LIBRARY_PATH"] = os.fsdecode(os.path.dirname(library))
            break
    return environment


def ensure_mounted(state_dir: str, path: str | None = None) -> str:
    """Return the path of a read-only bind mount of the interpreter, making it if need be.

    For a launcher of one millisecond, which cannot make one for itself each time:

        <state_dir>/exe/                      0700
            notes/                            what launchers keep about it
            lock                              OFD lock while somebody makes a mount
            python3-<device>-<inode>          empty and not executable, or the interpreter mounted

    Where it is not mounted, because this is another mount namespace or the machine has been started
    anew, the file is empty: `[ -x FILE ]` tells. The mount is private, of our mount namespace.

    Args:
      state_dir: A folder of ours, on a file system that forgets at boot.
      path: The interpreter; by default ours.

    Raises:
      OSError: EPERM, not root; EEXIST, something else is mounted there.
    """
    real = os.path.realpath(path) if path is not None else interpreter_path()
    folder = os.path.join(state_dir, "exe")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with fdlib.OwnedFd(os.open(real, os.O_PATH | os.O_CLOEXEC)) as original:
        status = os.fstat(original.fd)
        target = os.path.join(folder, f"python3-{status.st_dev:x}-{status.st_ino:x}")
        if _is_ours(target, status):
            return target
        lock_path = os.path.join(folder, "lock")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with fdlib.OwnedFd(os.open(lock_path, flags, 0o600)) as lock:
            fdlib.lock(lock.fd, wait=True)
            if _is_ours(target, status):
                return target
            _bind_read_only(original.fd, target)
        if not _is_ours(target, status):
            raise OSError(errno.EEXIST, "something else is mounted here", target)
    return target


def _bind_read_only(original: int, target: str) -> None:
    flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    os.close(os.open(target, flags, 0o400))
    tree = mounts.open_tree(original, "", mounts.OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH)
    with fdlib.OwnedFd(tree), fdlib.OwnedFd(os.open(target, os.O_PATH | os.O_CLOEXEC)) as on:
        mounts.mount_setattr(
            tree,
            "",
            mounts.AT_EMPTY_PATH,
            add=mounts.MOUNT_ATTR_RDONLY | mounts.MOUNT_ATTR_NOSUID,
            propagation=mounts.MS_PRIVATE,
        )
        mounts.attach(tree, on.fd)


def _is_ours(target: str, status: os.stat_result) -> bool:
    """Return whether `target` is the very same file, on a read-only mount of its own."""
    try:
        with fdlib.OwnedFd(os.open(target, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)) as found:
            return (
                os.path.samestat(os.fstat(found.fd), status)
                and paths.statx(found.fd).is_mount_root
                and bool(os.fstatvfs(found.fd).f_flag & _ST_RDONLY)
            )
    except FileNotFoundError:
        return False


def remove_mounted(state_dir: str) -> None:
    """Undo `ensure_mounted`; programs that run from the mount go on."""
    folder = os.path.join(state_dir, "exe")
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        target = os.path.join(folder, name)
        if os.path.isdir(target):
            import shutil  # slow to load, and only needed here

            shutil.rmtree(target)  # what launchers have noted of the mount
            continue
        try:
            while True:
                mounts.umount2(target, mounts.MNT_DETACH | mounts.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.EINVAL:  # no longer a mount point
                raise
        os.unlink(target)
    os.rmdir(folder)
