"""`linux.namespaces`, worked out: what is made by clone3, what is joined, and by whom.

Three ways in, by what the configuration asks:

    new namespaces only         clone3 with their flags; nothing to join
    others than pid by path     the child itself enters them, first of all
    pid or user by path; a      an intermediate process enters what comes before, makes the
    with others by path; time   time namespace, and clones init with CLONE_PARENT, so that it is
                                still the caller's child: `init.detour`

The cgroup namespace is never part of clone3: it shows the cgroup of the moment it is made, and the
child joins its cgroups after its birth, so the child unshares it.
"""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument
from sampan.linux import namespaces as ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.model.runtime.linux import IDMapping, Linux

__all__ = ["NamespacePlan", "plan_namespaces"]

_KINDS = {
    "pid": ns.CLONE_NEWPID,
    "network": ns.CLONE_NEWNET,
    "mount": ns.CLONE_NEWNS,
    "ipc": ns.CLONE_NEWIPC,
    "uts": ns.CLONE_NEWUTS,
    "user": ns.CLONE_NEWUSER,
    "cgroup": ns.CLONE_NEWCGROUP,
    "time": ns.CLONE_NEWTIME,
}


class NamespacePlan:
    __slots__ = (
        "gid_map", "joins", "new", "pid_fd", "time_offsets", "uid_map", "user_fd",
    )  # fmt: skip

    def __init__(self) -> None:
        self.new = 0
        """CLONE_NEW* of all that is made, the cgroup and time namespaces included."""
        self.joins: list[tuple[int, int]] = []
        """(fd, CLONE_NEW*) to enter, without user and pid; the fds are owned by this plan."""
        self.pid_fd = -1
        self.user_fd = -1
        self.uid_map: list[tuple[int, int, int]] = []
        self.gid_map: list[tuple[int, int, int]] = []
        self.time_offsets: list[tuple[str, int, int]] = []

    @property
    def has_user(self) -> bool:
        return bool(self.new & ns.CLONE_NEWUSER) or self.user_fd >= 0

    @property
    def needs_detour(self) -> bool:
        if self.pid_fd >= 0 or self.user_fd >= 0 or self.new & ns.CLONE_NEWTIME:
            return True
        return bool(self.new & ns.CLONE_NEWUSER and self.joins)

    def fds(self) -> list[int]:
        """Return every fd that a child needs."""
        found = [fd for fd, _ in self.joins]
        return found + [fd for fd in (self.user_fd, self.pid_fd) if fd >= 0]

    def close(self) -> None:
        for fd in self.fds():
            os.close(fd)
        self.joins, self.pid_fd, self.user_fd = [], -1, -1


def plan_namespaces(linux: Linux) -> NamespacePlan:
    """Open what is to be joined and collect what is to be made.

    Raises:
      InvalidArgument: a kind is unknown or twice there, or a path is no namespace of its kind.
    """
    plan = NamespacePlan()
    seen: set[str] = set()
    try:
        for namespace in linux.namespaces:
            kind = _KINDS.get(namespace.type)
            if kind is None:
                raise InvalidArgument(f"unknown namespace {namespace.type!r}")  # noqa: TRY301
            if namespace.type in seen:
                raise InvalidArgument(f"malformed spec file: duplicated ns {namespace.type}")  # noqa: TRY301
            seen.add(namespace.type)
            if namespace.path:
                _join(plan, kind, namespace.path)
            else:
                plan.new |= kind
        _plan_maps(plan, linux)
    except BaseException:
        plan.close()
        raise
    return plan


def _join(plan: NamespacePlan, kind: int, path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise InvalidArgument(f"namespace {path}: {err.strerror}") from err
    try:
        actual = ns.nstype(fd)
    except OSError as err:
        os.close(fd)
        raise InvalidArgument(f"{path} is no namespace") from err
    if kind == ns.CLONE_NEWPID:
        plan.pid_fd = fd
    elif kind == ns.CLONE_NEWUSER:
        plan.user_fd = fd
    else:
        plan.joins.append((fd, kind))
    if actual != kind:
        raise InvalidArgument(f"{path} is a namespace of another kind")


def _plan_maps(plan: NamespacePlan, linux: Linux) -> None:
    plan.uid_map = _map(linux.uid_mappings)
    plan.gid_map = _map(linux.gid_mappings)
    if plan.new & ns.CLONE_NEWUSER:
        if not plan.uid_map or not plan.gid_map:
            raise InvalidArgument("User namespaces enabled, but no uid or gid mappings found.")
    elif (plan.uid_map or plan.gid_map) and plan.user_fd < 0:
        raise InvalidArgument(
            "User namespace mappings specified, but USER namespace isn't enabled in the config"
        )
    for clock, offset in (linux.time_offsets or {}).items():
        if clock not in ("monotonic", "boottime"):
            raise InvalidArgument(f"invalid time offset clock {clock!r}")
        plan.time_offsets.append((clock, offset.secs, offset.nanosecs))
    if plan.time_offsets and not plan.new & ns.CLONE_NEWTIME:
        raise InvalidArgument("time offsets specified, but no new time namespace is made")


def _map(mappings: Sequence[IDMapping]) -> list[tuple[int, int, int]]:
    return [(m.container_id, m.host_id, m.size) for m in mappings]
