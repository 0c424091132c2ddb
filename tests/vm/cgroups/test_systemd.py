"""The systemd driver with a real systemd as pid 1, runc beside us."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.testing import Bundle, Runtime, requires
from sampan.testing.runtimes import ENTRIES

pytestmark = [
    requires("root", "busybox", "cgroup:v2"),
    pytest.mark.skipif(
        not Path("/run/systemd/private").exists(), reason="systemd is not pid 1 here"
    ),
]

OURS = ("sampan-exec", "sampan-fork")
ROOT = Path("/sys/fs/cgroup")


@pytest.fixture
def make(short_path: Path) -> Iterator[Callable[[str], Runtime]]:
    made: list[Runtime] = []

    def build(name: str) -> Runtime:
        folder = short_path / f"state-{len(made)}"
        folder.mkdir(mode=0o711)
        made.append(Runtime(name, ENTRIES[name](), folder, "--systemd-cgroup"))
        return made[-1]

    yield build
    for runtime in made:
        runtime.close()


@pytest.fixture(params=[*OURS, "runc"])
def runtime(request: pytest.FixtureRequest, make: Callable[[str], Runtime]) -> Runtime:
    return make(request.param)


def show(unit: str, *names: str) -> dict[str, str]:
    command = ["systemctl", "show", unit, *(f"-p{name}" for name in names)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(line.partition("=")[::2] for line in lines.splitlines())


def test_a_scope_with_limits_lives_and_goes(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["cgroupsPath"] = f"sampan-test.slice:box:{bundle.id}"
    bundle.linux["resources"] |= {
        "memory": {"limit": 64 << 20, "swap": 64 << 20},
        "cpu": {"shares": 2048, "quota": 50_000, "period": 100_000, "cpus": "0-1"},
        "pids": {"limit": 20},
    }
    unit = f"box-{bundle.id}.scope"
    name = runtime.create(bundle, "sleep", "100")
    folder = ROOT / "sampan.slice/sampan-test.slice" / unit
    assert str(runtime.pid(name)) in (folder / "cgroup.procs").read_text().split()
    runtime.start(name)
    shown = show(
        unit, "MemoryMax", "TasksMax", "CPUQuotaPerSecUSec", "Delegate", "ActiveState", "Slice"
    )
    assert shown == {
        "MemoryMax": str(64 << 20), "TasksMax": "20", "CPUQuotaPerSecUSec": "500ms",
        "Delegate": "yes", "ActiveState": "active", "Slice": "sampan-test.slice",
    }  # fmt: skip
    assert (folder / "memory.max").read_text().strip() == str(64 << 20)
    assert (folder / "cpu.max").read_text().strip() == "50000 100000"
    assert (folder / "pids.max").read_text().strip() == "20"
    assert runtime.exec(name, "cat", "/proc/self/cgroup").returncode == 0
    runtime.delete(name, force=True)
    assert not folder.exists()
    assert show(unit, "LoadState")["LoadState"] == "not-found"


def test_limits_outlive_a_reload(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["cgroupsPath"] = f"system.slice:box:{bundle.id}"
    unit = f"box-{bundle.id}.scope"
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    update = runtime.call("update", "--memory", str(48 << 20), "--pids-limit", "7", name)
    assert update.returncode == 0, update.stderr
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    folder = ROOT / "system.slice" / unit
    assert (folder / "memory.max").read_text().strip() == str(48 << 20)
    assert (folder / "pids.max").read_text().strip() == "7"
    assert runtime.exec(name, "sh", "-c", ": >/dev/null").returncode == 0
    runtime.delete(name, force=True)


@pytest.mark.parametrize("name", OURS)
def test_devices_stay_closed_after_a_reload(
    make: Callable[[str], Runtime], bundle: Bundle, name: str
) -> None:
    runtime = make(name)
    bundle.linux["cgroupsPath"] = f":box:{bundle.id}"
    box = runtime.create(bundle, "sleep", "100")
    runtime.start(box)
    probe = "mknod /tmp/kmsg c 1 11 2>/dev/null; cat /tmp/kmsg >/dev/null && echo open"
    assert "open" not in runtime.exec(box, "sh", "-c", probe).stdout
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert "open" not in runtime.exec(box, "sh", "-c", probe).stdout
    assert runtime.exec(box, "sh", "-c", "echo hello >/dev/null").returncode == 0
    runtime.delete(box, force=True)


@pytest.mark.parametrize("name", OURS)
def test_one_task_is_enough(make: Callable[[str], Runtime], bundle: Bundle, name: str) -> None:
    """The process that holds the scope open before init must not count."""
    bundle.linux["cgroupsPath"] = f":box:{bundle.id}"
    bundle.linux["resources"]["pids"] = {"limit": 1}
    result = make(name).run(bundle, "echo", "alone")
    assert (result.returncode, result.stdout) == (0, "alone\n"), result.stderr


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/absolute", "slice:prefix:name"),
        ("a:b", "slice:prefix:name"),
        ("../x.slice:b:c", "no name for a systemd slice"),
        ("x--y.slice:b:c", "no name for a systemd slice"),
        ("x.slice:b:c/d", "no name for a systemd unit"),
        ("x.slice:b:c\nd", "no name for a systemd unit"),
    ],
)
def test_malformed_paths_are_refused(
    make: Callable[[str], Runtime], bundle: Bundle, name: str, path: str, words: str
) -> None:
    bundle.linux["cgroupsPath"] = path
    result = make(name).run(bundle, "true")
    assert result.returncode == 1
    assert words in result.stderr


@pytest.mark.parametrize("name", OURS)
def test_a_failed_creation_leaves_no_unit(
    make: Callable[[str], Runtime], bundle: Bundle, name: str
) -> None:
    bundle.linux["cgroupsPath"] = f":box:{bundle.id}"
    result = make(name).run(bundle, "nosuchprogram")
    assert "executable file not found in $PATH" in result.stderr
    assert show(f"box-{bundle.id}.scope", "LoadState")["LoadState"] == "not-found"


@pytest.mark.parametrize("name", OURS)
def test_a_unit_that_lives_is_not_taken_over(
    make: Callable[[str], Runtime], bundle: Bundle, name: str
) -> None:
    unit = f"box-{bundle.id}"
    subprocess.run(["systemd-run", "--unit", f"{unit}.scope", "--scope", "true"], check=True)
    holder = subprocess.Popen(["systemd-run", "--unit", unit, "--scope", "sleep", "100"])
    try:
        while show(f"{unit}.scope", "ActiveState")["ActiveState"] != "active":
            os.sched_yield()
        bundle.linux["cgroupsPath"] = f":box:{bundle.id}"
        result = make(name).run(bundle, "true")
        assert result.returncode == 1
        assert re.search("not empty|already exists|was already loaded", result.stderr)
        assert holder.poll() is None
    finally:
        holder.terminate()
        holder.wait(10)
