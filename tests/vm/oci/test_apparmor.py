"""AppArmor for real: a profile that the kernel enforces on what we start."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.testing import Bundle, Runtime, requires

ENABLED = Path("/sys/module/apparmor/parameters/enabled")

pytestmark = [
    requires("root", "busybox", "apparmor_parser"),
    pytest.mark.skipif(
        not ENABLED.exists() or ENABLED.read_text().strip() != "Y", reason="AppArmor is off"
    ),
]

PROFILE = """
profile sampan-test flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  network,
  umount,
  signal,
  deny /secret r,
  deny /bin/cat2 x,
}
"""


@pytest.fixture
def profile(short_path: Path) -> Iterator[str]:
    path = short_path / "profile"
    path.write_text(PROFILE)
    command = ["apparmor_parser", "--base", str(short_path), "-K"]
    subprocess.run([*command, "-r", str(path)], check=True)
    yield "sampan-test"
    subprocess.run([*command, "-R", str(path)], check=True)


@pytest.fixture(params=["sampan-exec", "sampan-fork", "runc"])
def runtime(request: pytest.FixtureRequest, make_runtime: Callable[[str], Runtime]) -> Runtime:
    name: str = request.param
    return make_runtime(name)


def test_init_and_execs_are_confined(runtime: Runtime, bundle: Bundle, profile: str) -> None:
    (bundle.rootfs / "secret").write_text("secret")
    bundle.process["apparmorProfile"] = profile
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    label = Path(f"/proc/{runtime.pid(name)}/attr/current").read_text().strip()
    assert label == f"{profile} (enforce)"
    result = runtime.exec(name, "cat", "/secret", flags=("--apparmor", profile))
    assert result.returncode != 0
    assert "secret" not in result.stdout
    assert "Permission denied" in result.stderr
    assert runtime.exec(name, "cat", "/etc/passwd").returncode == 0
    runtime.delete(name, force=True)


def test_a_profile_that_is_not_there(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["apparmorProfile"] = "no-such-profile"
    result = runtime.run(bundle, "true")
    assert result.returncode != 0
    assert "apparmor" in result.stderr.lower()
