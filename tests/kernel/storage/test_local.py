"""The local content store on a real disk: shared suite, crashes, other processes, a full disk."""

import subprocess
import sys
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable
from sampan.linux import mounts
from sampan.model import digest as digests
from sampan.storage.content.local import LocalStore
from sampan.testing import requires
from sampan.testing.content_suite import DATA, DIGEST, ContentSuite

_WRITE = """
import asyncio, sys
from sampan.storage.content.local import LocalStore
async def main():
    store = LocalStore(sys.argv[1])
    async with await store.writer("r") as writer:
        await writer.truncate(0)
        await writer.write(bytes(range(256)) * 1000)
        print("held", flush=True)
        if sys.argv[2] == "hold":
            sys.stdin.read()
        await writer.commit(labels={"a": "b"})
asyncio.run(main())
"""


class TestLocal(ContentSuite):
    @pytest.fixture
    def store(self, root: Path) -> LocalStore:
        return LocalStore(root / "content")


async def test_another_process_holds_a_ref(root: Path) -> None:
    store = LocalStore(root)
    argv = [sys.executable, "-c", _WRITE, str(root), "hold"]
    with subprocess.Popen(  # noqa: ASYNC220
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(Unavailable):
            await store.writer("r")
        other.kill()
    async with await store.writer("r") as writer:
        assert (await writer.status()).offset == len(DATA)
        await writer.commit(len(DATA), DIGEST)


def _points(tmp: Path, folder: Path) -> list[str]:
    log = tmp / "trace"
    env = {"SAMPAN_TRACE_LOG": str(log)}
    subprocess.run([sys.executable, "-c", _WRITE, folder, "go"], env=env, check=True)
    return log.read_text().split()


async def test_killed_between_any_two_steps(root: Path) -> None:
    points = _points(root, root / "first")
    assert "content.renamed" in points
    for point in dict.fromkeys(points):
        folder = root / point
        env = {"SAMPAN_TRACE_KILL": point}
        done = subprocess.run(  # noqa: ASYNC221
            [sys.executable, "-c", _WRITE, folder, "go"], env=env
        )
        assert done.returncode == -9, point
        store = LocalStore(folder)
        await store.cleanup()
        try:
            async with await store.reader(DIGEST) as reader:
                assert await reader.read_at(0, len(DATA)) == DATA, point
            assert (await store.info(DIGEST)).labels == {"a": "b"}
        except NotFound:
            async with await store.writer("r") as writer:
                await writer.truncate(0)
                await writer.write(DATA)
                await writer.commit(len(DATA), DIGEST)
        await store.cleanup()
        assert list((folder / "trash").iterdir()) == []


@requires("root")
async def test_a_full_disk(root: Path) -> None:
    small = root / "small"
    small.mkdir()
    mounts.mount("tmpfs", str(small), "tmpfs", 0, "size=256k")
    try:
        store = LocalStore(small)
        async with await store.writer("r") as writer:
            with pytest.raises(ResourceExhausted):
                await writer.write(b"x" * 1_000_000)
            assert await writer.digest() == digests.of_bytes(b"x" * (await writer.status()).offset)
        await store.abort("r")
    finally:
        mounts.umount2(str(small))


async def test_names_from_outside_stay_names(root: Path) -> None:
    store = LocalStore(root)
    with pytest.raises(InvalidArgument):
        await store.info(digests.Digest("sha256:../../etc/passwd"))
    async with await store.writer("../../../x") as writer:
        await writer.write(b"x")
    assert not (root.parent / "x").exists()


def test_folders_are_private(root: Path) -> None:
    LocalStore(root)
    assert {path.stat().st_mode & 0o777 for path in root.iterdir()} == {0o700}
