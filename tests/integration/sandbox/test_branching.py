# ruff: noqa: SIM117
"""Forks, snapshots, rollbacks, differences and images."""

import asyncio
from pathlib import Path

import pytest

from sampan.errors import AlreadyExists, FailedPrecondition, NotFound
from sampan.sandbox.clients import Client, in_process
from sampan.sandbox.values import Change
from sampan.testing import require, requires

pytestmark = requires("root")


async def test_a_fork_has_the_files_and_none_of_the_processes(client: Client) -> None:
    async with client.sandbox("host:", env={"A": "b"}) as box:
        await box.write("/data", "one")
        await box.run(
            "sh", "-c", "rm /etc/hostname 2>/dev/null; mkdir -p /d; ln -s x /d/l; sleep 999 &"
        )
        async with await box.fork() as child:
            assert child.id != box.id
            assert await child.read("/data") == b"one"
            assert (await child.run("sh", "-c", "echo $A; readlink /d/l")).text == "b\nx\n"
            assert (await child.stats()).pids <= 1
            await child.write("/data", "two")
            assert await box.read("/data") == b"one"
        assert await box.read("/data") == b"one"


WRITER = """
import mmap, os, sys
size = 1 << 16
fd = os.open('/w', os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, size)
view = mmap.mmap(fd, size)
plain = open('/p', 'r+b' if os.path.exists('/p') else 'w+b', buffering=0)
number = 0
print('ready', flush=True)
while True:
    number += 1
    mark = b'%020d' % number
    view[0:20] = mark; view[40000:40020] = mark
    os.pwrite(plain.fileno(), mark * 1000, 0)
"""


async def test_files_that_are_open_for_writing_are_of_one_instant(client: Client) -> None:
    """Mapped and written ones; a fork is never older than what its parent had written before."""
    async with client.sandbox("host:") as box:
        async with box.exec("python3", "-c", WRITER, stdin=False) as p:
            await p.stdout.readline()
            last = 0
            for _ in range(3):
                await asyncio.sleep(0.1)
                before = int((await box.read("/w"))[:20])
                async with await box.fork() as child:
                    mapped, plain = await child.read("/w"), await child.read("/p")
                assert int(mapped[:20]) >= before > last
                assert 0 <= int(mapped[:20]) - int(mapped[40000:40020]) <= 1
                numbers = {plain[at : at + 20] for at in range(0, len(plain), 20)}
                assert len(numbers) <= 2, "a write was torn more than once"
                last = before
            assert p.returncode is None


async def test_snapshots_and_rollbacks(client: Client) -> None:
    async with client.sandbox("host:") as box:
        await box.write("/a", "1")
        await box.snapshot("first")
        await box.write("/a", "2")
        await box.write("/new/er", "x")
        await box.run("rm", "/etc/passwd")
        await box.snapshot("second")
        assert await box.snapshots() == ["first", "second"]
        assert await box.diff("first") == [
            Change("/a", "modified"),
            Change("/etc/passwd", "deleted"),
            Change("/new", "added"),
            Change("/new/er", "added"),
        ]
        pid = box.pid
        await box.rollback("first")
        assert box.pid != pid
        assert await box.diff("first") == []
        assert await box.read("/a") == b"1"
        await box.rollback("second")
        assert await box.read("/new/er") == b"x"
        with pytest.raises(AlreadyExists, match="first"):
            await box.snapshot("first")
        with pytest.raises(NotFound, match="third"):
            await box.rollback("third")


async def test_what_is_different_from_the_image(client: Client) -> None:
    async with client.sandbox("host:") as box:
        await box.run("sh", "-c", "echo x > /etc/added; rm /usr/bin/env; echo >> /etc/passwd")
        found = await box.diff()
    for change in (
        Change("/etc/added", "added"),
        Change("/usr/bin/env", "deleted"),
        Change("/etc/passwd", "modified"),
    ):
        assert change in found
    assert not [change for change in found if change.path.startswith("/usr/lib")]


async def test_host_is_no_image(client: Client) -> None:
    async with client.sandbox("host:") as box:
        with pytest.raises(FailedPrecondition, match="from-host"):
            await box.commit("t/nothing:1")


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
async def test_commit_makes_an_image(
    root: Path, state: Path, small_image: Path, snapshotter: str
) -> None:
    require("root")
    async with in_process(root=root, state=state, snapshotter=snapshotter) as client:
        await _load(client, small_image)
        async with client.sandbox("t/small:1", pull="never") as box:
            await box.run("sh", "-c", "echo kept > /note; rm /usr/bin/id", check=True)
            changed = await box.diff()
            assert Change("/note", "added") in changed
            assert Change("/usr/bin/id", "deleted") in changed
            name = await box.commit("t/new:1", env={"MADE": "yes"}, command=["cat", "/note"])
            assert name == "docker.io/t/new:1"
            async with await box.fork() as child:
                assert await child.read("/note") == b"kept\n"
        async with client.sandbox("t/new:1", pull="never", command=[]) as made:
            assert await made.wait() == 0
            assert await made.logs() == b"kept\n"
        async with client.sandbox("t/new:1", pull="never") as made:
            assert (await made.run("sh", "-c", "echo $MADE; ls /usr/bin")).text.split()[0] == "yes"
            with pytest.raises(NotFound):
                await made.stat("/usr/bin/id")


async def _load(client: Client, archive: Path) -> None:
    from sampan import context

    with context.scope(client.namespace):
        await (await client.raw.transfer()).load(archive)
