"""Events, as the daemon hears them: in order, none lost while it is away, OOM among them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any as Untyped

import pytest

from sampan.rpc.messages import events
from sampan.rpc.messages.wellknown import Any
from sampan.testing import requires

NewShim = Callable[..., Untyped]


def spec(*args: str) -> Any:
    process = {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    return Any(value=json.dumps(process).encode())


@requires("root", "busybox", "runc")
@pytest.mark.parametrize("kind", ["native", "forked", "runc"])
def test_a_life_in_order_and_resent_to_a_daemon_that_was_away(
    new_shim: NewShim, new_hearer: Callable[[Path], Untyped], kind: str, folder: Path
) -> None:
    hearer = new_hearer(folder / "events")
    hearer.listen()
    shim = new_shim(kind, folder, "sleep", "100", hearer=hearer)
    try:
        pid = shim.create().pid
        assert hearer.topics("/tasks/create") == ["/tasks/create"]
        hearer.close()  # away from here on
        shim.call("Start", id="c1")
        shim.call("Exec", id="c1", exec_id="e", spec=spec("sh", "-c", "exit 3"))
        shim.call("Start", id="c1", exec_id="e")
        assert shim.call("Wait", id="c1", exec_id="e").exit_status == 3
        shim.call("Kill", id="c1", signal=9)
        ended = shim.call("Wait", id="c1")
        shim.call("Delete", id="c1", exec_id="e")
        shim.call("Delete", id="c1")
        hearer.listen()
        assert hearer.topics("/tasks/delete") == [
            "/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started",
            "/tasks/exit", "/tasks/exit", "/tasks/delete",
        ]  # fmt: skip
        of_exec, of_init = (
            each.event.unpack(events.TaskExit)
            for each in hearer.heard
            if each.topic == "/tasks/exit"
        )
        assert (of_exec.id, of_exec.exit_status) == ("e", 3)
        assert (of_init.id, of_init.pid, of_init.exit_status) == ("c1", pid, 137)
        assert of_init.exited_at.ns == ended.exited_at.ns
        assert {each.namespace for each in hearer.heard} == {"t"}
    finally:
        shim.close()


@requires("root", "busybox", "cgroup:memory")
def test_oom_is_told(new_shim: NewShim, ours: str, folder: Path) -> None:
    # A string that grows without end, in a cgroup of 8 MiB: the kernel kills, and we are told.
    shim = new_shim(ours, folder, "sh", "-c", "x=aaaaaaaa; while :; do x=$x$x; done")
    path = shim.bundle / "config.json"
    config = json.loads(path.read_text())
    config["linux"]["resources"] = {"memory": {"limit": 8 << 20, "swap": 8 << 20}}
    path.write_text(json.dumps(config))
    try:
        shim.create()
        shim.call("Start", id="c1")
        assert shim.call("Wait", id="c1").exit_status == 137
        assert "/tasks/oom" in shim.hearer.topics("/tasks/oom")
    finally:
        shim.close()


@requires("root", "busybox")
def test_a_failed_create_publishes_nothing(
    new_shim: NewShim, ours: str, new_hearer: Callable[[Path], Untyped], folder: Path
) -> None:
    hearer = new_hearer(folder / "events")
    hearer.listen()
    shim = new_shim(ours, folder, "nosuchprogram", hearer=hearer)
    with pytest.raises(Exception, match="executable file not found"):
        shim.create()
    shim.close()
    assert hearer.heard == []


@requires("root", "busybox", "cgroup:pids")
def test_update_changes_a_limit(new_shim: NewShim, ours: str, folder: Path) -> None:
    shim = new_shim(ours, folder, "sleep", "100")
    try:
        pid = shim.create().pid
        shim.call("Start", id="c1")
        shim.call("Update", id="c1", resources=Any(value=b'{"pids": {"limit": 77}}'))
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        where = next(line.split(":")[2] for line in lines if ":pids:" in line)
        folder_of = Path("/sys/fs/cgroup/pids" + where)
        assert (folder_of / "pids.max").read_text() == "77\n"
        assert os.path.isdir(folder_of)
    finally:
        shim.close()
