from __future__ import annotations

import asyncio

import pytest

from sampan.concurrency import shielded
from sampan.errors import DeadlineExceeded


async def test_finishes_although_cancelled_again_and_again() -> None:
    go, done = asyncio.Event(), []

    async def undo() -> None:
        await go.wait()
        done.append(True)

    task = asyncio.get_running_loop().create_task(shielded(10, undo()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done


async def test_returns_and_raises() -> None:
    async def fail() -> None:
        raise ValueError("no")

    async def seven() -> int:
        return 7

    assert await shielded(1, seven()) == 7
    with pytest.raises(ValueError, match="no"):
        await shielded(1, fail())


async def test_too_long_is_cut_short() -> None:
    with pytest.raises(DeadlineExceeded):
        await shielded(0.01, asyncio.Event().wait())
