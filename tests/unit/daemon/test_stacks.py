"""Stacks: every thread and every task is named, with the line where it stands."""

from __future__ import annotations

import asyncio
import threading

from sampan.daemon.stacks import stacks


async def stand_here(event: asyncio.Event) -> None:
    await event.wait()


async def test_threads_and_tasks() -> None:
    release, event = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=release.wait, name="stuck-thread")
    thread.start()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(stand_here(event), name="stuck-task")
            await asyncio.sleep(0)
            said = stacks(asyncio.get_running_loop())
            event.set()
    finally:
        release.set()
        thread.join()
    assert "thread stuck-thread (most recent call last)" in said
    assert "stuck-task" in said
    assert "await event.wait()" in said
