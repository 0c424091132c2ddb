"""Inboxes: order, bounds, the end."""

from __future__ import annotations

import asyncio

from sampan.cri.streaming.inbox import Budget, Inbox


async def test_order_and_limit() -> None:
    inbox = Inbox()
    inbox.put(b"hello ")
    inbox.put(b"world")
    inbox.end()
    inbox.put(b"too late")
    assert [await inbox.read(4), await inbox.read(), await inbox.read()] == [
        b"hell",
        b"o ",
        b"world",
    ]
    assert await inbox.read() == await inbox.read() == b""


async def test_a_reader_waits_and_a_full_one_stops_the_writer() -> None:
    inbox = Inbox(limit_bytes=10)
    loop = asyncio.get_running_loop()
    reading = loop.create_task(inbox.read())
    await asyncio.sleep(0)
    inbox.put(b"x" * 10)
    waiting = loop.create_task(inbox.room())
    assert await reading == b"x" * 10
    await waiting
    inbox.put(b"y" * 10)
    stuck = loop.create_task(inbox.room())
    await asyncio.sleep(0)
    assert not stuck.done()
    assert inbox.drop() == 10
    await stuck
    inbox.put(b"z" * 100)
    await inbox.room()
    assert await inbox.read() == b""


async def test_inboxes_of_a_connection_share_a_budget() -> None:
    budget = Budget(limit_bytes=10)
    one, two = Inbox(budget=budget), Inbox(budget=budget)
    one.put(b"x" * 6)
    await one.room()
    two.put(b"y" * 6)
    stuck = asyncio.get_running_loop().create_task(two.room())
    await asyncio.sleep(0)
    assert not stuck.done()
    assert await one.read(3) == b"xxx"
    await stuck
    two.drop()
    one.drop()
    assert budget.held_bytes == 0
