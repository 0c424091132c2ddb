"""What remains when a shim has died: killed, unmounted, deleted, in a worker of the zygote."""

from __future__ import annotations

import contextlib
import os
import select
import time

from sampan import oci
from sampan.errors import NotFound
from sampan.model.runtime.document import loads
from sampan.shim import rootfs

__all__ = ["worker"]

_GROUP_S = 10.0


def worker(payload: bytes, fds: list[int]) -> int:
    """Clean up behind the container that `payload` names.

    Its `oci_root`, `namespace`, `id` and `bundle` are those of the shim's `Config`; `shim_pid` is
    the dead shim's, or 0.
    """
    for fd in fds:
        os.close(fd)
    values = loads(payload)
    if values.get("shim_pid"):
        _end_group(values["shim_pid"])
    try:
        with contextlib.suppress(NotFound):
            oci.discard(os.path.join(values["oci_root"], values["namespace"]), values["id"])
    finally:
        # Whatever else is left: a bundle that is still mounted upon could never be removed.
        rootfs.unmount_all(os.path.join(values["bundle"], "rootfs"))
    return 0


def _end_group(leader: int) -> None:
    """Kill what is left of a dead shim's process group, its server, and see it gone.

    Else a system call that the server had begun might end after we have looked. As long as the
    group has members, no other process can get the leader's pid.
    """
    until_s = time.monotonic() + _GROUP_S
    wait_ms = 1
    while time.monotonic() < until_s:
        members = _members(leader)
        if leader in members:
            return  # a stranger's: there was no member left
        if not members:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, 9)
        select.poll().poll(wait_ms)
        wait_ms = min(2 * wait_ms, 50)


def _members(leader: int) -> set[int]:
    """Return the processes of a group that have not ended."""
    try:
        os.killpg(leader, 0)
    except OSError:
        return set()
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] not in (b"Z", b"X"):
            found.add(int(name))
    return found
