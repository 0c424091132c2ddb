from __future__ import annotations

import asyncio
import contextvars
import logging
import threading

import pytest

from sampan.concurrency import Limit, SingleThread, to_thread

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="")


async def test_returns_raises_and_inherits_context() -> None:
    VAR.set("here")
    assert await to_thread(lambda a, b: (a, b, VAR.get()), 1, 2) == (1, 2, "here")
    with pytest.raises(ZeroDivisionError):
        await to_thread(lambda: 1 // 0)


async def test_cancelled_waits_for_its_thread_and_logs_its_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    started, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go.wait(10)
        ended.set()
        raise ValueError("from the thread")

    limit = Limit("test", 1)
    async with asyncio.timeout(10):
        task = asyncio.get_running_loop().create_task(to_thread(work, limit=limit))
        await to_thread(started.wait, 10)
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=0.01)
        assert not done
        task.cancel()
        go.set()
        with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
            await task
    assert ended.is_set()
    assert "from the thread" in caplog.text
    limit.close()


async def test_cancelled_in_the_queue_never_runs() -> None:
    go, ran = threading.Event(), threading.Event()
    limit = Limit("test", 1)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        first = loop.create_task(to_thread(go.wait, 10, limit=limit))
        await asyncio.sleep(0)
        second = loop.create_task(to_thread(ran.set, limit=limit))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go.set()
        await first
    limit.close()
    assert not ran.is_set()


async def test_single_thread_is_one_and_keeps_order() -> None:
    thread = SingleThread("test")
    seen: list[int] = []
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(thread.call(seen.append, number))
    first = await thread.call(threading.get_ident)
    assert thread.call_blocking(threading.get_ident) == first != threading.get_ident()
    assert seen == list(range(50))
    assert await thread.call(lambda: thread.call_blocking(lambda: 7)) == 7
    thread.close()
