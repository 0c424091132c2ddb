"""The birth certificate: a process is born by us as it is by runc, but for what is explained here.

Every case is a change to the same config.json; every runtime runs the same bundle.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from sampan.testing import Bundle, Runtime, requires
from sampan.testing.bundle import DEFAULT_CAPABILITIES
from sampan.testing.certificate import certificate, differences
from sampan.testing.runtimes import ExecEntry, sampan_oci

pytestmark = requires("root", "busybox", "runc>=1.1.5")

NAMESPACES = [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")]
ALL_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
IDS = [{"containerID": 0, "hostID": 100000, "size": 65536}]

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "user": {
        "user": {"uid": 1000, "gid": 1001, "umask": 0o27, "additionalGids": [5, 44]},
        "oom_score_adj": 321,
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 500, "hard": 600},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ],
        "env": ["PATH=/usr/bin:/bin", "B=2", "A=1", "EMPTY="],
        "cwd": "/tmp",
    },
    "ambient": {
        "user": {"uid": 1000, "gid": 1000},
        "capabilities": {name: ["CAP_NET_BIND_SERVICE", "CAP_KILL"] for name in ALL_SETS},
        "no_new_privileges": False,
    },
    "cgroup namespace": {"namespaces": [*NAMESPACES, {"type": "cgroup"}]},
    "host's pids and network": {
        "namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}]
    },
    "shared propagation": {"rootfs_propagation": "shared"},
    "slave propagation": {"rootfs_propagation": "slave"},
    "user namespace": {
        "namespaces": [*NAMESPACES, {"type": "user"}],
        "uid_mappings": IDS,
        "gid_mappings": IDS,
    },
    "limits": {
        "resources": {
            "memory": {"limit": 256 << 20},
            "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
            "pids": {"limit": 50},
            "devices": [{"allow": False, "access": "rwm"}],
        }
    },
    "no capabilities": {"capabilities": {}, "no_new_privileges": True},
    "all our capabilities": {"capabilities": dict.fromkeys(ALL_SETS, DEFAULT_CAPABILITIES)},
}

EXPLAINED: dict[tuple[str, str], str] = {
    ("user namespace", "session keyring"): (
        "runc 1.1.5 lets others, not its user, search the keyring when the ids are mapped"
    ),
    ("disorderly", "limits"): (
        "Go before 1.21 raises the soft limit of open files at start, and runc 1.1.5 passes it on;"
        " current runc gives the caller's limit, as we do"
    ),
    ("disorderly", "status SigBlk"): (
        "runc passes on a signal that its caller had blocked; we unblock all"
    ),
} | {
    ("disorderly", field): (
        "runc before 1.2 leaves a process on the processors of its caller; later ones let it run on"
        " all of its cpuset, as we do"
    )
    for field in ("affinity", "status Cpus_allowed", "status Cpus_allowed_list")
}
"""Case and field to the reason why it may differ from runc's."""


def unexplained(case: str, ours: dict[str, object], theirs: dict[str, object]) -> dict[str, str]:
    found = differences(_without_own_signals(ours), _without_own_signals(theirs))
    return {field: words for field, words in found.items() if (case, field) not in EXPLAINED}


def _without_own_signals(certificate: dict[str, object]) -> dict[str, object]:
    """Drop signals 32 to 34, the C library's and Go's own, from those that are ignored.

    Whoever runs these tests may have ignored them. Go's runtime cannot touch them, and so runc
    passes them on; we reset them with all others.
    """
    ignored = int(str(certificate["status SigIgn"]), 16) & ~(0b111 << 31)
    return {**certificate, "status SigIgn": f"{ignored:016x}"}


@pytest.fixture
def inhabited(bundle: Bundle) -> Bundle:
    """A bundle that shows the host's programs, and whose rootfs any mapped user may enter."""
    bundle.bind_host_programs()
    for path in (bundle.path, bundle.path.parent, bundle.rootfs):
        path.chmod(0o755)
    return bundle


@pytest.mark.parametrize("entry", ["runc", "sampan-exec", "sampan-fork"])
@pytest.mark.parametrize("case", CASES)
def test_born_as_by_runc(
    case: str, entry: str, inhabited: Bundle, make_runtime: Callable[[str], Runtime]
) -> None:
    """runc is compared with itself, too: that proves that the fields tell of the birth alone."""
    theirs = certificate(make_runtime("runc"), inhabited, **CASES[case])
    ours = certificate(make_runtime(entry), inhabited, **CASES[case])
    assert unexplained(case, ours, theirs) == {}


DISORDER = """
import ctypes, os, resource, signal, sys
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2})
os.umask(0o077)
os.environ["LEAKED"] = "yes"
os.nice(3)
libc = ctypes.CDLL(None)
libc.prctl(29, 1000000, 0, 0, 0)
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 2000))
open("/proc/self/oom_score_adj", "w").write("77")
os.sched_setaffinity(0, {0})
os.dup2(os.open("/etc", os.O_RDONLY), 57)
os.chdir("/var")
os.execv(sys.argv[1], sys.argv[1:])
"""
"""A caller that has turned everything inheritable upside down."""


@pytest.mark.parametrize("entry", ["runc", "sampan-exec"])
def test_born_as_by_runc_of_a_disorderly_caller(
    entry: str, inhabited: Bundle, make_runtime: Callable[[str], Runtime]
) -> None:
    theirs = certificate(_disorderly(make_runtime, "runc"), inhabited)
    ours = certificate(_disorderly(make_runtime, entry), inhabited)
    assert unexplained("disorderly", ours, theirs) == {}
    assert not any("/etc" in str(fd) for fd in ours["fds"])  # type: ignore[attr-defined]
    assert "LEAKED=yes" not in ours["environ"]  # type: ignore[operator]


def _disorderly(make_runtime: Callable[[str], Runtime], name: str) -> Runtime:
    runtime = make_runtime(name)
    command = ("/usr/sbin/runc",) if name == "runc" else sampan_oci()
    runtime.entry = ExecEntry(sys.executable, "-c", DISORDER, *command)
    return runtime
