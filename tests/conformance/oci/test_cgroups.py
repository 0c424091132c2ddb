"""Limits and life in cgroups as users of runc know them; v1, hybrid and v2 alike."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.cgroups import Manager
from sampan.testing import Bundle, Runtime, requires
from sampan.testing.requirements import missing

pytestmark = requires("root", "busybox", "cgroup:pids", "cgroup:memory", "cgroup:cpu")
OURS = ("sampan-exec", "sampan-fork")
V2 = not missing("cgroup:v2")


@pytest.fixture(params=OURS)
def ours(request: pytest.FixtureRequest, make_runtime: Callable[[str], Runtime]) -> Runtime:
    name: str = request.param
    return make_runtime(name)


def file_of(name: str, controller: str, v1: str, v2: str) -> Path:
    """Return a file of a container's cgroup."""
    manager = Manager(f"/{name}")
    return Path(manager.paths["unified"], v2) if V2 else Path(manager.paths[controller], v1)


def start(runtime: Runtime, bundle: Bundle, *command: str) -> str:
    name = runtime.create(bundle, *(command or ("sleep", "100")))
    runtime.start(name)
    return name


def update(runtime: Runtime, name: str, *flags: str) -> None:
    result = runtime.call("update", *flags, name)
    assert result.returncode == 0, result.stderr


def test_a_cgroup_in_use_is_refused_at_once(
    runtime: Runtime, make_bundle: Callable[[], Bundle]
) -> None:
    first, second = make_bundle(), make_bundle()
    name = start(runtime, first)
    second.linux["cgroupsPath"] = first.linux["cgroupsPath"]
    result = runtime.run(second, "true")
    if runtime.ours:  # runc 1.1 only warns
        assert result.returncode != 0
        assert "cgroup is not empty" in result.stderr
    assert runtime.state(name)["status"] == "running"


def test_a_frozen_cgroup_is_refused_at_once(ours: Runtime, bundle: Bundle) -> None:
    manager = Manager(bundle.linux["cgroupsPath"])
    manager.create()
    manager.freeze()
    try:
        result = ours.run(bundle, "true")
        assert result.returncode != 0
        assert "frozen" in result.stderr
    finally:
        manager.thaw()
        manager.delete()


def test_delete_removes_what_is_below(runtime: Runtime, bundle: Bundle) -> None:
    name = start(runtime, bundle)
    below = file_of(name, "pids", "below", "below")
    below.mkdir()
    (below / "deeper").mkdir()
    runtime.delete(name, force=True)
    assert not below.parent.exists()


@pytest.mark.parametrize("init_gone", [False, True])
def test_without_a_pid_namespace_all_end(runtime: Runtime, bundle: Bundle, init_gone: bool) -> None:
    kinds = [n for n in bundle.linux["namespaces"] if n["type"] != "pid"]
    bundle.linux["namespaces"] = kinds
    script = "sleep 1000 & sleep 1000 & " + ("true" if init_gone else "wait")
    name = start(runtime, bundle, "sh", "-c", script)
    if init_gone:
        runtime.wait(name)
    manager = Manager(f"/{name}")
    assert manager.pids()
    fds = [os.pidfd_open(pid) for pid in manager.pids() if pid != runtime.pid(name)]
    if not init_gone:
        runtime.kill(name)
        runtime.wait(name)
    runtime.delete(name, force=True)
    assert not manager.exists()
    for fd in fds:
        os.waitid(os.P_PIDFD, fd, os.WEXITED)  # orphans come to us
        os.close(fd)


def test_paused_ones_stay_paused_across_updates(runtime: Runtime, bundle: Bundle) -> None:
    name = start(runtime, bundle)
    assert runtime.call("pause", name).returncode == 0
    update(runtime, name, "--pids-limit", "30")
    assert runtime.state(name)["status"] == "paused"
    assert runtime.exec(name, "true").returncode == 255
    runtime.delete(name, force=True)


def test_limits_go_up_and_down(runtime: Runtime, bundle: Bundle) -> None:
    """Memory with swap and quota with period have an order in which the kernel takes them."""
    name = start(runtime, bundle)
    memory = file_of(name, "memory", "memory.limit_in_bytes", "memory.max")
    for size in (64 << 20, 32 << 20, 128 << 20):
        update(runtime, name, "--memory", str(size), "--memory-swap", str(size))
        assert int(memory.read_text()) == size
    quota = file_of(name, "cpu", "cpu.cfs_quota_us", "cpu.max")
    for limit, period in ((50_000, 100_000), (5_000, 10_000), (200_000, 400_000)):
        update(runtime, name, "--cpu-quota", str(limit), "--cpu-period", str(period))
        assert int(quota.read_text().split()[0]) == limit
    update(runtime, name, "--pids-limit", "-1")
    assert file_of(name, "pids", "pids.max", "pids.max").read_text().strip() == "max"
    runtime.delete(name, force=True)


