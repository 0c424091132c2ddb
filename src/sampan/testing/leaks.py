"""Judging what a test left behind. See `sampan.testing.inventory` for what is looked at."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from pathlib import Path

import pytest

from sampan.testing.inventory import Inventory, Item, Kind, Scope, descendants, leaked, take
from sampan.testing.session import SESSION

__all__ = ["judge", "scope_for", "snapshot"]

_REPORTED: set[tuple[Kind, str]] = set()
"""Leaks that a test has failed for already: the session need not fail for them again."""

GRACE_S = 2.0
"""How long what a test has already told to end may take: init of a killed pid namespace, say."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2
_CHEAP = frozenset({Kind.FD, Kind.PROCESS})
_DEFAULT_FOLDERS = (Path("/run/sampan"), Path("/var/lib/sampan"))


def scope_for(path: Path | None) -> Scope:
    """Return what to judge for the test in `path`; None is the whole session.

    Unit tests have no root, so fds and processes are all that they can leave.
    """
    unit = path is not None and "unit" in path.parts
    return Scope(
        tag=SESSION.tag,
        # The programs' default folders are one for the machine; tests must not touch them.
        folders=_DEFAULT_FOLDERS if SESSION.alone else (),
        alone=SESSION.alone,
        own_mounts=SESSION.own_mounts,
        kinds=_CHEAP if unit else frozenset(Kind),
    )


def snapshot(scope: Scope) -> Inventory:
    """Take the inventory before a test."""
    return take(scope)


def judge(scope: Scope, before: Inventory) -> None:
    """Fail with a list of what is new, after a grace for what is just ending; then clear it up."""
    deadline = time.monotonic() + GRACE_S
    _reap_orphans(before)
    left = _new_leaks(scope, before)
    while left and (remaining := deadline - time.monotonic()) > 0:
        if {item.kind for item in left} <= {Kind.FD, Kind.FILE, Kind.ROW}:
            break  # nothing ends those but we
        _wait_for_an_end(left, min(remaining, 0.1))
        _reap_orphans(before)
        left = _new_leaks(scope, before)
    if left:
        _REPORTED.update((item.kind, item.key) for item in left)
        _clear_away(left)
        pytest.fail("the test left behind:\n  " + "\n  ".join(map(str, left)), pytrace=False)


def _new_leaks(scope: Scope, before: Inventory) -> list[Item]:
    found = leaked(before, take(scope))
    return [item for item in found if (item.kind, item.key) not in _REPORTED]


def _pid_of(item: Item) -> int:
    return int(item.key.split()[0])


def _reap_orphans(before: Inventory) -> None:
    """Wait for ended processes that were handed to us as subreaper during the test.

    Those from before the test belong to fixtures, which wait for them themselves.
    """
    known = {_pid_of(item) for (kind, _), item in before.items() if kind is Kind.PROCESS}
    for pid in descendants(os.getpid()):
        if pid not in known:
            try:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
            except ChildProcessError:  # a grandchild, or reaped by its owner meanwhile
                continue


def _wait_for_an_end(left: list[Item], timeout_s: float) -> None:
    """Return when one of the processes in `left` ends, at the latest after `timeout_s`."""
    poll = select.poll()
    fds = []
    for item in left:
        if item.kind is Kind.PROCESS:
            try:
                fds.append(os.pidfd_open(_pid_of(item)))
            except OSError:
                continue
            poll.register(fds[-1], select.POLLIN)
    try:
        poll.poll(timeout_s * 1000)
    finally:
        for fd in fds:
            os.close(fd)


def _clear_away(left: list[Item]) -> None:
    """Kill processes and detach mounts that were left, so that later tests are not disturbed."""
    for item in reversed(left):
        if item.kind is Kind.MOUNT and SESSION.own_mounts:
            _LIBC.umount2(os.fsencode(item.key.partition(" ")[2]), _MNT_DETACH)
    for item in left:
        if item.kind is Kind.PROCESS:
            try:
                os.kill(_pid_of(item), signal.SIGKILL)
            except ProcessLookupError:
                continue
    _wait_for_an_end(left, 1)
    _reap_orphans(Inventory())
