"""Writing the maps of a new user namespace, by ourselves or by the set-uid helpers of shadow.

    root with CAP_SETUID and CAP_SETGID   any map
    anybody                               one id, their own, and setgroups is denied for ever
    anybody, by newuidmap and newgidmap   what /etc/subuid and /etc/subgid grant

Source: user_namespaces(7), newuidmap(1).
"""

from __future__ import annotations

import errno
import os

from sampan.errors import PermissionDenied
from sampan.linux import namespaces as ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Ranges = Sequence[tuple[int, int, int]]

__all__ = ["denies_setgroups", "write_maps"]

_FOLDERS = ("/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin")


def denies_setgroups(gids: Ranges) -> bool:
    """Return whether we can give this map only by denying setgroups in the namespace."""
    return os.geteuid() != 0 and _is_own(gids, os.getegid())


def write_maps(pid: int, uids: Ranges, gids: Ranges) -> None:
    """Write both maps for the namespace of `pid`.

    Raises:
      PermissionDenied: the ids are not ours to give; says what to do.
      OSError: the maps themselves are wrong.
    """
    _write(pid, "uid", uids, own=_is_own(uids, os.geteuid()))
    if denies_setgroups(gids):
        ns.deny_setgroups(pid)
    _write(pid, "gid", gids, own=_is_own(gids, os.getegid()))


def _is_own(ranges: Ranges, id_: int) -> bool:
    return len(ranges) == 1 and ranges[0][1:] == (id_, 1)


def _write(pid: int, kind: str, ranges: Ranges, *, own: bool) -> None:
    try:
        ns.write_id_map(pid, kind, ranges)
    except OSError as err:
        if own or err.errno not in (errno.EPERM, errno.EACCES):
            raise
        _call_helper(pid, kind, ranges)


def _call_helper(pid: int, kind: str, ranges: Ranges) -> None:
    name = f"new{kind}map"
    program = next((f"{f}/{name}" for f in _FOLDERS if os.access(f"{f}/{name}", os.X_OK)), None)
    if program is None:
        raise PermissionDenied(
            f"{kind}s {_shown(ranges)} cannot be mapped by user {os.geteuid()}: "
            f"{name} is missing (Debian: apt-get install uidmap)"
        )
    words = [str(number) for one in ranges for number in one]
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, write, 2)]
        child = os.posix_spawn(
            program, [name, str(pid), *words], {"PATH": ":".join(_FOLDERS)}, file_actions=actions
        )
    finally:
        os.close(write)
    with open(read, "rb") as file:
        said = file.read(4096).decode(errors="replace").strip()
    if os.waitpid(child, 0)[1] != 0:
        raise PermissionDenied(
            f"{kind}s {_shown(ranges)} cannot be mapped by user {os.geteuid()}: {said}: "
            f"grant the range in /etc/sub{kind}"
        )


def _shown(ranges: Ranges) -> str:
    return ",".join(f"{inside}:{outside}:{count}" for inside, outside, count in ranges)
