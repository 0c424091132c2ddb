"""Shims that go by themselves when their container has ended; what is known of it then."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from typing import Any

import pytest

from sampan.errors import NotFound
from sampan.runtime import Status, shims
from sampan.testing import requires

pytestmark = requires("root", "busybox")

TIMEOUT_S = 60


@pytest.fixture
def kind() -> str:
    """Only ours do."""
    return "ours"


async def ended(pidfd: int) -> bool:
    """Wait for a process without holding up the loop, which may have to bury it."""
    loop = asyncio.get_running_loop()
    return bool(await loop.run_in_executor(None, lambda: select.select([pidfd], [], [], 20)[0]))


async def test_an_exited_task_costs_no_process(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shims, "_LEAVE_AFTER_S", 0.2)
    async with asyncio.timeout(TIMEOUT_S), room.exchange.subscribe() as events:
        await room.create("c1", "/bin/sh", "-c", "exit 7")
        pidfd = os.pidfd_open(room.shim_pid("c1"))
        await room.tasks.start("c1")
        first = await room.tasks.wait("c1")
        assert first.status == 7
        assert await ended(pidfd)
        os.close(pidfd)
        assert not list((room.state / "oci").glob("*/c1"))
        state = await room.tasks.state("c1")
        assert (state.status, state.exit_status) == (Status.STOPPED, 7)
        assert (await room.tasks.wait("c1")).exited_at_ns == first.exited_at_ns
        with pytest.raises(NotFound):
            await room.tasks.kill("c1", signal.SIGKILL)
        assert (await room.tasks.delete("c1")).status == 7
        topics = []
        async for event in events:
            topics.append(event.topic)
            if event.topic == "/tasks/delete":
                break
        assert topics.count("/tasks/exit") <= 1


async def test_a_shim_killed_after_the_end_has_told_it(
    room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shims, "_LEAVE_AFTER_S", 1000)
    async with asyncio.timeout(TIMEOUT_S):
        await room.run("c1", "/bin/sh", "-c", "exit 7")
        assert (await room.tasks.wait("c1")).status == 7
        pidfd = os.pidfd_open(room.shim_pid("c1"))
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert await ended(pidfd)
        os.close(pidfd)
        assert (await room.tasks.delete("c1")).status == 7
