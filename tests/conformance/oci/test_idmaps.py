"""The runtime as an ordinary user with nothing granted: one id, no cgroups, clear words."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.testing import Bundle, Runtime, requires
from sampan.testing.runtimes import ExecEntry, sampan_oci

pytestmark = requires("root", "busybox", "userns", "setpriv")

UID = 54321


def as_user(*command: str, home: Path) -> ExecEntry:
    ids = [f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    return ExecEntry("setpriv", *ids, "env", f"XDG_RUNTIME_DIR={home}", *command)


@pytest.fixture(params=["sampan-exec", "runc"])
def runtime(request: pytest.FixtureRequest, short_path: Path, bundle: Bundle) -> Iterator[Runtime]:
    name: str = request.param
    for parent in (short_path, *short_path.parents):
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    state = short_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, UID, UID)
    for folder, folders, files in os.walk(bundle.path):
        os.chown(folder, UID, UID)
        for each in (*folders, *files):
            os.chown(os.path.join(folder, each), UID, UID, follow_symlinks=False)
    bundle.path.chmod(0o755)
    program = sampan_oci() if name.startswith("sampan") else (name,)
    made = Runtime(name, as_user(*program, home=state), state)
    rootless_config(made, bundle)
    yield made
    made.close()


def rootless_config(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.call("spec", "--rootless", cwd=bundle.path)
    assert result.returncode == 0, result.stderr
    config: dict[str, Any] = json.loads((bundle.path / "config.json").read_text())
    config["process"]["terminal"] = False
    bundle.config.clear()
    bundle.config.update(config)


def test_one_id_is_root_inside(runtime: Runtime, bundle: Bundle) -> None:
    script = "id -u; cat /proc/self/uid_map; echo text >/dev/shm/file && cat /dev/shm/file"
    bundle.config["root"]["readonly"] = False
    result = runtime.run(bundle, "sh", "-c", script)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["0", "0", str(UID), "1", "text"]


def test_the_whole_life(runtime: Runtime, bundle: Bundle) -> None:
    name = runtime.create(bundle, "sleep", "100")
    assert runtime.state(name)["status"] == "created"
    runtime.start(name)
    result = runtime.exec(name, "id", "-u")
    assert result.stdout == "0\n", result.stderr
    runtime.kill(name)
    assert runtime.wait(name) == 137
    runtime.delete(name)


def test_binds_are_made_inside(runtime: Runtime, bundle: Bundle) -> None:
    volume = bundle.path / "volume"
    volume.mkdir()
    (volume / "file").write_text("hello\n")
    bundle.mount("/tmp/data", "bind", str(volume), "rbind", "ro")
    result = runtime.run(bundle, "sh", "-c", "cat /tmp/data/file; touch /tmp/data/x || echo ro")
    assert result.stdout == "hello\nro\n", result.stderr


def test_ids_that_nobody_granted(runtime: Runtime, bundle: Bundle) -> None:
    ids = [{"containerID": 0, "hostID": UID, "size": 1}]
    more = {"containerID": 1, "hostID": 700_000, "size": 1000}
    bundle.linux.update({"uidMappings": [*ids, more], "gidMappings": [*ids, more]})
    result = runtime.run(bundle, "true")
    assert result.returncode != 0
    if runtime.ours:
        assert f"cannot be mapped by user {UID}" in result.stderr
        assert "grant the range in /etc/subuid" in result.stderr


def test_limits_without_a_cgroup(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"] = {"memory": {"limit": 64 << 20}}
    result = runtime.run(bundle, "true")
    assert result.returncode != 0
    if runtime.ours:
        assert f"cannot be had by user {UID}" in result.stderr
        assert "--systemd-cgroup" in result.stderr
