"""Sandboxes by the sandboxer `shim`: their life, and a task that joins one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sampan.errors import AlreadyExists, NotFound, Unavailable, Unimplemented, Unknown
from sampan.runtime.controller import SandboxController
from sampan.testing import requires

pytestmark = requires("root", "busybox")


async def test_life(room: Any) -> None:
    boxes = SandboxController(room.state, room.shims)
    await boxes.create("s", annotations={"a": "b"})
    with pytest.raises(AlreadyExists):
        await boxes.create("s")
    assert (await boxes.status("s")).state == "SANDBOX_NOTREADY"
    started = await boxes.start("s")
    status = await boxes.status("s", verbose=True)
    assert (status.state, status.pid) == ("SANDBOX_READY", started.pid)
    assert status.address.startswith("unix://")
    assert (await boxes.platform("s")).os == "linux"
    assert await boxes.metrics("s") is not None
    with pytest.raises(Unimplemented):
        await boxes.update("s")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(boxes.wait("s"))
        await boxes.stop("s", 1)
    assert waiting.result().status == 0
    await boxes.stop("s")
    await boxes.shutdown("s")
    assert not boxes.bundle("s").exists()
    with pytest.raises(NotFound):
        await boxes.shutdown("s")
    assert (await boxes.status("s")).state == ""


async def test_what_is_not_there(room: Any) -> None:
    boxes = SandboxController(room.state, room.shims)
    for call in (boxes.wait, boxes.platform, boxes.metrics, boxes.update, boxes.shutdown):
        with pytest.raises(NotFound):
            await call("none")
    with pytest.raises(Unknown):
        await boxes.start("none")
    await boxes.stop("none")


async def test_a_start_that_fails_takes_the_sandbox_with_it(room: Any) -> None:
    boxes = SandboxController(room.state, room.shims)
    await boxes.create("s")
    await boxes.start("s")
    with pytest.raises(Exception, match="failed to start sandbox s"):
        await boxes.start("s")
    assert not boxes.bundle("s").exists()
    await boxes.create("s")
    await boxes.shutdown("s")


async def test_a_runtime_without_the_service_leaves_nothing(room: Any) -> None:
    boxes = SandboxController(room.state, room.shims)
    with pytest.raises((NotFound, Unavailable, Unknown)):
        await boxes.create("s", runtime="/no/such/shim")
    assert not boxes.bundle("s").exists()


async def test_tasks_join(room: Any) -> None:
    boxes = SandboxController(room.state, room.shims)
    await boxes.create("s")
    pid = (await boxes.start("s")).pid
    room.runtime = ""
    await room.create("c1", "/bin/sleep", "1000", pod=boxes.bundle("s"))
    await room.tasks.start("c1")
    parent = int(_field((await room.tasks.state("c1")).pid, "PPid:"))
    assert parent == pid
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(room.tasks.wait("c1"))
        await asyncio.sleep(0)
        await boxes.stop("s", 1)
    assert waiting.result().status == 137
    await boxes.shutdown("s")
    # The shim took it down with the sandbox; who asks later is told how it ended.
    assert (await room.tasks.delete("c1")).status == 137
    assert await room.tasks.list() == []


def _field(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(line.split()[1] for line in file if line.startswith(name))
