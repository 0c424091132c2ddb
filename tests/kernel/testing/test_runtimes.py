"""The drivers, proven on every runtime at hand."""

from collections.abc import Callable

from sampan.testing import Bundle, Runtime, requires

pytestmark = requires("root", "busybox")


def test_run_returns_output_and_code(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(
        bundle, "sh", "-c", "read x; echo got $x; echo bad >&2; exit 3", stdin=b"a\n"
    )
    assert (result.returncode, result.stdout, result.stderr) == (3, "got a\n", "bad\n")


def test_a_life_in_steps(runtime: Runtime, bundle: Bundle) -> None:
    name = runtime.create(bundle, "sh", "-c", "echo up; exec sleep 60")
    assert runtime.state(name)["status"] == "created"
    runtime.start(name)
    assert runtime.exec(name, "echo", "hi").stdout == "hi\n"
    runtime.kill(name)
    assert runtime.wait(name) == 137
    assert runtime.state(name)["status"] == "stopped"
    runtime.delete(name)
    assert (bundle.path / "stdout").read_text() == "up\n"


def test_what_a_test_leaves_running_is_removed(
    make_runtime: Callable[[str], Runtime], bundle: Bundle
) -> None:
    """The leak fixture would say so if the driver's `close` did not."""
    runtime = make_runtime("runc")
    runtime.create(bundle, "sleep", "60")


def test_host_programs_run_inside(runtime: Runtime, bundle: Bundle) -> None:
    bundle.bind_host_programs()
    result = runtime.run(bundle, "/usr/bin/python3", "-c", "import os; print(os.getpid())")
    assert (result.stderr, result.stdout) == ("", "1\n")
