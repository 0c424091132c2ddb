"""A cgroup for each exec, below its container's: so that all of one exec's processes can be killed.

Also those that have left its session. It is in the unified tree, where it has no controllers of its
own, so that limits and statistics stay the container's; on a host with v1 alone in the freezer's,
which can stop all while they are killed. `sampan-oci exec` makes none, as runc makes none.

    /<container>/exec-1          cgroup.kill: this exec; nothing else
"""

# ruff: noqa: SIM105  contextlib is slow to import

from __future__ import annotations

import errno
import os

from sampan.cgroups import Manager

__all__ = ["join", "remove", "signal"]

_SIGKILL = 9
_KILL_TIMEOUT_S = 10.0
_GONE = (errno.ENOENT, errno.ENODEV)
_MOVES_MAX = 1000


def _folder(container: Manager, name: str) -> tuple[str, str]:
    """Return the hierarchy and the folder of an exec's cgroup."""
    paths = container.paths
    key = next((key for key in ("unified", "freezer") if key in paths), "")
    return key, f"{paths[key]}/{name}" if key else ""


def join(container: Manager, name: str) -> Manager:
    """Make the cgroup `name`; return a Manager for a process to be born there."""
    key, folder = _folder(container, name)
    if not folder:
        return container
    try:
        os.mkdir(folder, 0o755)
    except FileExistsError:
        pass
    return Manager.from_state({**container.paths, key: folder})


def signal(container: Manager, name: str, number: int) -> None:
    """Send a signal to every process of the exec; one without a cgroup has none.

    Raises:
      DeadlineExceeded: on v1 alone, when some do not die.
    """
    key, folder = _folder(container, name)
    if not folder or not os.path.isdir(folder):
        return
    group = Manager.from_state({key: folder})
    if number != _SIGKILL:
        group.signal(number)
        return
    try:
        fd = os.open(f"{folder}/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # v1, or before Linux 5.14
        group.kill_all(timeout_s=_KILL_TIMEOUT_S)
        return
    try:
        os.write(fd, b"1")
    finally:
        os.close(fd)


def remove(container: Manager, name: str) -> None:
    """Remove the cgroup; what still runs there is the container's from now on."""
    key, folder = _folder(container, name)
    if not folder:
        return
    for _ in range(_MOVES_MAX):
        try:
            os.rmdir(folder)
        except OSError as err:
            if err.errno in _GONE:
                return
            if err.errno != errno.EBUSY or not _move_up(folder, container.paths[key]):
                return  # removed with the container's
        else:
            return


def _move_up(folder: str, above: str) -> bool:
    """Move the processes of a cgroup; return False when that cannot be done."""
    try:
        with open(f"{folder}/cgroup.procs", "rb") as file:
            pids = file.read().split()
        fd = os.open(f"{above}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        for pid in pids:
            try:
                os.write(fd, pid)
            except ProcessLookupError:
                continue
            except OSError:  # EBUSY: the container has handed controllers down
                return False
    finally:
        os.close(fd)
    return bool(pids)
