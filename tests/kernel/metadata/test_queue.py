"""The queue of the database's thread: neighbours share a commit, and nobody shares a failure."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from sampan.errors import AlreadyExists, FailedPrecondition
from sampan.metadata.db import Database


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "meta.db")
    yield opened
    await opened.close()


def names(tx: sqlite3.Connection) -> list[str]:
    return [row[0] for row in tx.execute("SELECT name FROM namespaces ORDER BY name")]


def add(tx: sqlite3.Connection, name: str) -> int:
    tx.execute("INSERT INTO namespaces (name) VALUES (?)", (name,))
    return int(tx.execute("PRAGMA synchronous").fetchone()[0])


class Gate:
    """Holds the database's thread until it is opened, so that calls pile up behind it."""

    def __init__(self) -> None:
        self.entered, self.opened = asyncio.Event(), threading.Event()
        self._loop = asyncio.get_running_loop()

    async def is_held(self) -> None:
        await asyncio.wait_for(self.entered.wait(), 20)

    def hold(self, tx: sqlite3.Connection) -> None:
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self.opened.wait(20)


async def test_neighbours_commit_together_and_fail_alone(db: Database) -> None:
    gate = Gate()
    results: dict[str, object] = {}

    async def one(name: str, *, durable: bool = False, fail: bool = False) -> None:
        def write(tx: sqlite3.Connection) -> tuple[int, list[str]]:
            mode = add(tx, name)
            if fail:
                raise AlreadyExists(name)
            return mode, names(tx)

        try:
            results[name] = await db.update(write, durable=durable)
        except AlreadyExists as err:
            results[name] = str(err)

    async with asyncio.TaskGroup() as group:
        group.create_task(db.view(gate.hold))
        await gate.is_held()
        group.create_task(one("a"))
        group.create_task(one("b", fail=True))
        group.create_task(one("c", durable=True))
        await asyncio.sleep(0)
        gate.opened.set()
    # Its neighbour wanted the disk, so it got the disk; and they saw each other uncommitted.
    assert results == {"a": (2, ["a"]), "b": "b", "c": (2, ["a", "c"])}
    assert await db.view(names) == ["a", "c"]


async def test_an_update_alone_is_as_durable_as_asked(db: Database) -> None:
    assert await db.update(lambda tx: add(tx, "a")) == 1
    assert await db.update(lambda tx: add(tx, "b"), durable=True) == 2


async def test_cancelled_in_the_queue_it_never_happens(db: Database) -> None:
    gate = Gate()
    async with asyncio.TaskGroup() as group:
        group.create_task(db.view(gate.hold))
        await gate.is_held()
        waiting = group.create_task(db.update(lambda tx: add(tx, "never")))
        after = group.create_task(db.update(lambda tx: add(tx, "after")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        gate.opened.set()
        await after
    assert await db.view(names) == ["after"]


async def test_cancelled_while_it_runs_the_end_is_waited_for(db: Database) -> None:
    gate = Gate()

    def write(tx: sqlite3.Connection) -> None:
        gate.hold(tx)
        add(tx, "a")

    async with asyncio.TaskGroup() as group:
        running = group.create_task(db.update(write))
        await gate.is_held()
        running.cancel()
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.sleep(0)
        assert not running.done()
        gate.opened.set()
        await asyncio.wait([running])
        assert running.cancelled()
    assert await db.view(names) == ["a"]


async def test_each_that_fails_has_an_error_of_its_own(db: Database) -> None:
    gate = Gate()

    def broken(tx: sqlite3.Connection) -> None:
        add(tx, "undone")
        raise FailedPrecondition("no")

    async def failing() -> BaseException:
        with pytest.raises(FailedPrecondition) as caught:
            await db.update(broken)
        return caught.value

    async with asyncio.TaskGroup() as group:
        group.create_task(db.view(gate.hold))
        await gate.is_held()
        tasks = [group.create_task(failing()) for _ in range(2)]
        await asyncio.sleep(0)
        gate.opened.set()
    assert tasks[0].result() is not tasks[1].result()
    assert await db.view(names) == []


async def test_order_of_arrival_is_kept(db: Database) -> None:
    seen: list[int] = []

    def note(number: int, tx: sqlite3.Connection) -> None:
        seen.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(200):
            call = db.view if number % 3 else db.update
            group.create_task(call(partial(note, number)))
    assert seen == list(range(200))
