"""`linux.sysctl`: only what belongs to a namespace of the container's own.

Source: CVE-2022-0811 and its kin.
"""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.linux import Linux

__all__ = ["plan_sysctls"]

_IPC = {
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
    "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
}  # fmt: skip
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./")


def plan_sysctls(linux: Linux) -> list[tuple[bytes, bytes]]:
    """Return (name with dots, value) of each sysctl.

    Raises:
      InvalidArgument: one is not separate by a namespace that the container has, or is malformed.
    """
    own = {n.type for n in linux.namespaces}
    planned = []
    for given, value in (linux.sysctl or {}).items():
        # With slashes as separators, dots are part of a name: net/ipv4/conf/eth0.1/arp_filter.
        name = given
        if not name or not _LETTERS.issuperset(name) or ".." in name:
            raise InvalidArgument(f"sysctl {given!r} is no valid name")
        dotted = name.replace("/", ".")
        if any(ord(letter) < 32 and letter not in "\t" for letter in value):  # noqa: FURB171
            raise InvalidArgument(f"sysctl {given!r} has a control character in its value")
        _check(dotted, own)
        path = name if "/" in name else name.replace(".", "/")
        planned.append((os.fsencode(path), os.fsencode(value)))
    return planned


def _check(name: str, own: set[str]) -> None:
    if name in _IPC or name.startswith("fs.mqueue."):
        needed = "ipc"
    elif name.startswith("net."):
        needed = "network"
    elif name == "kernel.domainname":
        needed = "uts"
    elif name == "kernel.hostname":
        raise InvalidArgument(f"sysctl {name!r} conflicts with OCI hostname")
    else:
        raise InvalidArgument(f"sysctl {name!r} is not in a separate kernel namespace")
    if needed not in own:
        raise InvalidArgument(f"sysctl {name!r} is not allowed in the host's {needed} namespace")
