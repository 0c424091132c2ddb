"""Namespaces pinned by mounts: made, owned, listed, swept, and gone."""

# ruff: noqa: ASYNC220, ASYNC240  nothing else runs in the loop of a test
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from sampan.errors import AlreadyExists, InvalidArgument, NotFound
from sampan.linux import namespaces as ns
from sampan.linux.mounts import statfs_type
from sampan.network import PinnedNamespaces
from sampan.network.inside import inside
from sampan.testing import requires
from sampan.zygote import Zygote

pytestmark = requires("root")


@pytest.fixture
async def pinned(tmp_path: Path) -> AsyncIterator[PinnedNamespaces]:
    made = PinnedNamespaces(tmp_path / "netns")
    yield made
    for key in await made.list():
        await made.remove(key)
    await made.close()


def identity(path: str) -> int:
    return os.stat(path).st_ino


async def test_life(pinned: PinnedNamespaces, tmp_path: Path) -> None:
    path = await pinned.create("one")
    assert path == pinned.path("one")
    assert identity(path) != identity("/proc/self/ns/net")
    assert statfs_type(path) == ns.NSFS_MAGIC
    assert (tmp_path / "netns").stat().st_mode & 0o777 == 0o711
    assert inside(path, lambda: os.listdir("/proc/thread-self/net/dev_snmp6")) == ["lo"]
    assert await pinned.list() == ["one"]
    with pytest.raises(AlreadyExists):
        await pinned.create("one")
    await pinned.remove("one")
    await pinned.remove("one")
    assert await pinned.list() == []
    assert not os.path.exists(path)


async def test_our_own_threads_stay_where_they_are(pinned: PinnedNamespaces) -> None:
    def seen() -> set[int]:
        found = set()
        for one in os.listdir("/proc/self/task"):
            with suppress(FileNotFoundError):
                found.add(identity(f"/proc/self/task/{one}/ns/net"))
        return found

    before = seen()
    path = await pinned.create("one")
    inside(path, lambda: None)
    # join() returns a moment before the kernel's thread has ended.
    deadline = time.monotonic() + 10
    while not seen() <= before:
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.mark.parametrize("key", ["", ".", "..", "a/b", ".lock", "-x", "a b"])
async def test_keys_that_are_no_names(pinned: PinnedNamespaces, key: str) -> None:
    with pytest.raises(InvalidArgument):
        await pinned.create(key)


async def test_pinning_what_somebody_else_made(pinned: PinnedNamespaces) -> None:
    one = await pinned.create("one")
    two = await pinned.pin("two", one)
    assert identity(one) == identity(two)
    with pytest.raises(InvalidArgument):
        await pinned.pin("three", "/proc/self/ns/uts")
    with pytest.raises(InvalidArgument):
        await pinned.pin("three", "/etc/passwd")
    with pytest.raises(NotFound):
        await pinned.pin("three", "/nowhere")
    assert await pinned.list() == ["one", "two"]


async def test_rests_are_swept(pinned: PinnedNamespaces) -> None:
    """What a kill between making the file and the mount leaves, or between unmount and unlink."""
    path = await pinned.create("one")
    rest = Path(pinned.path("two"))
    rest.touch()
    assert await pinned.list() == ["one"]
    assert not rest.exists()
    rest.touch()
    await pinned.create("two")
    await pinned.remove("two")
    assert identity(path)


async def test_removal_in_the_background(pinned: PinnedNamespaces) -> None:
    for number in range(5):
        await pinned.create(f"n{number}")
    for number in range(5):
        pinned.remove_later(f"n{number}")
    await pinned.close()
    assert await pinned.list() == []


async def test_owned_by_a_user_namespace(tmp_path: Path) -> None:
    with Zygote.start(["sampan.network.holder"]) as zygote:

        async def ask() -> Zygote:
            return zygote

        pinned = PinnedNamespaces(tmp_path / "netns", zygote=ask)
        holder = subprocess.Popen(
            ["unshare", "-U", "sh", "-c", "echo up; read line"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == b"up\n"
        userns = f"/proc/{holder.pid}/ns/user"
        path = await pinned.create("one", userns=userns)
        fd = os.open(path, os.O_RDONLY)
        owner = ns.owner_userns(fd)
        assert os.fstat(owner).st_ino == identity(userns)
        os.close(owner)
        os.close(fd)
        holder.communicate(b"\n", timeout=20)
        with pytest.raises(NotFound):
            await pinned.create("two", userns="/nowhere")
        assert await pinned.list() == ["one"]
        await pinned.remove("one")


_MAKER = """
import asyncio, sys
from pathlib import Path
from sampan.network import PinnedNamespaces

async def main():
    pinned = PinnedNamespaces(Path(sys.argv[1]))
    print("up", flush=True)
    for number in range(100_000):
        await pinned.create(f"n{number % 7}")
        await pinned.remove(f"n{(number - 3) % 7}")

asyncio.run(main())
"""


async def test_nothing_is_lost_when_the_maker_is_killed(tmp_path: Path) -> None:
    """Each namespace that there is has a name in the folder, by which it can be removed."""
    pinned = PinnedNamespaces(tmp_path / "netns")
    for turn in range(4):
        maker = subprocess.Popen(
            [sys.executable, "-c", _MAKER, str(tmp_path / "netns")], stdout=subprocess.PIPE
        )
        assert maker.stdout
        assert maker.stdout.readline() == b"up\n"
        # The turn decides how long it works: so many entries come and go.
        for _ in range(20 + 37 * turn):
            os.sched_yield()
            os.listdir(tmp_path)
        maker.send_signal(signal.SIGKILL)
        maker.communicate(timeout=20)
        for key in await pinned.list():
            assert statfs_type(pinned.path(key)) == ns.NSFS_MAGIC
            await pinned.remove(key)
        mounts = Path("/proc/self/mountinfo").read_text()
        assert str(tmp_path) not in mounts
    await pinned.close()
