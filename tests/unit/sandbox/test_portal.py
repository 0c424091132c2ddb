"""Calls from threads into the loop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from sampan.sandbox import portal
from sampan.sandbox.portal import call, iterate


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Each test ends with no loop running."""
    yield
    portal.close()


def test_results_and_errors_come_through() -> None:
    async def work(value: int) -> int:
        await asyncio.sleep(0)
        return value + 1

    async def fails() -> None:
        raise KeyError("x")

    assert call(lambda: work(1)) == 2
    with pytest.raises(KeyError):
        call(fails)


def test_many_threads_at_once() -> None:
    found: list[int] = []

    async def work(value: int) -> int:
        await asyncio.sleep(0.001)
        return value

    def one(value: int) -> None:
        found.append(call(lambda: work(value)))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(20))


def test_iterators_are_closed() -> None:
    closed = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    assert list(iterate(numbers)) == [1, 2]
    for number in iterate(numbers):
        assert number == 1
        break
    assert closed


def test_it_is_refused_inside_its_own_loop() -> None:
    async def inner() -> None:
        call(lambda: asyncio.sleep(0))

    with pytest.raises(RuntimeError, match=r"sampan\.aio"):
        call(inner)
