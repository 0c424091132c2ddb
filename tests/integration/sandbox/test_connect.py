# ruff: noqa: SIM117
"""One suite for both clients: in process, and through the daemon."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sampan.errors import AlreadyExists, NotFound, PermissionDenied, Unavailable
from sampan.sandbox.clients import Client, connect, in_process
from sampan.sandbox.values import Change, TimeoutExpired
from sampan.testing import require, requires

pytestmark = requires("root")


@pytest.fixture
def daemon(root: Path, state: Path) -> Iterator[str]:
    require("root")
    address = state / "d.sock"
    argv = [sys.executable, "-m", "sampan.daemon.main", "--root", str(root), "--state", str(state)]
    argv += ["--address", str(address), "--log-level", "info"]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if b"serving: address" in line:
                break
        else:
            pytest.fail("the daemon ended")
        yield str(address)
    finally:
        process.terminate()
        process.stderr.read()
        process.wait(30)
        process.stderr.close()


@pytest.fixture(params=["in_process", "connect"])
async def either(request: pytest.FixtureRequest, root: Path, state: Path) -> AsyncIterator[Client]:
    if request.param == "in_process":
        opened = in_process(root=root, state=state)
    else:
        opened = connect(request.getfixturevalue("daemon"))
    async with opened as client:
        yield client


async def test_the_life_of_a_sandbox(either: Client) -> None:
    async with either.sandbox("host:", name="one", labels={"who": "me"}) as box:
        (seen,) = await either.sandboxes()
        assert (seen.name, seen.state, seen.labels["who"]) == ("one", "running", "me")
        done = await box.run("sh", "-c", "cat; echo err >&2; exit 3", input="in")
        assert (done.returncode, done.stdout, done.stderr) == (3, b"in", b"err\n")
        with pytest.raises(TimeoutExpired):
            await box.run("sh", "-c", "sleep 99 & sleep 99", timeout=0.5)
        await box.write("/a/b", "c")
        assert await box.read("/a/b") == b"c"
        async with box.exec("cat") as p:
            await p.stdin.write("x\n")
            assert await p.stdout.readline() == b"x\n"
        await box.snapshot("s")
        await box.write("/a/b", "d")
        assert await box.diff("s") == [Change("/a/b", "modified")]
        await box.rollback("s")
        assert await box.read("/a/b") == b"c"
        async with await box.fork() as child:
            assert await child.read("/a/b") == b"c"
        await box.pause()
        await box.resume()
        assert (await box.stats()).memory_bytes > 0
        with pytest.raises(AlreadyExists):
            await either.sandbox("host:", name="one").start()
    assert await either.sandboxes() == []


async def test_errors_are_the_same(either: Client) -> None:
    with pytest.raises(NotFound, match="pull it first"):
        await either.sandbox("t/nothing:1", pull="never").start()
    with pytest.raises(NotFound, match="no such container"):
        await either.attach("nobody")


async def test_what_either_makes_is_visible_to_the_other(
    daemon: str, root: Path, state: Path
) -> None:
    async with in_process(root=root, state=state) as local, connect(daemon) as remote:
        async with (
            local.sandbox("host:", name="mine") as box,
            remote.sandbox("host:", name="theirs") as other,
        ):
            assert {one.name for one in await remote.sandboxes()} == {"mine", "theirs"}
            assert {one.name for one in await local.sandboxes()} == {"mine", "theirs"}
            await box.write("/x", "1")
            seen = await remote.attach("mine")
            assert (await seen.run("cat", "/x")).text == "1"
            await seen.close()
            seen = await local.attach("theirs")
            await other.write("/y", "2")
            assert await seen.read("/y") == b"2"
            await seen.close()


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises((Unavailable, PermissionDenied), match="sampand"):
        await connect(str(tmp_path / "no.sock")).open()
