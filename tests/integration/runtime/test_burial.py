"""Shims that die, hang, or are cut short: the task ends, once, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sampan import context
from sampan.errors import NotFound
from sampan.events import Event
from sampan.runtime import Status
from sampan.runtime.bundle import Bundle, Lock
from sampan.testing import requires

pytestmark = requires("root", "busybox")
TIMEOUT_S = 40


@pytest.fixture(autouse=True)
def namespace() -> Any:
    with context.scope("default"):
        yield


async def _exit_event(events: Any) -> dict[str, object]:
    async for envelope in events:
        if envelope.topic == "/tasks/exit":
            assert isinstance(envelope.event, Event)
            return dict(envelope.event.fields)
    raise AssertionError("no exit was published")


async def test_a_killed_shim_ends_its_task_by_itself(room: Any) -> None:
    async with (
        asyncio.timeout(TIMEOUT_S),
        room.exchange.subscribe('topic=="/tasks/exit"') as events,
    ):
        init = await room.run("c1", "/bin/sleep", "1000")
        pidfd = os.pidfd_open(init)
        waiting = asyncio.ensure_future(room.tasks.wait("c1"))
        await room.tasks.state("c1")
        os.kill(room.shim_pid("c1"), signal.SIGKILL)
        fields = await _exit_event(events)
        assert (fields["container_id"], fields["id"], fields["exit_status"]) == ("c1", "c1", 137)
        ended = await waiting
        assert (ended.status, ended.exited_at_ns) == (137, fields["exited_at"])
        assert _ended(pidfd)
        assert (await room.tasks.state("c1")).status is Status.STOPPED
        with pytest.raises(NotFound):
            await room.tasks.kill("c1", 9)
        assert (await room.tasks.delete("c1")).status == 137
        assert await room.tasks.list() == []


def _ended(pidfd: int) -> bool:
    """Whether a process has ended; it may be a zombie of whoever adopted it."""
    try:
        return bool(select.select([pidfd], [], [], 5)[0])
    finally:
        os.close(pidfd)


async def test_the_name_of_a_buried_task_is_free(room: Any) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await room.run("c1", "/bin/sleep", "1000")
        os.kill(room.shim_pid("c1"), signal.SIGKILL)
        assert (await room.tasks.wait("c1")).status == 137
        await room.run("c1", "/bin/sleep", "1000")
        assert (await room.tasks.state("c1")).status is Status.RUNNING
        await room.tasks.delete("c1", force=True)


async def test_a_shim_that_died_while_nobody_watched_is_buried_at_recovery(
    open_room: Callable[..., Any],
) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        async with open_room() as first:
            await first.run("c1", "/bin/sleep", "1000")
            shim = first.shim_pid("c1")
        pidfd = os.pidfd_open(shim)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert _ended(pidfd)
        async with open_room() as second, second.exchange.subscribe() as events:
            assert await second.tasks.recover() == 0
            assert (await _exit_event(events))["exit_status"] == 137
            assert (await second.tasks.delete("c1")).status == 137


def processes_of(shim: int) -> list[int]:
    """Return a shim's processes: of ours the keeper and its server."""
    children = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
    ours = [each for each in children if Path(f"/proc/{each}/comm").read_text() == "sampan-shim\n"]
    return [shim, *map(int, ours)]


async def test_a_shim_that_hangs_is_ended_by_delete(
    room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        init = await room.run("c1", "/bin/sleep", "1000")
        pidfd = os.pidfd_open(init)
        for number in processes_of(room.shim_pid("c1")):
            os.kill(number, signal.SIGSTOP)
        # The deadline of Kill, 10 s, is what tells.
        await room.tasks.kill("c1", signal.SIGKILL)
        assert _ended(pidfd)
        assert (await room.tasks.delete("c1")).status == 137


async def test_a_creation_that_was_cut_short_is_undone(room: Any) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        bundle = Bundle(room.state, "default", "c1")
        with Lock() as lock:
            bundle.create(room.spec("/bin/true"), lock, {})
            await room.shims.start(bundle, room.runtime)
            # Its creator lives: it is not taken for dead.
            assert await room.tasks.recover() == 0
            assert bundle.exists()
        assert await room.tasks.recover() == 0
        assert not bundle.exists()
        with pytest.raises(NotFound):
            await room.tasks.state("c1")
