"""`process` as users of runc know it: environment, folder, limits, scheduling; execs, too."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.testing import Bundle, Runtime, requires

pytestmark = requires("root", "busybox")
OURS = ("sampan-exec", "sampan-fork")


@pytest.fixture(params=OURS)
def ours(request: pytest.FixtureRequest, make_runtime: Callable[[str], Runtime]) -> Runtime:
    name: str = request.param
    return make_runtime(name)


def run(runtime: Runtime, bundle: Bundle, *command: str) -> str:
    result = runtime.run(bundle, *command)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_later_variables_win_and_newlines_stay(ours: Runtime, bundle: Bundle) -> None:
    bundle.process["env"] += ["A=1", "B=two\nlines", "A=2", "EMPTY="]
    entries = run(ours, bundle, "cat", "/proc/self/environ").split("\0")
    assert [e for e in entries if e.startswith("A=")] == ["A=2"]
    assert "B=two\nlines" in entries
    assert "EMPTY=" in entries


@pytest.mark.parametrize(("uid", "home"), [(0, "/root"), (65534, "/home"), (4242, "/")])
def test_home_comes_from_passwd(runtime: Runtime, bundle: Bundle, uid: int, home: str) -> None:
    bundle.process["user"] = {"uid": uid, "gid": uid}
    assert run(runtime, bundle, "sh", "-c", "echo $HOME") == f"{home}\n"
    if runtime.ours:  # runc 1.1 keeps an empty one
        bundle.process["env"].append("HOME=")
        assert run(runtime, bundle, "sh", "-c", "echo $HOME") == f"{home}\n"


def test_a_home_in_many_lines_is_no_line_of_its_own(ours: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "etc/passwd").write_text("broken\n" * 50_000 + "x:x:77:77::/seven:/bin/sh\n")
    bundle.process["user"] = {"uid": 77, "gid": 77}
    assert run(ours, bundle, "sh", "-c", "echo $HOME") == "/seven\n"


def test_an_exec_by_file_inherits_nothing(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["env"].append("FROM_CONFIG=1")
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    process = {"args": ["env"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    path = bundle.path / "process.json"
    path.write_text(json.dumps(process))
    output = runtime.exec(name, flags=("--process", str(path))).stdout
    assert "FROM_CONFIG" not in output
    assert "PATH=/bin" in output
    assert "FROM_CONFIG=1" in runtime.exec(name, "env").stdout
    assert "X=y" in runtime.exec(name, "env", flags=("--env", "X=y")).stdout
    runtime.delete(name, force=True)


@pytest.mark.parametrize("mode", [0o700, 0o711])
def test_a_folder_that_only_the_user_may_enter(runtime: Runtime, bundle: Bundle, mode: int) -> None:
    """And, the other way round, one that only the runtime may."""
    private = bundle.rootfs / "private"
    private.mkdir()
    private.chmod(mode)
    os.chown(private, 1000, 1000)
    bundle.process["cwd"] = "/private"
    for uid in (1000, 0):
        bundle.process["user"] = {"uid": uid, "gid": uid}
        assert run(runtime, bundle, "pwd") == "/private\n"


def test_a_missing_folder_is_made(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["cwd"] = "/not/there/yet"
    assert run(runtime, bundle, "pwd") == "/not/there/yet\n"


def test_execs_get_what_init_got(runtime: Runtime, bundle: Bundle) -> None:
    """umask, limits, rank among the killed; and no_new_privs."""
    bundle.process["user"] = {"uid": 0, "gid": 0, "umask": 0o27}
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456}]
    bundle.process["oomScoreAdj"] = 321
    script = "umask; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; " \
             "grep NoNewPrivs /proc/self/status"  # fmt: skip
    expected = ["0027", "123", "456", "321", "NoNewPrivs:", "1"]
    assert run(runtime, bundle, "sh", "-c", script).split() == expected
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    result = runtime.exec(name, "sh", "-c", script)
    got = result.stdout.split()
    assert got[1:] == expected[1:], result.stderr
    assert got[0] == "0027" or not runtime.ours  # runc 1.1 leaves the umask of an exec alone
    runtime.delete(name, force=True)


def test_scheduling_of_init_and_execs(ours: Runtime, bundle: Bundle) -> None:
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 5}
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    bundle.linux["personality"] = {"domain": "LINUX32"}
    script = "cut -d' ' -f19,41 /proc/self/stat; uname -m; cat /proc/self/personality"
    name = ours.create(bundle, "sleep", "100")
    ours.start(name)
    pid = ours.pid(name)
    assert os.sched_getscheduler(pid) == os.SCHED_BATCH
    assert os.getpriority(os.PRIO_PROCESS, pid) == 5
    output = ours.exec(name, "sh", "-c", script).stdout.split()
    assert output[:2] == ["5", str(os.SCHED_BATCH)]
    assert output[2] == "i686"
    ours.delete(name, force=True)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("scheduler", {"policy": "SCHED_WRONG"}, "scheduler"),
        ("scheduler", {"policy": "SCHED_OTHER", "nice": 40}, "nice"),
        ("scheduler", {"policy": "SCHED_BATCH", "priority": 3}, "priority"),
        ("ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 9}, "ioPriority"),
        ("rlimits", [{"type": "RLIMIT_WRONG", "soft": 1, "hard": 1}], "rlimit"),
        ("oomScoreAdj", 2000, "oomScoreAdj"),
        ("cwd", "relative", "absolute"),
        ("args", [], "args must not be empty"),
        ("env", ["NOVALUE"], "environment"),
    ],
)
def test_nonsense_is_named(
    ours: Runtime, bundle: Bundle, field: str, value: object, words: str
) -> None:
    bundle.process[field] = value
    bundle.write(bundle.config)
    result = ours.call("run", "--bundle", str(bundle.path), bundle.id)
    assert result.returncode == 1
    assert words in result.stderr
    assert list(ours.root.iterdir()) == []


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"mode": "MPOL_WRONG"}, "invalid memoryPolicy mode"),
        ({"mode": "MPOL_BIND"}, "requires nodes"),
        ({"mode": "MPOL_LOCAL", "nodes": "0"}, "neither nodes nor flags"),
        ({"mode": "MPOL_BIND", "nodes": "1-0"}, "memoryPolicy.nodes"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_WRONG"]}, "flag"),
    ],
)
def test_memory_policies_are_checked(
    ours: Runtime, bundle: Bundle, policy: dict[str, object], words: str
) -> None:
    bundle.linux["memoryPolicy"] = policy
    result = ours.run(bundle, "true")
    assert result.returncode == 1
    assert words in result.stderr


def test_a_memory_policy_holds(ours: Runtime, bundle: Bundle) -> None:
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    name = ours.create(bundle, "sleep", "100")
    ours.start(name)
    maps = Path(f"/proc/{ours.pid(name)}/numa_maps")
    if maps.exists():
        assert "bind:0" in maps.read_text()
        assert "bind:0" in ours.exec(name, "cat", "/proc/self/numa_maps").stdout
    ours.delete(name, force=True)


def test_exec_affinity_before_and_after(ours: Runtime, bundle: Bundle) -> None:
    bundle.process["execCPUAffinity"] = {"initial": "0", "final": "1"}
    name = ours.create(bundle, "sleep", "100")
    ours.start(name)
    output = ours.exec(name, "grep", "Cpus_allowed_list", "/proc/self/status").stdout
    assert output.split()[-1] == "1"
    ours.delete(name, force=True)


def test_unknown_capabilities_are_a_warning(runtime: Runtime, bundle: Bundle) -> None:
    sets = bundle.process["capabilities"]
    sets["bounding"] = [*sets["bounding"], "CAP_NOT_YET_INVENTED"]
    result = runtime.run(bundle, "echo", "fine")
    assert result.stdout == "fine\n", result.stderr


def test_ambient_ones_that_cannot_be_raised_are_a_warning(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["capabilities"]["ambient"] = ["CAP_SYS_ADMIN"]
    result = runtime.run(bundle, "echo", "fine")
    assert result.stdout == "fine\n", result.stderr


def test_everything_that_we_have_is_enough(ours: Runtime, bundle: Bundle) -> None:
    """A fully privileged container starts, even where root itself lacks a capability."""
    from sampan.linux import capabilities

    everything = list(capabilities.NAMES)
    for kind in ("bounding", "effective", "permitted", "inheritable"):
        bundle.process["capabilities"][kind] = everything
    result = ours.run(bundle, "echo", "fine")
    assert result.stdout == "fine\n", result.stderr


def test_a_missing_interpreter_is_one_line(ours: Runtime, bundle: Bundle) -> None:
    script = bundle.rootfs / "script"
    script.write_text("#!/not/there\n")
    script.chmod(0o755)
    name = ours.create(bundle, "sleep", "100")
    ours.start(name)
    result = ours.exec(name, "/script")
    assert result.returncode != 0
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    ours.delete(name, force=True)


def test_little_memory_and_a_strict_filter_are_enough(runtime: Runtime, bundle: Bundle) -> None:
    """Less address space than an interpreter has, and a filter of calls that only runtimes make."""
    size = 8 << 20
    bundle.process["rlimits"] = [
        {"type": "RLIMIT_AS", "soft": size, "hard": size},
        {"type": "RLIMIT_DATA", "soft": size, "hard": size},
    ]
    names = ["openat2", "fsopen", "mount_setattr", "close_range", "personality", "getcwd"]
    refused = {"names": names, "action": "SCMP_ACT_ERRNO"}
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]}
    assert run(runtime, bundle, "sh", "-c", "ulimit -v") == "8192\n"
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    assert runtime.exec(name, "sh", "-c", "ulimit -v").stdout == "8192\n"
    runtime.delete(name, force=True)
