"""Namespaces: new, joined, and of a user's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.testing import Bundle, Runtime, requires

IDS = [{"containerID": 0, "hostID": 100000, "size": 65536}]


@requires("root", "busybox")
def test_two_containers_share_a_pods_pids_and_network(
    runtime: Runtime, make_bundle: Callable[[], Bundle]
) -> None:
    pause, member = make_bundle(), make_bundle()
    runtime.create(pause, "sleep", "100")
    runtime.start(pause.id)
    first = runtime.pid(pause.id)
    shared = [
        {"type": "pid", "path": f"/proc/{first}/ns/pid"},
        {"type": "network", "path": f"/proc/{first}/ns/net"},
    ]
    own = [{"type": kind} for kind in ("mount", "uts", "ipc")]
    runtime.create(member, "sleep", "101", namespaces=[*shared, *own])
    runtime.start(member.id)
    second = runtime.pid(member.id)
    for kind in ("pid", "net"):
        assert os.readlink(f"/proc/{first}/ns/{kind}") == os.readlink(f"/proc/{second}/ns/{kind}")
    assert os.readlink(f"/proc/{first}/ns/mnt") != os.readlink(f"/proc/{second}/ns/mnt")
    assert "sleep 100" in runtime.exec(member.id, "ps").stdout
    # The namespace is the pause container's: the member must be ended by itself.
    runtime.kill(member.id)
    assert runtime.wait(member.id) == 137
    assert runtime.state(pause.id)["status"] == "running"


@requires("root", "busybox")
def test_user_namespace_and_exec_into_it(runtime: Runtime, bundle: Bundle) -> None:
    for path in (bundle.path, bundle.path.parent, bundle.rootfs):
        path.chmod(0o755)
    kinds = ("pid", "ipc", "uts", "mount", "network", "user")
    namespaces = [{"type": kind} for kind in kinds]
    name = runtime.create(
        bundle, "sleep", "100", namespaces=namespaces, uid_mappings=IDS, gid_mappings=IDS
    )
    runtime.start(name)
    assert os.stat(f"/proc/{runtime.pid(name)}").st_uid == 100000
    result = runtime.exec(name, "sh", "-c", "id -u; cat /proc/self/uid_map")
    assert result.stdout.split() == ["0", "0", "100000", "65536"]


def _pod_kinds(pid: int) -> list[dict[str, str]]:
    return [
        {"type": "pid", "path": f"/proc/{pid}/ns/pid"},
        {"type": "network", "path": f"/proc/{pid}/ns/net"},
    ]


def _with_the_hosts_proc_and_sys(bundle: Bundle) -> None:
    """Root of a user namespace may not mount these for pids and a network that it does not own."""
    kept = [m for m in bundle.config["mounts"] if m["destination"] not in ("/proc", "/sys")]
    bundle.config["mounts"] = kept
    for source in ("/proc", "/sys"):
        bundle.mount(source, "none", source, "rbind", "nosuid", "noexec", "nodev")
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    for path in (bundle.path, bundle.path.parent, bundle.rootfs):
        path.chmod(0o755)


@requires("root", "busybox")
def test_a_member_of_a_pod_with_users_of_its_own(
    runtime: Runtime, make_bundle: Callable[[], Bundle]
) -> None:
    if not runtime.ours:
        pytest.skip("runc 1.1 cannot")
    pause, member = make_bundle(), make_bundle()
    runtime.create(pause, "sleep", "100")
    runtime.start(pause.id)
    first = runtime.pid(pause.id)
    _with_the_hosts_proc_and_sys(member)
    own = [{"type": kind} for kind in ("mount", "uts", "ipc", "user")]
    namespaces = [*_pod_kinds(first), *own]
    runtime.create(
        member, "sleep", "101", namespaces=namespaces, uid_mappings=IDS, gid_mappings=IDS
    )
    runtime.start(member.id)
    second = runtime.pid(member.id)
    assert os.stat(f"/proc/{second}").st_uid == 100000
    for kind in ("pid", "net"):
        assert os.readlink(f"/proc/{first}/ns/{kind}") == os.readlink(f"/proc/{second}/ns/{kind}")
    for kind in ("user", "mnt", "uts", "ipc"):
        assert os.readlink(f"/proc/{first}/ns/{kind}") != os.readlink(f"/proc/{second}/ns/{kind}")
    result = runtime.exec(member.id, "sh", "-c", "id -u; readlink /proc/1/ns/user || echo no")
    assert result.stdout.split()[0] == "0"
    runtime.kill(member.id)
    assert runtime.wait(member.id) == 137


@requires("root", "busybox")
def test_a_user_namespace_by_path(runtime: Runtime, make_bundle: Callable[[], Bundle]) -> None:
    """What is new belongs to the joined user namespace, so it may mount its own proc and sysfs."""
    if not runtime.ours:
        pytest.skip("runc 1.1 cannot join one without mappings, and with them demands a new one")
    pause, member = make_bundle(), make_bundle()
    for bundle in (pause, member):
        for path in (bundle.path, bundle.path.parent, bundle.rootfs):
            path.chmod(0o755)
    kinds = ("pid", "ipc", "uts", "mount", "network", "user")
    new = [{"type": kind} for kind in kinds]
    runtime.create(pause, "sleep", "100", namespaces=new, uid_mappings=IDS, gid_mappings=IDS)
    runtime.start(pause.id)
    first = runtime.pid(pause.id)
    own = [{"type": kind} for kind in ("mount", "uts", "ipc")]
    joined = [*_pod_kinds(first), {"type": "user", "path": f"/proc/{first}/ns/user"}]
    runtime.create(member, "sleep", "101", namespaces=[*joined, *own])
    runtime.start(member.id)
    second = runtime.pid(member.id)
    assert os.stat(f"/proc/{second}").st_uid == 100000
    for kind in ("pid", "net", "user"):
        assert os.readlink(f"/proc/{first}/ns/{kind}") == os.readlink(f"/proc/{second}/ns/{kind}")
    result = runtime.exec(member.id, "sh", "-c", "id -u; ps | grep -c 'sleep 10[01]$'")
    assert result.stdout.split() == ["0", "2"]
    runtime.kill(member.id)
    assert runtime.wait(member.id) == 137


@requires("root", "busybox")
def test_clocks_of_ones_own(runtime: Runtime, bundle: Bundle) -> None:
    if not runtime.ours:
        pytest.skip("runc before 1.2 has no time namespaces")
    kinds = ("pid", "ipc", "uts", "mount", "network", "time")
    bundle.linux["timeOffsets"] = {
        "boottime": {"secs": 864000},
        "monotonic": {"secs": 5, "nanosecs": 7},
    }
    name = runtime.create(
        bundle,
        "sleep",
        "100",
        namespaces=[{"type": kind} for kind in kinds],
    )
    runtime.start(name)
    offsets = Path(f"/proc/{runtime.pid(name)}/timens_offsets").read_text().split()
    assert offsets == ["monotonic", "5", "7", "boottime", "864000", "0"]
    outside = float(Path("/proc/uptime").read_text().split()[0])
    inside = float(runtime.exec(name, "cat", "/proc/uptime").stdout.split()[0])
    assert 863990 < inside - outside < 864100


@requires("root", "busybox")
def test_offsets_without_a_time_namespace(runtime: Runtime, bundle: Bundle) -> None:
    if not runtime.ours:
        pytest.skip("runc before 1.2 ignores them")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1}}
    result = runtime.run(bundle, "true")
    assert result.returncode != 0
    assert "time offsets" in result.stderr


@requires("root", "busybox")
@pytest.mark.parametrize("propagation", ["rshared", "rslave", "rprivate", ""])
def test_mounts_travel_as_asked(
    propagation: str, runtime: Runtime, bundle: Bundle, short_path: Path
) -> None:
    """Both ways, host to container only, or not at all; without a word the host sees nothing."""
    shared = short_path / "shared"
    shared.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "--make-rshared", "t", shared], check=True)
    try:
        (shared / "out").mkdir()
        (shared / "in").mkdir()
        options = ("rbind", propagation) if propagation else ("rbind",)
        bundle.mount("/shared", "bind", str(shared), *options)
        sets = {kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")}
        name = runtime.create(
            bundle, "sleep", "100", capabilities=sets, rootfs_propagation=propagation
        )
        runtime.start(name)
        subprocess.run(["mount", "-t", "tmpfs", "o", shared / "out"], check=True)
        (shared / "out" / "file").touch()
        inner = "mount -t tmpfs i /shared/in && touch /shared/in/file && ls /shared/out"
        result = runtime.exec(name, "sh", "-c", inner)
        assert result.returncode == 0, result.stderr
        assert (result.stdout == "file\n") == (propagation in ("rshared", "rslave", ""))
        assert (shared / "in" / "file").exists() == (propagation == "rshared")
        runtime.delete(name, force=True)
    finally:
        subprocess.run(["umount", "-R", shared], check=True)
