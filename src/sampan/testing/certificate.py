"""The birth certificate of a process: all that it inherited or was given, as it sees it itself.

Three programs run in turn as a container's init, from the same config.json but for `args`:

    head   copies files of /proc/self: it changes none of its own dispositions, as Python does
    ls     lists its open fds
    a Python program for what has no file: keyring, affinity, securebits, ids of session and group

Fields that differ between two births by the same runtime (memory sizes, times, mount ids) are left
out; everything else must be equal between runtimes or be explained.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from sampan.testing.bundle import Bundle
from sampan.testing.runtimes import Runtime

__all__ = ["certificate", "differences"]

_FILES = (
    "status", "limits", "cgroup", "mountinfo", "oom_score_adj", "environ", "stat", "personality",
    "timerslack_ns", "setgroups", "uid_map", "gid_map", "coredump_filter", "loginuid", "cmdline",
)  # fmt: skip

_VARYING = re.compile(
    r"Vm\w+|Rss\w+|Hugetlb\w+|\w*voluntary_ctxt_switches|State|untag_mask|x86_\w+|Threads"
)
"""Lines of /proc/self/status that tell of the moment, not of the birth."""

_STAT = {
    4: "ppid", 5: "pgrp", 6: "session", 7: "tty_nr", 18: "priority", 19: "nice",
    38: "exit_signal", 40: "rt_priority", 41: "policy",
}  # fmt: skip

_PROGRAM = """
import ctypes, json, os, resource, sys
libc = ctypes.CDLL(None, use_errno=True)
def keyring(which):
    number = libc.syscall(250, 0, which, 0)
    if number < 0:
        return "errno " + str(ctypes.get_errno())
    text = ctypes.create_string_buffer(4096)
    size = libc.syscall(250, 6, number, text, 4096)
    return text.value.decode() if size > 0 else "errno " + str(ctypes.get_errno())
def get(option):
    return libc.prctl(option, 0, 0, 0, 0)
