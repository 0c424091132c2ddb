# ruff: noqa: PT012
"""Programs with streams, as `subprocess` has them."""

import asyncio
import os

import pytest

from sampan.errors import FailedPrecondition
from sampan.sandbox.clients import Client
from sampan.testing import requires

pytestmark = requires("root")


async def test_streams_are_separate(client: Client) -> None:
    script = "read x; echo got $x; echo no >&2; read y; exit $y"
    async with client.sandbox("host:") as box, box.exec("sh", "-c", script) as p:
        await p.stdin.write("hello\n")
        assert await p.stdout.readline() == b"got hello\n"
        assert await p.stderr.readline() == b"no\n"
        assert p.returncode is None
        await p.stdin.write("4\n")
        assert await p.wait() == 4
        assert p.returncode == 4
        assert await p.stdout.read() == b""


async def test_lines_can_be_iterated_and_bytes_counted(client: Client) -> None:
    async with client.sandbox("host:") as box:
        async with box.exec("seq", "5", stdin=False) as p:
            assert [line async for line in p.stdout] == [b"%d\n" % n for n in range(1, 6)]
            assert await p.wait() == 0
        async with box.exec("printf", "abcdef", stdin=False) as p:
            assert await p.stdout.readexactly(4) == b"abcd"
            with pytest.raises(EOFError, match="2 came"):
                await p.stdout.readexactly(3)


async def test_large_streams_pass_both_ways_at_once(client: Client) -> None:
    data = os.urandom(1 << 20)
    async with client.sandbox("host:") as box, box.exec("cat") as p:
        out, err = await p.communicate(data)
        assert (out == data, err) == (True, b"")


async def test_a_reader_that_does_not_read_stops_the_writer(client: Client) -> None:
    async with client.sandbox("host:") as box, box.exec("cat", "/dev/zero", stdin=False) as p:
        assert len(await p.stdout.read(10)) == 10
        assert p.returncode is None


async def test_a_terminal(client: Client) -> None:
    async with client.sandbox("host:") as box, box.exec("sh", tty=True) as p:
        await p.resize(100, 30)
        await p.stdin.write("stty size; tty; exit 3\n")
        text = (await p.stdout.read()).decode()
        assert "30 100" in text
        assert "/dev/pts/" in text
        assert await p.wait() == 3
        with pytest.raises(FailedPrecondition, match="no stderr"):
            _ = p.stderr


async def test_signals(client: Client) -> None:
    async with client.sandbox("host:") as box:
        async with box.exec(
            "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"
        ) as p:
            await p.stdout.readline()
            await p.terminate()
            assert await p.wait() == 9
        async with box.exec("sleep", "1000") as p:
            await p.kill()
            assert await p.wait() == 137


async def test_writing_to_who_does_not_read(client: Client) -> None:
    async with client.sandbox("host:") as box, box.exec("true") as p:
        await p.wait()
        with pytest.raises(BrokenPipeError):
            for _ in range(100):
                await p.stdin.write(b"x" * 65536)
                await asyncio.sleep(0.01)


async def test_it_starts_once(client: Client) -> None:
    async with client.sandbox("host:") as box:
        p = await box.exec("sleep", "1000")
        with pytest.raises(FailedPrecondition, match="started before"):
            await p.start()
        await p.close()
        await p.close()
        with pytest.raises(FailedPrecondition, match="does not run"):
            await box.exec("true").wait()


async def test_a_hundred_at_once(client: Client) -> None:
    async with client.sandbox("host:") as box:
        results: list[str] = []

        async def one(number: int) -> None:
            results.append((await box.run("echo", str(number))).text)

        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(one(number))
        assert sorted(results) == sorted(f"{n}\n" for n in range(40))
