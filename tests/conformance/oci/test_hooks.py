"""Hooks: where each runs, what it is told, and what its failure does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from sampan.testing import Bundle, Runtime, requires

pytestmark = requires("root", "busybox")

KINDS = (
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
)  # fmt: skip
BEFORE_START = KINDS[:4]


def hook(path: Path, kind: str, **more: Any) -> dict[str, Any]:
    """Return a hook that notes its state, namespace and folder in files next to `path`."""
    script = f"cat > {path}/{kind}; readlink /proc/self/ns/mnt > {path}/{kind}.mnt;"
    script += f' pwd > {path}/{kind}.cwd; echo "$0 $HOOK" > {path}/{kind}.args'
    args = ["named", "sh", "-c", script, "zero"]
    env = [f"HOOK={kind}", "PATH=/usr/bin:/bin"]
    return {"path": "/bin/busybox", "args": ["busybox", *args[1:]], "env": env, **more}


def told(path: Path, kind: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((path / kind).read_text())
    return state


@pytest.fixture
def notes(bundle: Bundle, short_path: Path) -> Path:
    """A folder that is at the same place inside and outside."""
    inside = bundle.rootfs / str(short_path).lstrip("/")
    inside.mkdir(parents=True)
    bundle.mount(str(short_path), "bind", str(short_path), "rbind", "rw")
    (bundle.rootfs / "bin").mkdir(exist_ok=True)
    return short_path


def test_all_six(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    hooks = {kind: [hook(notes, kind)] for kind in KINDS}
    bundle.config["annotations"] = {"key": "value"}
    name = runtime.create(bundle, "sleep", "100", hooks=hooks)
    inner = os.readlink(f"/proc/{runtime.pid(name)}/ns/mnt")
    outer = os.readlink("/proc/self/ns/mnt")
    for kind in ("prestart", "createRuntime"):
        assert told(notes, kind)["pid"] == runtime.pid(name)
    for kind in KINDS[:3]:
        state = told(notes, kind)
        assert (state["id"], state["status"]) == (name, "creating")
        assert state["bundle"] == str(bundle.path)
        assert state["annotations"] == {"key": "value"}
    assert (notes / "createContainer.cwd").read_text().strip() == str(bundle.rootfs)
    assert not (notes / "startContainer").exists()
    runtime.start(name)
    _wait_for(notes / "startContainer.args")
    assert told(notes, "startContainer")["status"] == "created"
    # runc 1.1 tells its poststart hooks of a container that is still created.
    assert told(notes, "poststart")["status"] == ("running" if runtime.ours else "created")
    assert not (notes / "poststop").exists()
    runtime.kill(name)
    runtime.wait(name)
    runtime.delete(name)
    assert told(notes, "poststop")["status"] == "stopped"
    for kind in KINDS:
        expected = inner if kind in ("createContainer", "startContainer") else outer
        assert (notes / f"{kind}.mnt").read_text().strip() == expected, kind
        assert (notes / f"{kind}.args").read_text() == f"zero {kind}\n"


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists() and time.monotonic() < deadline:
        os.sched_yield()


@pytest.mark.parametrize("kind", BEFORE_START)
def test_a_failure_ends_it(kind: str, runtime: Runtime, bundle: Bundle) -> None:
    failing = {"path": "/bin/sh", "args": ["sh", "-c", "echo reason >&2; exit 3"]}
    good = {"path": "/bin/sh", "args": ["sh", "-c", ":"]}
    result = runtime.run(bundle, "echo", "ran", hooks={kind: [good, failing]})
    assert result.returncode != 0
    assert "ran" not in result.stdout
    if runtime.ours:
        assert f"error running {kind} hook #1:" in result.stderr
        assert "exit status 3, output: reason" in result.stderr
    assert runtime.call("state", bundle.id).returncode != 0


def test_poststop_goes_on(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    failing = {"path": "/bin/false"}
    hooks = {"poststop": [failing, hook(notes, "poststop")]}
    assert runtime.run(bundle, "true", hooks=hooks).returncode == 0
    if not runtime.ours and not (notes / "poststop").exists():
        pytest.xfail("runc 1.1 runs no poststop hook after one that failed")
    assert told(notes, "poststop")["status"] == "stopped"


def test_time_runs_out(runtime: Runtime, bundle: Bundle) -> None:
    hanging = {"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}
    began = time.monotonic()
    result = runtime.run(bundle, "true", hooks={"createRuntime": [hanging]})
    assert result.returncode != 0
    assert time.monotonic() - began < 20
    if runtime.ours:
        assert "error running createRuntime hook #0: /bin/sleep: did not end" in result.stderr


def test_a_hook_may_leave_a_child_and_read_nothing(runtime: Runtime, bundle: Bundle) -> None:
    """It has ended when it has ended: not when its pipes are closed."""
    if not runtime.ours:
        pytest.skip("runc waits for the pipes")
    bundle.config["annotations"] = {"long": "x" * 200_000}
    script = "sleep 1 & exit 0"
    hooks = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    assert runtime.run(bundle, "true", hooks=hooks).returncode == 0


def test_paths_must_be_absolute(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle, "true", hooks={"prestart": [{"path": "bin/true"}]})
    assert result.returncode != 0


def test_start_hooks_are_the_users_and_filtered(
    runtime: Runtime, bundle: Bundle, notes: Path
) -> None:
    """They run as what the program will be: its user, its environment, its filter."""
    os.chmod(notes, 0o777)  # noqa: S103
    script = f"id -u > {notes}/uid; echo $MINE $HOME > {notes}/env; mkdir {notes}/made; exit 0"
    hooks = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    seccomp = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    env = ["PATH=/usr/bin:/bin", "MINE=yes", "HOME=/tmp"]
    result = runtime.run(
        bundle, "true", hooks=hooks, seccomp=seccomp, user={"uid": 7, "gid": 7}, env=env
    )
    assert result.returncode == 0, result.stderr
    assert (notes / "uid").read_text() == "7\n"
    assert (notes / "env").read_text() == "yes /tmp\n"
    assert not (notes / "made").exists()
