"""A container's life by the command line: ours exec'd, ours forked, and runc, all alike."""

from __future__ import annotations

from sampan.testing import Bundle, Runtime, requires


@requires("root", "busybox")
def test_run_returns_the_programs_output_and_code(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle, "sh", "-c", "echo here; exit 7")
    assert (result.returncode, result.stdout) == (7, "here\n")


@requires("root", "busybox")
def test_create_start_exec_kill_delete(runtime: Runtime, bundle: Bundle) -> None:
    name = runtime.create(bundle, "sleep", "100")
    assert runtime.state(name)["status"] == "created"
    runtime.start(name)
    assert runtime.state(name)["status"] == "running"
    result = runtime.exec(name, "sh", "-c", "hostname; exit 3")
    assert (result.returncode, result.stdout) == (3, "bundle\n")
    assert runtime.call("delete", name).returncode == 1
    runtime.kill(name)
    assert runtime.wait(name) == 137
    assert runtime.state(name)["status"] == "stopped"
    runtime.delete(name)
    assert runtime.call("state", name).returncode == 1


@requires("root", "busybox")
def test_missing_executable_is_told_at_create(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle, "nosuchprogram")
    assert result.returncode != 0
    assert "executable file not found in $PATH" in result.stderr + result.stdout


@requires("root", "busybox")
def test_exec_of_a_missing_program_ends_with_255(runtime: Runtime, bundle: Bundle) -> None:
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    result = runtime.exec(name, "nosuchprogram")
    assert result.returncode == 255
    assert "executable file not found in $PATH" in result.stderr


@requires("root", "busybox", "cgroup:freezer")
def test_paused_containers_refuse_exec(runtime: Runtime, bundle: Bundle) -> None:
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    assert runtime.call("pause", name).returncode == 0
    assert runtime.state(name)["status"] == "paused"
    assert runtime.exec(name, "true").returncode == 255
    assert runtime.call("resume", name).returncode == 0
    assert runtime.exec(name, "true").returncode == 0


@requires("root", "busybox")
def test_second_create_of_an_id_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    name = runtime.create(bundle, "sleep", "100")
    result = runtime.call("create", "--bundle", str(bundle.path), name)
    assert result.returncode == 1
    assert "container with given ID already exists" in result.stderr


@requires("root", "busybox", "cgroup:pids")
def test_limits_hold(runtime: Runtime, bundle: Bundle) -> None:
    fork_five = ("sh", "-c", "for i in 1 2 3 4 5; do sleep 1 & done")
    bundle.linux["resources"]["pids"] = {"limit": 3}
    assert "can't fork" in runtime.run(bundle, *fork_five).stderr
