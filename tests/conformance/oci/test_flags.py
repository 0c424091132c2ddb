"""Flags of the command line that are easily accepted and ignored."""

from __future__ import annotations

import array
import json
import os
import select
import socket
from pathlib import Path

from sampan.testing import Bundle, Runtime, requires
from sampan.testing.requirements import missing

pytestmark = requires("root", "busybox")


def test_pidfd_socket(runtime: Runtime, bundle: Bundle, short_path: Path) -> None:
    if not runtime.ours:
        return  # runc has it from 1.2 on
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "sock"))
        listener.listen()
        runtime.create(bundle, "sleep", "100", flags=("--pidfd-socket", str(short_path / "sock")))
        with listener.accept()[0] as sock:
            data, ancillary, *_ = sock.recvmsg(64, 64)
    assert data == b"standard"
    (pidfd,) = array.array("i", ancillary[0][2])
    runtime.kill(bundle.id)
    assert select.select([pidfd], [], [], 10)[0]
    os.close(pidfd)


def test_exec_in_a_cgroup_below(runtime: Runtime, bundle: Bundle) -> None:
    if missing("cgroup:v2"):
        top, where, line = Path("/sys/fs/cgroup/pids"), "pids:below", "pids:/{}/below"
    else:
        # With a cgroup namespace the host's cgroups are no longer shown from their root.
        top, where, line = Path("/sys/fs/cgroup"), "below", "0::/below"
        bundle.linux["namespaces"].append({"type": "cgroup"})
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    (top / name / "below").mkdir()
    result = runtime.exec(name, "cat", "/proc/self/cgroup", flags=("--cgroup", where))
    assert any(got.endswith(line.format(name)) for got in result.stdout.splitlines())
    assert runtime.exec(name, "true", flags=("--cgroup", "../..")).returncode == 255
    if runtime.ours:
        assert runtime.exec(name, "true", flags=("--cgroup", "nowhere")).returncode == 255


def test_events_once(runtime: Runtime, bundle: Bundle) -> None:
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    event = json.loads(runtime.call("events", "--stats", name).stdout)
    assert (event["type"], event["id"]) == ("stats", name)
    assert event["data"]["cpu"]["usage"]["total"] > 0
    assert event["data"]["memory"]["usage"]["usage"] > 0
    assert event["data"]["pids"]["current"] == 1


def test_rootless_spec(runtime: Runtime, tmp_path: Path) -> None:
    assert runtime.call("spec", "--rootless", cwd=tmp_path).returncode == 0
    config = json.loads((tmp_path / "config.json").read_text())
    kinds = {entry["type"] for entry in config["linux"]["namespaces"]}
    assert "user" in kinds
    assert "network" not in kinds
    assert config["linux"]["uidMappings"][0]["size"] == 1
    assert runtime.call("spec", cwd=tmp_path).returncode != 0