def test_sizes_with_suffixes_and_flags_after_the_id(ours: Runtime, bundle: Bundle) -> None:
    name = start(ours, bundle)
    assert ours.call("update", name, "--memory", "50M").returncode == 0
    memory = file_of(name, "memory", "memory.limit_in_bytes", "memory.max")
    assert int(memory.read_text()) == 50 << 20
    text = json.dumps({"pids": {"limit": 17}})
    assert ours.call("update", "-r", "-", name, stdin=text.encode()).returncode == 0
    assert file_of(name, "pids", "pids.max", "pids.max").read_text().strip() == "17"
    ours.delete(name, force=True)


def test_no_pids_is_one(ours: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["pids"] = {"limit": 0}
    result = ours.run(bundle, "sh", "-c", "true & echo never")
    assert "can't fork" in result.stderr


def test_a_burst_outlives_other_updates(ours: Runtime, bundle: Bundle) -> None:
    burst = {"quota": 50_000, "period": 100_000, "burst": 20_000}
    bundle.linux["resources"]["cpu"] = burst
    name = start(ours, bundle)
    path = file_of(name, "cpu", "cpu.cfs_burst_us", "cpu.max.burst")
    if path.exists():
        assert int(path.read_text()) == 20_000
        update(ours, name, "--pids-limit", "30")
        update(ours, name, "--cpu-quota", "60000")
        assert int(path.read_text()) == 20_000
    ours.delete(name, force=True)


def test_unified_belongs_to_v2(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["unified"] = {"memory.high": str(64 << 20)}
    result = runtime.run(bundle, "true")
    if V2:
        assert result.returncode == 0, result.stderr
    elif runtime.ours:
        assert result.returncode != 0
        assert "unified" in result.stderr


def test_execs_join_every_hierarchy(runtime: Runtime, bundle: Bundle) -> None:
    name = start(runtime, bundle)
    inits = Path(f"/proc/{runtime.pid(name)}/cgroup").read_text()
    pid = bundle.path / "p"
    flags = ("-d", "--pid-file", str(pid))
    assert runtime.exec(name, "sleep", "50", flags=flags).returncode == 0
    execs = Path(f"/proc/{pid.read_text()}/cgroup").read_text()
    top = f"/{name}"
    for init_line, exec_line in zip(inits.splitlines(), execs.splitlines(), strict=True):
        if init_line.endswith(top):
            assert top in exec_line
    # A pid namespace ends only when whoever is the parent of its execs has waited for them.
    os.kill(int(pid.read_text()), signal.SIGKILL)
    os.waitpid(int(pid.read_text()), 0)
    runtime.delete(name, force=True)


def test_device_rules_have_no_gap(ours: Runtime, bundle: Bundle) -> None:
    """While rules change for ever, a program that is allowed a device is never refused it."""
    loop = "while :; do : >/dev/null || exit 9; done"
    name = start(ours, bundle, "sh", "-c", loop)
    zero = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}
    deny = {"allow": False, "access": "rwm"}
    for _ in range(20):
        for rules in ([deny, zero], [deny]):
            text = json.dumps({"devices": [*rules, *ALWAYS]})
            assert ours.call("update", "-r", "-", name, stdin=text.encode()).returncode == 0
    assert ours.state(name)["status"] == "running"
    ours.delete(name, force=True)


ALWAYS = [
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
    {"allow": True, "type": "c", "major": 5, "minor": 0, "access": "rwm"},
]


def test_affinity_is_that_of_the_cpuset(ours: Runtime, bundle: Bundle) -> None:
    """Whatever the caller was bound to, the container may use all of its CPUs."""
    if "cpuset" not in Manager("/x").paths and not V2:
        pytest.skip("no cpuset here")
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        pytest.skip("one CPU")
    bundle.write(bundle.with_changes(("grep", "Cpus_allowed_list", "/proc/self/status")))
    os.sched_setaffinity(0, {min(cpus)})
    try:
        result = ours.call("run", "--bundle", str(bundle.path), bundle.id)
    finally:
        os.sched_setaffinity(0, cpus)
    assert result.stdout.split()[-1] == f"{min(cpus)}-{max(cpus)}", result.stderr


def test_ps_works_after_the_end(ours: Runtime, bundle: Bundle) -> None:
    name = start(ours, bundle, "sh", "-c", "sleep 100 & exec sleep 100")
    manager = Manager(f"/{name}")
    while len(manager.pids()) < 2:  # the shell has yet to fork
        os.sched_yield()
    listed = json.loads(ours.call("ps", "--format", "json", name).stdout)
    assert ours.pid(name) in listed
    assert len(listed) == 2
    table = ours.call("ps", name, "-o", "pid,comm").stdout
    assert table.splitlines()[0].split() == ["PID", "COMMAND"]
    ours.kill(name)
    ours.wait(name)
    assert ours.call("ps", "--format", "json", name).stdout.strip() in ("null", "[]")