signal = ctypes.c_int()
libc.prctl(2, ctypes.byref(signal))
subreaper = ctypes.c_int()
libc.prctl(37, ctypes.byref(subreaper))
print(json.dumps({
    "session keyring": keyring(-3),
    "affinity": sorted(os.sched_getaffinity(0)),
    "scheduler": os.sched_getscheduler(0),
    "io priority": libc.syscall(252, 1, 0),
    "securebits": get(27),
    "dumpable": get(3),
    "death signal": signal.value,
    "subreaper": subreaper.value,
    "timer slack": get(30),
    "no_new_privs": get(39),
    "transparent huge pages": get(42),
    "leads its session": os.getsid(0) == os.getpid(),
    "leads its group": os.getpgid(0) == os.getpid(),
    "working folder": os.getcwd(),
    "groups": os.getgroups(),
    "ids": [*os.getresuid(), *os.getresgid()],
    "host": [os.uname().nodename],
    "controlling terminal": os.path.exists("/dev/tty") and os.access("/dev/tty", os.R_OK),
    "dev": sorted(os.listdir("/dev")),
    "terminals": [os.isatty(fd) for fd in range(3)],
}))
"""


def certificate(runtime: Runtime, bundle: Bundle, **changes: object) -> dict[str, object]:
    """Run the three programs in `bundle` and return what they saw, field by field.

    `bundle` must show the host's programs (`Bundle.bind_host_programs`).

    Raises:
      AssertionError: one of them could not run; its standard error is in the text.
    """
    files = [f"/proc/self/{name}" for name in _FILES]
    copied = _run(runtime, bundle, ("head", "-v", "-c", "1000000", *files), changes)
    seen: dict[str, object] = {}
    for name, text in _split(copied).items():
        seen.update(_PARSERS.get(name, _whole)(name, text))
    listed = _run(runtime, bundle, ("ls", "-l", "/proc/self/fd"), changes)
    seen["fds"] = _fds(listed)
    asked = _run(runtime, bundle, ("/usr/bin/python3", "-I", "-S", "-c", _PROGRAM), changes)
    seen.update(json.loads(asked))
    return {
        key: json.loads(json.dumps(value).replace(bundle.id, "ID")) for key, value in seen.items()
    }


def differences(ours: Mapping[str, object], theirs: Mapping[str, object]) -> dict[str, str]:
    """Return, for each field that is not equal, both sides in words."""
    found = {}
    for key in sorted({*ours, *theirs}):
        mine, other = ours.get(key), theirs.get(key)
        if mine == other:
            continue
        if isinstance(mine, list) and isinstance(other, list):
            more = [item for item in mine if item not in other]
            less = [item for item in other if item not in mine]
            order = "" if more or less else f"; order, ours: {mine}; theirs: {other}"
            found[key] = f"only ours: {more}; only theirs: {less}{order}"
        else:
            found[key] = f"ours: {mine!r}; theirs: {other!r}"
    return found


def _run(
    runtime: Runtime, bundle: Bundle, args: tuple[str, ...], changes: Mapping[str, object]
) -> str:
    """By create and start, as containerd does it: the process then holds the very stdio we give."""
    name = runtime.create(bundle, *args, **changes)  # type: ignore[arg-type]
    runtime.start(name)
    code = runtime.wait(name)
    runtime.delete(name)
    stdout, stderr = ((bundle.path / stream).read_text() for stream in ("stdout", "stderr"))
    assert code == 0, f"{runtime.name}: {args[0]}: {stderr}"
    return stdout


def _split(text: str) -> dict[str, str]:
    parts = re.split(r"^==> /proc/self/(\w+) <==\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _whole(name: str, text: str) -> dict[str, object]:
    return {name: text.rstrip("\n").split("\0") if "\0" in text else text.strip().splitlines()}


def _status(name: str, text: str) -> dict[str, object]:
    lines = (line.partition(":") for line in text.splitlines() if line)
    seen: dict[str, object] = {
        f"status {key}": " ".join(value.split())
        for key, _, value in lines
        if not _VARYING.fullmatch(key)
    }
    # Signals queued now, of the most that may be: only the limit is given at birth.
    seen["status SigQ"] = str(seen["status SigQ"]).partition("/")[2]
    own = str(seen["status Pid"])
    for key in ("Pid", "Tgid", "PPid", "NSpid", "NStgid", "NSpgid", "NSsid"):
        numbers = str(seen[f"status {key}"]).split()
        seen[f"status {key}"] = [_relative(number, own) for number in numbers]
    return seen


def _relative(pid: str, own: str) -> str:
    """Name a pid by what it is to the process, as numbers differ on every run."""
    return "own" if pid == own else "none" if pid == "0" else "another"


def _stat(name: str, text: str) -> dict[str, object]:
    fields = text.rpartition(")")[2].split()
    own = text.partition(" ")[0]
    seen: dict[str, object] = {}
    for number, what in _STAT.items():
        value = fields[number - 3]
        related = what in ("ppid", "pgrp", "session")
        seen[f"stat {what}"] = _relative(value, own) if related else value
    return seen


def _mountinfo(name: str, text: str) -> dict[str, object]:
    """Each mount as `root point options tags type source super-options`, by mount point.

    The kernel lists mounts by age; a runtime may well clone a bind mount's source before it makes
    the root. Mounts on top of each other keep their order.
    """
    lines = []
    groups: dict[str, str] = {}
    for line in text.strip().splitlines():
        fields = line.split(" ")
        rest = [
            re.sub(r"(shared|master|propagate_from):(\d+)", lambda m: _group(groups, m), field)
            for field in fields[3:]
        ]
        lines.append(" ".join(rest))
    return {"mountinfo": sorted(lines, key=lambda line: line.split(" ")[1])}


def _group(groups: dict[str, str], found: re.Match[str]) -> str:
    number = groups.setdefault(found[2], f"group{len(groups)}")
    return f"{found[1]}:{number}"


def _fds(text: str) -> list[str]:
    """`fd -> target`; numbers of pipes and the like left out."""
    found = re.findall(r" (\d+) -> (.+)$", text, flags=re.MULTILINE)
    return [f"{fd} -> {re.sub(r'[0-9]+', 'N', target)}" for fd, target in found]


_PARSERS = {"status": _status, "stat": _stat, "mountinfo": _mountinfo}
