"""The checks of `sampan doctor`: each asks the kernel, not a version number."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from sampan.engine.config import Settings

__all__ = ["Check", "examine"]

_NAMESPACES: Final = {
    "mnt": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "net": 0x40000000,
    "cgroup": 0x02000000, "user": 0x10000000, "pid": 0x20000000, "time": 0x00000080,
}  # fmt: skip
_CONTROLLERS: Final = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")
_KERNEL: Final = (5, 12)
"""mount_setattr(2), without which the interpreter cannot be protected by a read-only mount."""


class Check(NamedTuple):
    """One finding."""

    topic: str
    name: str
    state: str
    """`ok`, `limited` or `missing`."""
    detail: str = ""
    advice: str = ""
    needed: bool = False
    """Nothing runs without it."""


def examine(settings: Settings) -> list[Check]:
    """Return all findings; nothing that is tried outlives the call."""
    found: list[Check] = []
    for look in (_machine, _isolation, _cgroups, _storage, _network, _rootless, _tools):
        found += look(settings)
    return found


def _tried(call: Callable[[], None]) -> str:
    """Do something in a child that ends at once; return why it failed, or nothing."""
    read, write = os.pipe()
    pid = os.fork()  # noqa: TID251  one thread runs in this program
    if pid == 0:
        try:
            call()
            os._exit(0)
        except OSError as err:
            os.write(write, os.strerror(err.errno or 0).encode())
        finally:
            os._exit(1)
    os.close(write)
    with open(read, "rb") as file:
        said = file.read().decode()
    _, status = os.waitpid(pid, 0)
    return said or ("" if status == 0 else "it failed")


def _libc(name: str, *args: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _machine(settings: Settings) -> Iterator[Check]:
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    new_enough = numbers >= _KERNEL
    yield Check(
        "machine", "kernel", "ok" if new_enough else "missing", release,
        "" if new_enough else f"Linux {_KERNEL[0]}.{_KERNEL[1]} or later is needed", needed=True,
    )  # fmt: skip
    yield Check("machine", "python", "ok", sys.version.split()[0])
    for name, path in (("root", settings.root), ("state", settings.state)):
        place = path
        while not place.exists():
            place = place.parent
        usable = os.access(place, os.W_OK)
        free = shutil.disk_usage(place).free >> 20
        yield Check(
            "machine", f"{name} folder", "ok" if usable else "missing", f"{path}, {free} MiB free",
            "" if usable else f"choose one that you may write to with --{name}", needed=True,
        )  # fmt: skip


def _isolation(_: Settings) -> Iterator[Check]:
    for name, flag in _NAMESPACES.items():
        why = _tried(lambda flag=flag: _libc("unshare", flag))  # type: ignore[misc]
        advice = ""
        if why and os.geteuid():
            advice = "run as root, or allow user namespaces (sysctl user.max_user_namespaces)"
        needed = name not in ("user", "time", "cgroup")
        yield Check(
            "isolation", f"{name} namespace", "missing" if why else "ok", why, advice, needed
        )
    seccomp = Path("/proc/sys/kernel/seccomp/actions_avail")
    actions = seccomp.read_text().split() if seccomp.exists() else []
    yield Check(
        "isolation", "seccomp", "ok" if actions else "missing", " ".join(actions),
        "" if actions else "build the kernel with CONFIG_SECCOMP_FILTER",
    )  # fmt: skip
    names = _read("/sys/kernel/security/lsm") or ""
    for lsm in ("apparmor", "selinux"):
        on = lsm in names.split(",")
        yield Check(
            "isolation", lsm, "ok" if on else "limited", "on" if on else "not on in this kernel",
            "" if on else f"profiles for {lsm} are refused; containers run without",
        )  # fmt: skip
    status = _read("/proc/self/status") or ""
    bounding = int(status.partition("CapBnd:")[2].split()[0], 16)
    lost = [] if bounding >> 24 & 1 else ["CAP_SYS_RESOURCE: limits cannot be raised"]
    lost += [] if bounding >> 21 & 1 else ["CAP_SYS_ADMIN: nothing can be mounted"]
    yield Check("isolation", "capabilities", "limited" if lost else "ok", "; ".join(lost))


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _cgroups(_: Settings) -> Iterator[Check]:
    top = Path("/sys/fs/cgroup")
    pure = (top / "cgroup.controllers").exists()
    hybrid = (top / "unified/cgroup.controllers").exists()
    kind = "version 2" if pure else "hybrid" if hybrid else "version 1" if top.is_dir() else "none"
    yield Check(
        "cgroups", "hierarchy", "ok" if pure or hybrid else "limited", kind,
        "" if pure else "version 2 alone (systemd.unified_cgroup_hierarchy=1) limits block I/O and "
        "page cache better",
    )  # fmt: skip
    two = (_read(str(top / "cgroup.controllers")) or "").split()
    for name in _CONTROLLERS:
        old = {"io": "blkio"}.get(name, name)
        here = name in two or (top / old).is_dir()
        yield Check(
            "cgroups", name, "ok" if here else "limited", "" if here else "no such controller",
            "" if here else f"limits by {name} are refused",
        )  # fmt: skip
    writable = os.access(top if pure else top / "pids", os.W_OK)
    yield Check(
        "cgroups", "delegation", "ok" if writable else "limited",
        "" if writable else "we may not make cgroups",
        "" if writable else "as an ordinary user, limits need systemd's Delegate=yes",
    )  # fmt: skip


def _storage(settings: Settings) -> Iterator[Check]:
    root = settings.root if settings.root.exists() else Path(tempfile.gettempdir())

    def overlay(options: str) -> Callable[[], None]:
        def mount() -> None:
            _libc("unshare", _NAMESPACES["mnt"])
            _libc("mount", None, b"/", None, 1 << 18 | 1 << 14, None)  # private, whole tree
            with tempfile.TemporaryDirectory(dir=root) as folder:
                for name in ("l", "u", "w", "m"):
                    os.mkdir(f"{folder}/{name}")
                data = f"lowerdir={folder}/l,upperdir={folder}/u,workdir={folder}/w{options}"
                target = f"{folder}/m".encode()
                _libc("mount", b"overlay", target, b"overlay", 0, data.encode())
                _libc("umount2", target, 2)

        return mount

    why = _tried(overlay(""))
    yield Check(
        "storage", "overlayfs", "missing" if why else "ok", why or f"below {root}",
        "the snapshotter native works everywhere, but copies" if why else "",
    )  # fmt: skip
    known = (_read("/proc/filesystems") or "").split()
    for name in ("btrfs", "erofs", "fuse"):
        here = name in known
        yield Check(
            "storage", name, "ok" if here else "limited",
            "" if here else "not known to the kernel now", "" if here else f"modprobe {name}",
        )  # fmt: skip
    reflink = _reflink(root)
    yield Check(
        "storage", "reflinks", "limited" if reflink else "ok", reflink,
        "snapshots of running sandboxes copy what was written; XFS and btrfs share it"
        if reflink else "",
    )  # fmt: skip


def _reflink(root: Path) -> str:
    import fcntl

    with tempfile.TemporaryFile(dir=root) as one, tempfile.TemporaryFile(dir=root) as two:
        one.write(b"x" * 4096)
        one.flush()
        try:
            fcntl.ioctl(two.fileno(), 0x40049409, one.fileno())  # FICLONE
        except OSError as err:
            return os.strerror(err.errno or 0)
    return ""


def _network(_: Settings) -> Iterator[Check]:
    def bridge() -> None:
        _libc("unshare", _NAMESPACES["net"])
        subprocess.run(["ip", "link", "add", "d0", "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "add", "d1", "type", "veth"], check=True)

    if shutil.which("ip") and os.geteuid() == 0:
        try:
            why = _tried(bridge)
        except subprocess.CalledProcessError:
            why = "it failed"
        yield Check("network", "bridge and veth", "missing" if why else "ok", why)
    forwarding = _read("/proc/sys/net/ipv4/ip_forward") == "1"
    yield Check(
        "network", "IPv4 forwarding", "ok" if forwarding else "limited",
        "" if forwarding else "off", "" if forwarding else "it is switched on for the first bridge",
    )  # fmt: skip
    folder = Path("/etc/cni/net.d")
    lists = sorted(one.name for one in folder.glob("*.conf*")) if folder.is_dir() else []
    detail = ", ".join(lists) or "none, so a bridge network of ours is the default"
    yield Check("network", "CNI configuration", "ok", detail)


def _rootless(_: Settings) -> Iterator[Check]:
    most = _read("/proc/sys/user/max_user_namespaces")
    yield Check(
        "rootless", "user namespaces", "ok" if most != "0" else "missing", f"at most {most}",
        "" if most != "0" else "sysctl user.max_user_namespaces=15000",
    )  # fmt: skip
    gate = _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if gate == "1":
        yield Check(
            "rootless", "AppArmor gate", "limited", "ordinary users get no user namespace",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a profile for python3",
        )  # fmt: skip
    import pwd

    name = pwd.getpwuid(os.getuid()).pw_name
    ranges = [
        line for line in (_read("/etc/subuid") or "").splitlines() if line.startswith(f"{name}:")
    ]
    yield Check(
        "rootless", "subordinate ids", "ok" if ranges else "limited", ", ".join(ranges),
        "" if ranges else f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}",
    )  # fmt: skip
    for tool, package in (
        ("newuidmap", "uidmap"),
        ("pasta", "passt"),
        ("slirp4netns", "slirp4netns"),
    ):
        path = shutil.which(tool)
        yield Check(
            "rootless", tool, "ok" if path else "limited", path or "",
            "" if path else f"apt-get install {package}",
        )  # fmt: skip


def _tools(_: Settings) -> Iterator[Check]:
    for tool, use in (("criu", "checkpoint and restore"), ("nft", "looking at our rules")):
        path = shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        yield Check(
            "helpers", tool, "ok" if path else "limited", path or "",
            "" if path else f"needed for {use} only",
        )  # fmt: skip
