"""Which cgroup hierarchies this host has, and where: the mounts are asked, not the folder names."""

from __future__ import annotations

import os

from sampan.linux.mounts import read_all

__all__ = ["Layout", "clean", "detect", "own_paths"]


class Layout:
    """Where the hierarchies are mounted, as our mount namespace sees them."""

    __slots__ = ("mode", "named", "unified", "v1")

    def __init__(self, v1: dict[str, str], named: dict[str, str], unified: str | None) -> None:
        self.v1 = v1
        """Controller to mount point; those that share a hierarchy have the same one."""
        self.named = named
        """Name (`systemd`) to mount point, hierarchies without controllers."""
        self.unified = unified
        """Mount point of the v2 tree, or None."""
        self.mode = "v2" if not v1 and unified else "hybrid" if unified else "v1"
        """`v1`, `hybrid` or `v2`."""

    def hierarchies(self) -> dict[str, str]:
        """Return each v1 hierarchy once: a key of /proc/self/cgroup to its mount point."""
        found = {}
        seen = set()
        for name, point in self.v1.items():
            if point not in seen:
                seen.add(point)
                found[name] = point
        for name, point in self.named.items():
            found[f"name={name}"] = point
        return found


_WORDS = "cpu cpuacct cpuset memory devices freezer blkio pids hugetlb net_cls net_prio rdma misc"
_CONTROLLERS = frozenset([*_WORDS.split(), "perf_event"])
_known: Layout | None = None


def detect(*, again: bool = False) -> Layout:
    """Return this host's layout, remembered after the first call."""
    global _known  # noqa: PLW0603  0.2 ms, at each container
    if _known is None or again:
        _known = _read_layout()
    return _known


def _read_layout() -> Layout:
    v1: dict[str, str] = {}
    named: dict[str, str] = {}
    unified = None
    for line in read_all("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(b" - ")
        if not after.startswith(b"cgroup"):
            continue
        point = os.fsdecode(before.split(b" ")[4])
        fstype, _, rest = after.partition(b" ")
        if fstype == b"cgroup2":
            unified = unified or point
            continue
        for option in rest.rsplit(b" ", 1)[-1].decode().split(","):
            if option.startswith("name="):
                named.setdefault(option[5:], point)
            elif option in _CONTROLLERS:
                v1.setdefault(option, point)
    return Layout(v1, named, unified)


def own_paths(pid: int | str = "self") -> dict[str, str]:
    """Return the cgroup of a process in each hierarchy: controller, `name=...`, or `` for v2."""
    found = {}
    for line in os.fsdecode(read_all(f"/proc/{pid}/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path.removesuffix(" (deleted)")
    return found


def clean(path: str) -> str:
    """Return `path` made absolute, without `.`, `..` or doubled slashes, kept below the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
