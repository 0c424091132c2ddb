"""What every snapshotter must do, as tests: give a `snapshotter` fixture and inherit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from sampan.model.mounts import Mount
from sampan.storage.detached import open_mounts
from sampan.storage.snapshots import Kind, Snapshotter

__all__ = ["SnapshotSuite", "opened", "read", "write"]


@contextmanager
def opened(mounts: list[Mount]) -> Iterator[int]:
    """Mount, attached nowhere, and give the root's fd."""
    fd = open_mounts(mounts)
    try:
        yield fd
    finally:
        os.close(fd)


def write(mounts: list[Mount], **files: str) -> None:
    """Write files of the root."""
    with opened(mounts) as root:
        for name, text in files.items():
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=root)
            os.write(fd, text.encode())
            os.close(fd)


def read(mounts: list[Mount]) -> dict[str, str]:
    """Return the files of the root."""
    found = {}
    with opened(mounts) as root:
        top = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
        for name in os.listdir(top):
            fd = os.open(name, os.O_RDONLY, dir_fd=top)
            found[name] = os.read(fd, 1000).decode()
            os.close(fd)
        os.close(top)
    return found


class SnapshotSuite:
    """Tests of the Protocol `Snapshotter`; `snapshotter` is empty."""

    async def test_layers_stack(self, snapshotter: Snapshotter) -> None:
        write(await snapshotter.prepare("k1"), a="1", b="1")
        await snapshotter.commit("one", "k1")
        write(await snapshotter.prepare("k2", "one"), b="2", c="2")
        await snapshotter.commit("two", "k2")
        assert read(await snapshotter.view("v", "two")) == {"a": "1", "b": "2", "c": "2"}
        assert read(await snapshotter.view("w", "one")) == {"a": "1", "b": "1"}
        mounts = await snapshotter.prepare("c", "two")
        with opened(mounts) as root:
            os.unlink("a", dir_fd=root)
        assert read(await snapshotter.mounts("c")) == {"b": "2", "c": "2"}
        assert mounts == await snapshotter.mounts("c")
        assert read(await snapshotter.mounts("v"))["a"] == "1"

    async def test_views_are_read_only(self, snapshotter: Snapshotter) -> None:
        write(await snapshotter.prepare("k1"), a="1")
        await snapshotter.commit("one", "k1")
        write(await snapshotter.prepare("k2", "one"), b="2")
        await snapshotter.commit("two", "k2")
        for parent in ("", "one", "two"):
            with pytest.raises(OSError, match="Read-only"):
                write(await snapshotter.view(f"v{parent}", parent), x="x")

    async def test_a_hundred_layers(self, snapshotter: Snapshotter) -> None:
        parent = ""
        for number in range(100):
            write(await snapshotter.prepare("k", parent), **{f"f{number}": "x", "top": str(number)})
            await snapshotter.commit(f"l{number}", "k")
            parent = f"l{number}"
        found = read(await snapshotter.view("v", parent))
        assert (len(found), found["top"]) == (101, "99")

    async def test_stat_and_walk(self, snapshotter: Snapshotter) -> None:
        await snapshotter.prepare("k/1", labels={"a": "b"})
        info = await snapshotter.stat("k/1")
        assert (info.kind, info.parent, info.labels) == (Kind.ACTIVE, "", {"a": "b"})
        assert info.created_at == info.updated_at
        await snapshotter.commit("one", "k/1", labels={"c": "d"})
        assert (await snapshotter.stat("one")).labels == {"c": "d"}
        await snapshotter.view("v", "one")
        assert (await snapshotter.stat("v")).parent == "one"
        names = [one.name async for one in snapshotter.walk(["kind==view", "labels.c==d"])]
        assert names == ["one", "v"]
        for call in (snapshotter.stat, snapshotter.mounts, snapshotter.usage, snapshotter.remove):
            with pytest.raises(NotFound):
                await call("k/1")

    async def test_names_are_taken_once(self, snapshotter: Snapshotter) -> None:
        await snapshotter.prepare("k")
        with pytest.raises(AlreadyExists):
            await snapshotter.prepare("k")
        await snapshotter.commit("one", "k")
        with pytest.raises(AlreadyExists):
            await snapshotter.view("one")
        await snapshotter.prepare("k")
        with pytest.raises(AlreadyExists):
            await snapshotter.commit("one", "k")
        await snapshotter.remove("k")
        await snapshotter.prepare("k", "one")

    async def test_parents(self, snapshotter: Snapshotter) -> None:
        with pytest.raises(NotFound):
            await snapshotter.prepare("k", "none")
        await snapshotter.prepare("k")
        with pytest.raises(InvalidArgument):
            await snapshotter.prepare("l", "k")
        await snapshotter.commit("one", "k")
        await snapshotter.prepare("l", "one")
        with pytest.raises(FailedPrecondition):
            await snapshotter.remove("one")
        with pytest.raises(FailedPrecondition):
            await snapshotter.mounts("one")
        with pytest.raises(FailedPrecondition):
            await snapshotter.commit("two", "one")
        await snapshotter.remove("l")
        await snapshotter.remove("one")
        assert [one async for one in snapshotter.walk()] == []

    async def test_permissions_of_the_root(self, snapshotter: Snapshotter) -> None:
        with opened(await snapshotter.prepare("k")) as root:
            assert os.fstat(root).st_mode & 0o7777 == 0o755
            os.chmod(f"/proc/self/fd/{root}", 0o1711)  # noqa: S103
            os.chown(f"/proc/self/fd/{root}", 7, 8)
        await snapshotter.commit("one", "k")
        for mounts in (await snapshotter.prepare("c", "one"), await snapshotter.view("v", "one")):
            with opened(mounts) as root:
                status = os.fstat(root)
            assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o1711, 7, 8)

    async def test_usage(self, snapshotter: Snapshotter) -> None:
        mounts = await snapshotter.prepare("k")
        empty = await snapshotter.usage("k")
        write(mounts, big="x" * 100_000)
        with opened(mounts) as root:
            os.link("big", "again", src_dir_fd=root, dst_dir_fd=root)
        used = await snapshotter.usage("k")
        assert used.inodes == empty.inodes + 1
        assert 100_000 <= used.size - empty.size < 150_000
        await snapshotter.commit("one", "k")
        assert await snapshotter.usage("one") == used

    async def test_update(self, snapshotter: Snapshotter) -> None:
        await snapshotter.prepare("k", labels={"a": "1", "b": "2"})
        info = await snapshotter.stat("k")
        new = type(info)(
            info.kind, "k", "other", info.created_at, info.updated_at, {"a": "3", "c": "4"}
        )
        assert (await snapshotter.update(new, ["labels.a"])).labels == {"a": "3", "b": "2"}
        done = await snapshotter.update(new)
        assert (done.labels, done.parent) == ({"a": "3", "c": "4"}, "")
        assert done.updated_at > done.created_at
        with pytest.raises(InvalidArgument):
            await snapshotter.update(new, ["parent"])

    async def test_rebase(self, snapshotter: Snapshotter) -> None:
        if "rebase" not in snapshotter.capabilities:
            pytest.skip("snapshotter without rebase")
        write(await snapshotter.prepare("k1"), a="1")
        write(await snapshotter.prepare("k2"), b="2")
        await snapshotter.commit("one", "k1")
        await snapshotter.commit("two", "k2", parent="one")
        assert read(await snapshotter.view("v", "two")) == {"a": "1", "b": "2"}

    async def test_cleanup_keeps_what_exists(self, snapshotter: Snapshotter) -> None:
        write(await snapshotter.prepare("k"), a="1")
        await snapshotter.cleanup()
        assert read(await snapshotter.mounts("k")) == {"a": "1"}
