"""Tasks in real shims, ours and Debian's, with the same cases."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable
from typing import Any

import pytest

from sampan import context
from sampan.concurrency import to_thread
from sampan.errors import AlreadyExists, FailedPrecondition, NotFound, SampanError, Unknown
from sampan.runtime import Status, Stdio
from sampan.testing import requires

pytestmark = requires("root", "busybox")
TIMEOUT_S = 30


@pytest.fixture(autouse=True)
def namespace() -> Any:
    with context.scope("default"):
        yield


async def test_a_life_with_its_events_in_order(room: Any) -> None:
    async with asyncio.timeout(TIMEOUT_S), room.exchange.subscribe() as events:
        pid = await room.create("c1", "/bin/sh", "-c", "exit 7")
        assert (await room.tasks.state("c1")).status is Status.CREATED
        waiting = asyncio.ensure_future(room.tasks.wait("c1"))
        assert await room.tasks.start("c1") == pid
        assert (await waiting).status == 7
        assert (await room.tasks.wait("c1")).status == 7
        state = await room.tasks.state("c1")
        assert (state.status, state.exit_status, state.exited_at_ns > 0) == (
            Status.STOPPED,
            7,
            True,
        )
        ended = await room.tasks.delete("c1")
        assert (ended.status, ended.pid) == (7, pid)
        found = []
        async for envelope in events:
            found.append(envelope.topic)
            if envelope.topic == "/tasks/delete":
                break
        assert found == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
    with pytest.raises(NotFound):
        await room.tasks.state("c1")
    assert not os.listdir(room.state / "io.containerd.runtime.v2.task/default")


async def test_execs(room: Any) -> None:
    process = b'{"args":["/bin/sh","-c","exit 3"],"cwd":"/","env":["PATH=/bin"],"user":{}}'
    async with asyncio.timeout(TIMEOUT_S):
        await room.run("c1", "/bin/sleep", "1000")
        await room.tasks.exec("c1", "e1", process, Stdio())
        with pytest.raises(AlreadyExists):
            await room.tasks.exec("c1", "e1", process, Stdio())
        await room.tasks.start("c1", "e1")
        assert (await room.tasks.wait("c1", "e1")).status == 3
        assert (await room.tasks.delete("c1", "e1")).status == 3
        await room.tasks.exec("c1", "never", process, Stdio())
        assert (await room.tasks.delete("c1", "never")).status == 0
        assert (await room.tasks.delete("c1", force=True)).status == 137


async def test_pause_is_seen_and_undone(room: Any) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await room.run("c1", "/bin/sleep", "1000")
        await room.tasks.pause("c1")
        assert (await room.tasks.state("c1")).status is Status.PAUSED
        await room.tasks.resume("c1")
        assert (await room.tasks.state("c1")).status is Status.RUNNING
        await room.tasks.delete("c1", force=True)


async def test_errors_that_clients_rely_on(room: Any) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await room.run("c1", "/bin/sleep", "1000")
        with pytest.raises(AlreadyExists):
            await room.create("c1", "/bin/true")
        # Debian's shim has no class for it, and is as clear in words.
        with pytest.raises((FailedPrecondition, Unknown)):
            await room.tasks.delete("c1")
        await room.tasks.kill("c1", signal.SIGKILL)
        assert (await room.tasks.wait("c1")).status == 137
        with pytest.raises(NotFound, match="already finished"):
            await room.tasks.kill("c1", signal.SIGKILL)
        await room.tasks.delete("c1")
        for verb in (room.tasks.start, room.tasks.state, room.tasks.wait, room.tasks.delete):
            with pytest.raises(NotFound):
                await verb("c1")


async def test_a_failed_create_leaves_nothing_and_has_the_runtimes_words(room: Any) -> None:
    async with asyncio.timeout(TIMEOUT_S), room.exchange.subscribe() as events:
        with pytest.raises(SampanError, match=r"no such file|not found"):
            await room.create("c1", "/bin/nothing-there")
        assert not os.listdir(room.state / "io.containerd.runtime.v2.task/default")
        await room.run("c2", "/bin/true")
        await room.tasks.wait("c2")
        await room.tasks.delete("c2")
        seen = []
        async for envelope in events:
            seen.append(envelope.topic)
            if envelope.topic == "/tasks/delete":
                break
        assert seen == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


async def test_of_many_creators_one_wins(room: Any) -> None:
    async def attempt() -> bool:
        try:
            await room.create("c1", "/bin/sleep", "1000")
        except AlreadyExists:
            return False
        return True

    async with asyncio.timeout(TIMEOUT_S):
        async with asyncio.TaskGroup() as group:
            won = [group.create_task(attempt()) for _ in range(4)]
        assert sum(one.result() for one in won) == 1
        assert len(await room.tasks.list()) == 1
        await room.tasks.delete("c1", force=True)


async def test_of_many_deletions_one_wins(room: Any) -> None:
    async def attempt() -> bool:
        try:
            await room.tasks.delete("c1")
        except (NotFound, FailedPrecondition, Unknown):
            return False
        return True

    async with asyncio.timeout(TIMEOUT_S):
        await room.run("c1", "/bin/true")
        await room.tasks.wait("c1")
        async with asyncio.TaskGroup() as group:
            won = [group.create_task(attempt()) for _ in range(4)]
        assert sum(one.result() for one in won) == 1
        assert await room.tasks.list() == []


async def test_another_process_reconnects_and_learns_the_true_time(
    open_room: Callable[..., Any],
) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        async with open_room() as first:
            pid = await first.run("c1", "/bin/sleep", "1000")
            shim = os.pidfd_open(first.shim_pid("c1"))
        os.kill(pid, signal.SIGKILL)
        async with open_room() as second:
            assert await second.tasks.recover() == 1
            ended = await second.tasks.wait("c1")
            assert ended.status == 137
            assert (await second.tasks.state("c1")).exited_at_ns == ended.exited_at_ns
            await second.tasks.delete("c1")
            assert await second.tasks.recover() == 0
            # It stays until the daemon has taken what it had to tell.
            assert await to_thread(lambda: select.select([shim], [], [], 10)[0])
            os.close(shim)
