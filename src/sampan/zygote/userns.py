"""A user namespace for an ordinary user's zygote, in which he is root: held by fds.

    our process ─ spawn ─► helper: unshare(user, mount); says so; waits
         newuidmap, newgidmap helper      with ranges of subuid(5), or one id mapped to 0
         open /proc/<helper>/ns/{user,mnt}; the helper ends, and the fds keep both

Whoever runs containers below the same state folder shares one such namespace as long as any of its
processes lives: `join` takes it from a shim. So each sees the other's mounts, and may enter its
containers.

Source: user_namespaces(7), newuidmap(1), subuid(5).
"""

# ruff: noqa: SIM105  contextlib is slow to import

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from sampan.errors import FailedPrecondition, SampanError
from sampan.linux import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["UserNamespace", "has_ranges", "ranges_of", "why_refused"]

_PROGRAM = (
    "import os, sys; sys.path[:] = sys.argv[1:]\n"
    "from sampan.linux import mounts, namespaces\n"
    "namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS)\n"
    "os.write(1, b'1')\n"
    "os.read(0, 1)\n"
    # Slaves: what the host mounts later is seen, and nothing of ours is seen there.
    "mounts.mount(None, '/', None, 1 << 19 | 16384)\n"
    "os.write(1, b'2')\n"
    "os.read(0, 1)\n"
)
_TOOL_S = 10


class UserNamespace:
    """Two namespaces; owns their fds."""

    def __init__(self, user_fd: int, mount_fd: int, *, single: bool) -> None:
        self.user_fd = user_fd
        self.mount_fd = mount_fd
        self.single = single
        """Only one id is mapped: no process inside can be another user than root."""

    @property
    def fds(self) -> tuple[int, int]:
        """In the order in which they are entered."""
        return self.user_fd, self.mount_fd

    @classmethod
    def create(cls) -> Self:
        """Make one for the calling user. Blocks for some 30 ms.

        Raises:
          FailedPrecondition: this host lets ordinary users make none; says what to change.
        """
        path = [os.path.abspath(one or ".") for one in sys.path]
        helper = subprocess.Popen(  # noqa: TID251 - a moment's helper, waited for below
            [sys.executable, "-I", "-S", "-c", _PROGRAM, *path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            assert helper.stdin is not None  # noqa: S101
            assert helper.stdout is not None  # noqa: S101
            if helper.stdout.read(1) != b"1":
                _, words = helper.communicate(timeout=_TOOL_S)
                last = words.decode("utf-8", "replace").strip().rpartition("\n")[2]
                raise FailedPrecondition(f"cannot make a user namespace: {why_refused() or last}")
            single = _map(helper.pid)
            helper.stdin.write(b"1")
            helper.stdin.flush()
            if helper.stdout.read(1) != b"2":
                _, words = helper.communicate(timeout=_TOOL_S)
                last = words.decode("utf-8", "replace").strip().rpartition("\n")[2]
                raise FailedPrecondition(f"cannot use a user namespace: {last}")
            return cls._of(helper.pid, single=single)
        finally:
            helper.kill()
            helper.communicate()

    @classmethod
    def join(cls, pid: int) -> Self:
        """Take that of a process of ours.

        Raises:
          OSError: it is gone, or not ours.
        """
        with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
            rows = [line.split() for line in file]
        return cls._of(pid, single=len(rows) == 1 and rows[0][2] == "1")

    @classmethod
    def _of(cls, pid: int, *, single: bool) -> Self:
        user = namespaces.open_namespace(pid, "user")
        try:
            return cls(user, namespaces.open_namespace(pid, "mnt"), single=single)
        except BaseException:
            os.close(user)
            raise

    def close(self) -> None:
        """Close the fds. Harmless twice."""
        for fd in (self.user_fd, self.mount_fd):
            if fd >= 0:
                os.close(fd)
        self.user_fd = self.mount_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def ranges_of(kind: str, ids: Sequence[str]) -> list[tuple[int, int]]:
    """Return start and count of each range that /etc/subuid or /etc/subgid gives to one of `ids`.

    Lines that are malformed give nothing.
    """
    found = []
    try:
        with open(f"/etc/sub{kind}", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    for line in lines:
        name, _, rest = line.partition(":")
        start, _, count = rest.partition(":")
        digits = start.isascii() and start.isdigit() and count.isascii() and count.isdigit()
        if name in ids and digits and 0 < int(count) < 1 << 32 and int(start) < 1 << 32:
            found.append((int(start), int(count)))
    return found


def has_ranges() -> bool:
    """Tell whether the calling user has subordinate ids, and the tools to map them."""
    tools, ranges = _means()
    return all(tools) and all(ranges)


def _means() -> tuple[list[str | None], list[list[tuple[int, int]]]]:
    """Return newuidmap and newgidmap, and the calling user's ranges for each."""
    import pwd

    uid = os.geteuid()
    ids = [str(uid)]
    try:
        ids.append(pwd.getpwuid(uid).pw_name)
    except KeyError:
        pass
    kinds = ("uid", "gid")
    return [shutil.which(f"new{k}map") for k in kinds], [ranges_of(k, ids) for k in kinds]


def _map(pid: int) -> bool:
    """Map ids of the helper's namespace; return whether it is one alone."""
    uid, gid = os.geteuid(), os.getegid()
    tools, ranges = _means()
    if all(tools) and all(ranges):
        try:
            for tool, own, found in zip(tools, (uid, gid), ranges, strict=True):
                _run(str(tool), pid, own, found)
        except SampanError:
            # Such as a newuidmap without its setuid bit: nothing has been written yet.
            if _is_mapped(pid):
                raise
        else:
            return False
    namespaces.write_id_map(pid, "uid", [(0, uid, 1)])
    namespaces.deny_setgroups(pid)
    namespaces.write_id_map(pid, "gid", [(0, gid, 1)])
    return True


def _is_mapped(pid: int) -> bool:
    with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
        return bool(file.read().strip())


def _run(tool: str, pid: int, own: int, found: Sequence[tuple[int, int]]) -> None:
    words = [tool, str(pid), "0", str(own), "1"]
    at = 1
    for start, count in found:
        words += [str(at), str(start), str(count)]
        at += count
    done = subprocess.run(words, capture_output=True, timeout=_TOOL_S, check=False)
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace").strip()
        raise FailedPrecondition(f"{os.path.basename(tool)} refused our ids: {text}")


def why_refused() -> str:
    """Return why this host lets ordinary users make no user namespace, as far as it tells."""
    for path, bad, why in (
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "AppArmor keeps them from programs without a profile: set"
            " kernel.apparmor_restrict_unprivileged_userns=0, or add a profile for this python",
        ),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "set kernel.unprivileged_userns_clone=1",
        ),
        ("/proc/sys/user/max_user_namespaces", "0", "set user.max_user_namespaces above 0"),
    ):
        try:
            with open(path, encoding="ascii") as file:
                if file.read().strip() == bad:
                    return why
        except OSError:
            continue
    return ""
