"""Namespaces that live without a process, made by workers as a pod's are."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.cri.sandboxes.namespaces import unmount_pod
from sampan.testing import requires
from sampan.zygote import Zygote

pytestmark = requires("root")


@pytest.fixture
def folder(short_path: Path) -> Iterator[Path]:
    yield short_path
    unmount_pod(short_path)


def work(function: str, values: dict[str, Any]) -> str:
    told, tell = os.pipe()
    with (
        os.fdopen(told, "rb") as file,
        Zygote.start(["sampan.shim.pinning"]) as zygote,
        zygote.fork(f"sampan.shim.pinning:{function}", json.dumps(values).encode(), [tell]) as one,
    ):
        os.close(tell)
        error = file.read().decode()
        assert one.wait(20) == (1 if error else 0)
    return error


def values(folder: Path, **more: Any) -> dict[str, Any]:
    bare = {
        "folder": str(folder), "kinds": ["ipc", "uts"], "user": "", "network": "",
        "hostname": "pinned", "sysctls": {}, "sysctls_optional": {}, "shm_bytes": 1 << 20,
        "owner": [0, 0],
    }  # fmt: skip
    return {**bare, **more}


def inside(folder: Path, *command: str) -> str:
    enter = [f"--{kind}={folder}/ns/{kind}" for kind in ("ipc", "uts")]
    done = subprocess.run(["nsenter", *enter, *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_they_live_on(folder: Path) -> None:
    sysctls = {"kernel.msgmax": "5000"}
    assert work("pin", values(folder, sysctls=sysctls)) == ""
    assert inside(folder, "hostname") == "pinned"
    assert inside(folder, "sysctl", "-n", "kernel.msgmax") == "5000"
    assert os.uname().nodename != "pinned"
    assert Path("/proc/sys/kernel/msgmax").read_text().strip() != "5000"
    status = os.statvfs(folder / "shm")
    assert status.f_blocks * status.f_frsize == 1 << 20
    assert (folder / "shm").stat().st_mode & 0o7777 == 0o1777
    unmount_pod(folder)
    unmount_pod(folder)
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()


def test_a_refused_sysctl_is_named(folder: Path) -> None:
    error = work("pin", values(folder, sysctls={"kernel.no_such_thing": "1"}))
    assert "sysctl kernel.no_such_thing" in error
    assert work("pin", values(folder, sysctls_optional={"kernel.no_such_thing": "1"})) == ""


def test_in_a_user_namespace(folder: Path) -> None:
    user = folder / "ns/user"
    maps = [[0, 300000, 1000]]
    assert work("pin_user", {"path": str(user), "uids": maps, "gids": maps}) == ""
    wanted = values(folder, user=str(user), owner=[300000, 300000])
    assert work("pin", wanted) == ""
    fd = os.open(user, os.O_RDONLY)
    ipc = os.open(folder / "ns/ipc", os.O_RDONLY)
    from sampan.linux import namespaces

    owner = namespaces.owner_userns(ipc)
    assert namespaces.same_namespace(fd, owner)
    for one in (fd, ipc, owner):
        os.close(one)
    assert (folder / "shm").stat().st_uid == 300000
