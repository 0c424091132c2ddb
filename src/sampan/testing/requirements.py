"""What a test needs of the machine: named, looked for, and said when missing.

A need is one of

    root              effective uid 0 with CAP_SYS_ADMIN
    kernel>=5.12      at least that release
    cgroup:pids       that controller, on v1 or v2, where we may make groups
    cgroup:v1 cgroup:v2 cgroup:hybrid     how the machine mounts cgroups
    fs:btrfs          in /proc/filesystems, or a module that modprobe(8) finds
    module:grpc       an importable Python module
    cap:sys_resource  that effective capability
    userns            unprivileged programs may make user namespaces
    runc>=1.1.5       a command of at least that version, as its --version says
    busybox           any other word: a command on PATH
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

__all__ = ["missing", "require", "requires"]

_CAPABILITIES = {
    "sys_admin": 21,
    "net_admin": 12,
    "sys_resource": 24,
    "mknod": 27,
    "sys_ptrace": 19,
}
_UNIFIED = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


def requires(*needs: str) -> pytest.MarkDecorator:
    """Mark a test, a class or, as `pytestmark`, a module with what it needs.

    Raises:
      ValueError: a need is misspelt; found when the module is imported, not when it is skipped.
    """
    for need in needs:
        if not re.fullmatch(r"[a-z0-9_.+-]+(:[A-Za-z0-9_.-]+|>=\d+(\.\d+)*)?", need):
            raise ValueError(f"requires({need!r}): no such kind of need")
    return pytest.mark.requires(*needs)


def require(*needs: str) -> None:
    """Skip the running test or fixture unless all `needs` are met."""
    absent = missing(*needs)
    if absent:
        pytest.skip("needs " + ", ".join(absent))


def missing(*needs: str) -> list[str]:
    """Return those of `needs` that this machine does not meet, each with what it has instead."""
    return [lack for need in needs if (lack := _lack(need)) is not None]


@functools.cache
def _lack(need: str) -> str | None:
    name, at_least, version = need.partition(">=")
    if at_least:
        found = os.uname().release if name == "kernel" else _command_version(name)
        if found is not None and _numbers(found) >= _numbers(version):
            return None
        return f"{need} (found {found or 'none'})"
    kind, colon, what = need.partition(":")
    if colon:
        if kind not in _KINDS:
            raise ValueError(f"requires({need!r}): no such kind of need")
        return None if _KINDS[kind](what) else need
    if need in _WORDS:
        return None if _WORDS[need]() else need
    return None if shutil.which(need, path=_search_path()) else f"the command {need}"


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"[v\D]*(\d+(?:\.\d+)*)", version)
    return tuple(map(int, found[1].split("."))) if found else ()


def _command_version(name: str) -> str | None:
    path = shutil.which(name, path=_search_path())
    if path is None:
        return None
    result = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20)
    found = re.search(r"\d+\.\d+(\.\d+)*", result.stdout + result.stderr)
    return found[0] if found else None


def _search_path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"


def _capability(name: str) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = int(re.search(r"^CapEff:\s*(\w+)$", status, re.MULTILINE)[1], 16)  # type: ignore[index]
    return bool(effective >> _CAPABILITIES[name] & 1)


def _cgroup(name: str) -> bool:
    unified_root = (_UNIFIED[0] / "cgroup.controllers").exists()
    unified_side = (_UNIFIED[1] / "cgroup.controllers").exists()
    if name in {"v1", "v2", "hybrid"}:
        return {"v1": not unified_root, "v2": unified_root, "hybrid": unified_side}[name]
    if unified_root and name in {"devices", "freezer"}:
        return os.access(_UNIFIED[0], os.W_OK)  # no controllers there, but always at hand
    for top in _UNIFIED:
        listed = top / "cgroup.controllers"
        if listed.exists() and name in listed.read_text().split():
            return os.access(top, os.W_OK)
    return os.access(Path("/sys/fs/cgroup") / name / "tasks", os.W_OK)


def _file_system(name: str) -> bool:
    known = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    if name in known:
        return True
    modprobe = shutil.which("modprobe", path=_search_path())
    if modprobe is None:
        return False
    return subprocess.run([modprobe, "-nq", name], timeout=20).returncode == 0


def _unprivileged_user_namespaces() -> bool:
    knob = Path("/proc/sys/kernel/unprivileged_userns_clone")
    most = Path("/proc/sys/user/max_user_namespaces")
    allowed = not knob.exists() or knob.read_text().strip() == "1"
    return allowed and most.exists() and int(most.read_text()) > 0


_KINDS: dict[str, Callable[[str], bool]] = {
    "cap": _capability,
    "cgroup": _cgroup,
    "fs": _file_system,
    "module": lambda name: importlib.util.find_spec(name) is not None,
}
_WORDS: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0 and _capability("sys_admin"),
    "userns": _unprivileged_user_namespaces,
}
