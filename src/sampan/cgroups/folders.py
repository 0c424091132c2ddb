"""Folders of cgroups: making, walking and removing them, and waiting for their events."""

from __future__ import annotations

import errno
import os
import select
import time

from sampan.cgroups.files import Cgroup, translate
from sampan.errors import FailedPrecondition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["make", "refuse_used", "remove", "wait_event", "walk"]


def make(path: str, made: list[str]) -> bool:
    """Make a folder and its parents; append what was made; return False if `path` was there."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return False
    except FileNotFoundError:
        make(os.path.dirname(path), made)
        return make(path, made)
    made.append(path)
    return True


def refuse_used(cgroup: Cgroup) -> None:
    for folder in walk(cgroup.path):
        pids = Cgroup(folder).read_raw("cgroup.procs").split()
        if pids:
            raise FailedPrecondition(
                f"container's cgroup is not empty: {len(pids)} process(es) in {folder}"
            )
    frozen = cgroup.optional("freezer.state") not in (None, "THAWED") or (
        cgroup.optional("cgroup.freeze") == "1"
    )
    if frozen:
        raise FailedPrecondition(f"container's cgroup is frozen: thaw {cgroup.path} first")


def walk(path: str) -> Iterator[str]:
    """Yield `path` and every cgroup below it, parents first."""
    yield path
    try:
        with os.scandir(path) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for folder in below:
        yield from walk(folder)


def remove(path: str) -> bool:
    """Remove a cgroup and those below; return False while it is in use."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise translate(error, f"remove cgroup {path}") from error
    else:
        return True
    for folder in reversed(list(walk(path))):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
                return False
            raise translate(error, f"remove cgroup {folder}") from error
    return True


def wait_event(cgroup: Cgroup, line: str, deadline: float) -> bool:
    """Wait for a line of cgroup.events, of which the kernel tells by POLLPRI."""
    try:
        fd = os.open(f"{cgroup.path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        while line not in os.pread(fd, 4096, 0).decode():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poll.poll(left * 1000)
    except OSError as error:
        if error.errno != errno.ENODEV:  # removed meanwhile
            raise
    finally:
        os.close(fd)
    return True
