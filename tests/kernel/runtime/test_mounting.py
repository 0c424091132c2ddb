"""Activations on the real kernel: made, found again, undone, and cleaned up after a death."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan import context
from sampan.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
    Unknown,
)
from sampan.model.mounts import Mount
from sampan.runtime.mounting.kernel import mount_at, unmount_at
from sampan.runtime.mounting.manager import LocalMounts
from sampan.runtime.mounting.transforms import make_folders
from sampan.testing import requires

pytestmark = requires("root", "kernel>=5.8")


@pytest.fixture
def mounts(short_path: Path) -> Iterator[LocalMounts]:
    (short_path / "root").mkdir()
    with context.scope("test"):
        yield LocalMounts(short_path / "m", [short_path / "root"])


def mounted(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(str(folder))]


@requires("mkfs.ext4")
async def test_a_file_system_in_a_file(mounts: LocalMounts, short_path: Path) -> None:
    image = short_path / "root/fs"
    made = await mounts.activate(
        "one",
        [
            Mount("mkfs/loop", str(image), "", ("X-containerd.mkfs.size=16MiB",)),
            Mount("format/ext4", "{{ mount 0 }}", "", ("ro",)),
        ],
        labels={"a": "b"},
    )
    assert stat.S_ISBLK(os.stat(made.active[0].mount_point).st_mode)
    assert made.system == [Mount("ext4", made.active[0].mount_point, "", ("ro",))]
    assert await mounts.info("one") == made
    assert await mounts.list("labels.a==b") == [made]
    with pytest.raises(AlreadyExists):
        await mounts.activate("one", [Mount("loop", str(image))])
    with context.scope("elsewhere"), pytest.raises(NotFound):
        await mounts.info("one")
    # A file that is there is not formatted again.
    before = image.stat().st_mtime_ns
    await mounts.activate(
        "two", [Mount("mkfs/loop", str(image), "", ("X-containerd.mkfs.size=1m",))]
    )
    assert image.stat().st_mtime_ns == before
    for name in ("one", "two"):
        await mounts.deactivate(name)
    with pytest.raises(NotFound):
        await mounts.deactivate("one")
    assert os.listdir(short_path / "m") == []


async def test_a_failure_leaves_nothing(mounts: LocalMounts, short_path: Path) -> None:
    tmpfs = Mount("tmpfs", "tmpfs")
    for last, error in (
        (Mount("format/bind", "{{ mount 7 }}"), Unknown),
        (Mount("mkdir/bind", "", "", ("X-containerd.mkdir.path=/nowhere",)), Unimplemented),
        (Mount("mkdir/bind", "", "", ("X-containerd.mkdir.way=/x",)), InvalidArgument),
        (Mount("mkfs/loop", "/nowhere/x"), Unimplemented),
        (Mount("loop", str(short_path / "nothing")), Unknown),
    ):
        with pytest.raises(error):
            await mounts.activate("x", [tmpfs, tmpfs, last])
        assert mounted(short_path / "m") == []
        assert not (short_path / "m").exists() or os.listdir(short_path / "m") == []
    with pytest.raises(Unimplemented):
        await mounts.activate("x", [tmpfs])
    with pytest.raises(InvalidArgument):
        await mounts.activate("", [tmpfs], temporary=True)


async def test_a_mount_in_use_can_be_undone_later(mounts: LocalMounts, short_path: Path) -> None:
    made = await mounts.activate("busy", [Mount("tmpfs", "tmpfs")], temporary=True)
    fd = os.open(made.system[0].source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with pytest.raises(FailedPrecondition):
            await mounts.deactivate("busy")
    finally:
        os.close(fd)
    await mounts.deactivate("busy")
    assert mounted(short_path / "m") == []


async def test_what_a_dead_process_left_half_made_is_undone(
    mounts: LocalMounts, short_path: Path
) -> None:
    whole = await mounts.activate("whole", [Mount("tmpfs", "tmpfs")], temporary=True)
    half = await mounts.activate("half", [Mount("tmpfs", "tmpfs")] * 2, temporary=True)
    home = Path(half.active[0].mount_point).parent
    (home / "record.json").unlink()
    again = LocalMounts(short_path / "m", [])
    await again.recover()
    assert not home.exists()
    assert await again.info("whole") == whole
    record = json.loads(next((short_path / "m").glob("*/record.json")).read_text())
    assert record["version"] == 1
    await again.deactivate("whole")


def test_folders_are_made_below_the_roots_alone(short_path: Path) -> None:
    root = short_path / "root"
    root.mkdir()
    (root / "link").symlink_to("/tmp")

    def made(option: str) -> Mount:
        return make_folders(Mount("x", "", "", ("ro", f"X-containerd.mkdir.{option}")), [root])

    assert made(f"path={root}/a:0751").options == ("ro",)
    assert (root / "a").stat().st_mode & 0o7777 == 0o751
    made(f"path={root}/a:0700:5:6")
    status = (root / "a").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o700, 5, 6)
    for bad, error in (
        (f"path={root}/link/x", InvalidArgument),
        (f"path={root}/../x", Unimplemented),
        (f"path={root}", Unimplemented),
        (f"path={root}/b:9", InvalidArgument),
        (f"path={root}/b:0700:1", InvalidArgument),
        (f"path={root}/b:0700:x:y", InvalidArgument),
        ("path=", InvalidArgument),
    ):
        with pytest.raises(error):
            made(bad)
    (root / "file").write_text("")
    with pytest.raises(FailedPrecondition):
        made(f"path={root}/file")


def test_a_bind_is_read_only_when_asked(short_path: Path) -> None:
    place = short_path / "p"
    mount_at(Mount("bind", str(short_path), "", ("bind", "ro", "nodev")), place)
    try:
        with pytest.raises(OSError, match="Read-only"):
            (place / "x").write_text("")
    finally:
        unmount_at(place)
    unmount_at(place)
    assert not place.exists()
