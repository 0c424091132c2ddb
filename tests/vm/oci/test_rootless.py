"""An ordinary user with ranges of ids and a systemd of their own that delegates cgroups."""

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.testing import Bundle, Runtime, requires
from sampan.testing.runtimes import ExecEntry, sampan_oci

pytestmark = [
    requires("root", "busybox", "userns", "newuidmap", "cgroup:v2"),
    pytest.mark.skipif(
        not Path("/run/systemd/private").exists(), reason="systemd is not pid 1 here"
    ),
]

NAME = "sampanuser"


@pytest.fixture
def user() -> pwd.struct_passwd:
    """Whom run.py has made, with a systemd that runs."""
    return pwd.getpwnam(NAME)


@pytest.fixture(params=["sampan-exec", "runc"])
def runtime(
    request: pytest.FixtureRequest, user: pwd.struct_passwd, short_path: Path, bundle: Bundle
) -> Iterator[Runtime]:
    name: str = request.param
    runtime_dir = f"/run/user/{user.pw_uid}"
    for parent in (short_path, *short_path.parents):
        parent.chmod(parent.stat().st_mode | 0o011)
    subprocess.run(["chown", "-R", f"{NAME}:", str(bundle.path)], check=True)
    bundle.path.chmod(0o755)
    program = sampan_oci() if name.startswith("sampan") else (name,)
    ids = [f"--reuid={NAME}", f"--regid={NAME}", "--init-groups"]
    entry = ExecEntry("setpriv", *ids, "env", f"XDG_RUNTIME_DIR={runtime_dir}", *program)
    state = Path(runtime_dir, f"oci-{bundle.id}")
    state.mkdir(mode=0o700)
    os.chown(state, user.pw_uid, user.pw_gid)
    made = Runtime(name, entry, state, "--systemd-cgroup")
    result = made.call("spec", "--rootless", cwd=bundle.path)
    assert result.returncode == 0, result.stderr
    config: dict[str, Any] = json.loads((bundle.path / "config.json").read_text())
    config["process"]["terminal"] = False
    config["linux"].update(granted(user))
    bundle.config.clear()
    bundle.config.update(config)
    yield made
    made.close()
    shutil.rmtree(state)


def granted(user: pwd.struct_passwd) -> dict[str, Any]:
    maps = {}
    for kind, own in (("uid", user.pw_uid), ("gid", user.pw_gid)):
        lines = Path(f"/etc/sub{kind}").read_text().splitlines()
        first = next(line.split(":")[1] for line in lines if line.startswith(NAME))
        maps[f"{kind}Mappings"] = [
            {"containerID": 0, "hostID": own, "size": 1},
            {"containerID": 1, "hostID": int(first), "size": 65536},
        ]
    return maps


def test_ranges_are_mapped(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.config["root"]["readonly"] = False
    result = runtime.run(bundle, "sh", "-c", "id -u; id -g; touch /tmp/x && stat -c %u /tmp/x")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["1000", "1000", "1000"]


def test_limits_in_a_delegated_cgroup(
    runtime: Runtime, user: pwd.struct_passwd, bundle: Bundle
) -> None:
    bundle.linux["cgroupsPath"] = f"user.slice:box:{bundle.id}"
    bundle.linux["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 9}}
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    (line,) = Path(f"/proc/{runtime.pid(name)}/cgroup").read_text().splitlines()
    folder = Path("/sys/fs/cgroup" + line.removeprefix("0::"))
    assert folder.name == f"box-{bundle.id}.scope"
    assert f"user@{user.pw_uid}.service" in folder.parts
    assert (folder / "memory.max").read_text().strip() == str(64 << 20)
    assert (folder / "pids.max").read_text().strip() == "9"
    result = runtime.exec(name, "id", "-u")
    assert result.stdout == "0\n", result.stderr
    assert runtime.call("pause", name).returncode == 0
    assert runtime.state(name)["status"] == "paused"
    assert runtime.call("resume", name).returncode == 0
    runtime.delete(name, force=True)
    assert not folder.exists()
