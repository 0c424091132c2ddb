"""An exec's processes as a group: killed together, wherever they went, and nothing else."""

import json
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any as Untyped

import pytest

from sampan.errors import SampanError
from sampan.rpc.messages import types
from sampan.rpc.messages.wellknown import Any
from sampan.testing import requires

pytestmark = requires("root", "busybox")

NewShim = Callable[..., Untyped]


def exec_spec(*args: str) -> Any:
    values = {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    return Any(value=json.dumps(values).encode())


def pids(shim: Untyped) -> set[int]:
    return {each.pid for each in shim.call("Pids", id="c1").processes}


def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Wait for what the container does, of which nobody tells us."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        select.select([], [], [], 0.005)


def begin(shim: Untyped, exec_id: str, *args: str) -> int:
    shim.call("Exec", id="c1", exec_id=exec_id, spec=exec_spec(*args))
    return int(shim.call("Start", id="c1", exec_id=exec_id).pid)


def group_of(pid: int) -> Path:
    """Return the folder of the unified cgroup that a process is in."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    path = next(line.removeprefix("0::") for line in lines if line.startswith("0::"))
    root = Path("/sys/fs/cgroup/unified")
    return Path(f"{root if root.exists() else root.parent}{path}")


DAEMON = "setsid sleep 1000 & setsid sh -c 'sleep 1000 & echo > /begun; sleep 1000' & sleep 1000"


def test_all_of_an_exec_is_killed_and_nothing_else(
    new_shim: NewShim, ours: str, folder: Path
) -> None:
    shim = new_shim(ours, folder, "sleep", "1000")
    try:
        init = shim.create().pid
        shim.call("Start", id="c1")
        first = begin(shim, "e1", "sh", "-c", DAEMON)
        until((shim.bundle / "rootfs/begun").exists)
        of_first = pids(shim) - {init}
        assert len({os.getsid(pid) for pid in of_first}) >= 2
        second = begin(shim, "e2", "sleep", "1000")
        assert group_of(first) != group_of(second)
        assert group_of(first).parent == group_of(init)
        shim.call("Kill", id="c1", exec_id="e1", signal=9, all=True)
        assert shim.call("Wait", id="c1", exec_id="e1").exit_status == 137
        until(lambda: not of_first & pids(shim))
        assert pids(shim) == {init, second}
        assert shim.call("State", id="c1").status == types.Status.RUNNING
        group = group_of(init)
        assert len([each for each in group.iterdir() if each.is_dir()]) == 2
        shim.call("Delete", id="c1", exec_id="e1")
        assert len([each for each in group.iterdir() if each.is_dir()]) == 1
        shim.call("Kill", id="c1", exec_id="e2", signal=15, all=True)
        assert shim.call("Wait", id="c1", exec_id="e2").exit_status == 143
    finally:
        shim.close()


def test_after_the_exec_itself_its_children_can_be_killed(
    new_shim: NewShim, ours: str, folder: Path
) -> None:
    shim = new_shim(ours, folder, "sleep", "1000")
    try:
        init = shim.create().pid
        shim.call("Start", id="c1")
        begin(shim, "e1", "sh", "-c", "setsid sleep 1000 & exit 3")
        assert shim.call("Wait", id="c1", exec_id="e1").exit_status == 3
        assert len(pids(shim)) == 2
        shim.call("Kill", id="c1", exec_id="e1", signal=9, all=True)
        until(lambda: pids(shim) == {init})
    finally:
        shim.close()


def test_what_an_exec_leaves_running_outlives_its_deletion(
    new_shim: NewShim, ours: str, folder: Path
) -> None:
    shim = new_shim(ours, folder, "sleep", "1000")
    try:
        init = shim.create().pid
        shim.call("Start", id="c1")
        begin(shim, "e1", "sh", "-c", "setsid sleep 1000 & exit 0")
        assert shim.call("Wait", id="c1", exec_id="e1").exit_status == 0
        shim.call("Delete", id="c1", exec_id="e1")
        (left,) = pids(shim) - {init}
        assert group_of(left) == group_of(init)
        assert not [each for each in group_of(init).iterdir() if each.is_dir()]
        os.kill(left, 0)
        shim.call("Kill", id="c1", signal=9, all=True)
        assert shim.call("Wait", id="c1").exit_status == 137
    finally:
        shim.close()


def test_an_exec_that_fails_leaves_no_group(new_shim: NewShim, ours: str, folder: Path) -> None:
    shim = new_shim(ours, folder, "sleep", "1000")
    try:
        init = shim.create().pid
        shim.call("Start", id="c1")
        shim.call("Exec", id="c1", exec_id="e1", spec=exec_spec("nosuchprogram"))
        with pytest.raises(SampanError, match="nosuchprogram"):
            shim.call("Start", id="c1", exec_id="e1")
        assert not [each for each in group_of(init).iterdir() if each.is_dir()]
    finally:
        shim.close()


def test_an_exec_fits_where_one_process_fits(new_shim: NewShim, ours: str, folder: Path) -> None:
    """The process between us and the exec is one more than the limit allows."""
    shim = new_shim(ours, folder, "sleep", "1000")
    spec = json.loads((shim.bundle / "config.json").read_text())
    spec["linux"]["resources"] = {"pids": {"limit": 2}}
    (shim.bundle / "config.json").write_text(json.dumps(spec))
    try:
        init = shim.create().pid
        shim.call("Start", id="c1")
        for number in range(3):
            begin(shim, f"e{number}", "true")
            assert shim.call("Wait", id="c1", exec_id=f"e{number}").exit_status == 0
            shim.call("Delete", id="c1", exec_id=f"e{number}")
        assert init in pids(shim)
    finally:
        shim.close()
