"""Writable layers cloned and compared, as the kernel's overlayfs would show them."""

import os
import stat
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.storage.uppers import base, changes, clone, layers_of
from sampan.testing import requires

pytestmark = requires("root")


def overlay(upper: Path, *lower: Path) -> list[object]:
    options = [f"upperdir={upper}", f"lowerdir={':'.join(map(str, lower))}", "workdir=/w"]
    return ["overlay", "overlay", "", options]


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    top = tmp_path / "lower"
    (top / "d/sub").mkdir(parents=True)
    (top / "d/same").write_text("same")
    (top / "d/gone").write_text("gone")
    (top / "d/sub/deep").write_text("deep")
    (top / "changed").write_text("old")
    return top


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    top = tmp_path / "upper"
    (top / "d").mkdir(parents=True)
    os.mknod(top / "d/gone", stat.S_IFCHR, 0)
    (top / "d/new").write_text("new")
    os.link(top / "d/new", top / "d/hard")
    (top / "changed").write_text("newer")
    os.symlink("changed", top / "link")
    os.mkfifo(top / "fifo")
    return top


def test_changes_are_what_overlayfs_would_show(lower: Path, upper: Path) -> None:
    mounts = [overlay(upper, lower)]
    assert sorted(changes(base(mounts), mounts)) == [
        ("/changed", "modified"),
        ("/d/gone", "deleted"),
        ("/d/hard", "added"),
        ("/d/new", "added"),
        ("/fifo", "added"),
        ("/link", "added"),
    ]


def test_an_opaque_folder_hides_what_is_below(lower: Path, upper: Path) -> None:
    os.setxattr(upper / "d", "trusted.overlay.opaque", b"y")
    mounts = [overlay(upper, lower)]
    found = dict(changes(base(mounts), mounts))
    assert found["/d/same"] == "deleted"
    assert found["/d/sub"] == "deleted"


def test_a_clone_is_the_same_tree(lower: Path, upper: Path, tmp_path: Path) -> None:
    os.setxattr(upper / "d", "trusted.overlay.opaque", b"y")
    os.chown(upper / "changed", 5, 6)
    (upper / "changed").chmod(0o4711)
    os.utime(upper / "changed", ns=(1, 2))
    other = tmp_path / "other"
    (other / "leftover").mkdir(parents=True)
    clone([overlay(upper, lower)], [overlay(other, lower)])
    assert not (other / "leftover").exists()
    status = (other / "changed").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (5, 6, 0o4711)
    assert status.st_mtime_ns == 2
    assert (other / "d/new").stat().st_ino == (other / "d/hard").stat().st_ino
    assert os.getxattr(other / "d", "trusted.overlay.opaque") == b"y"
    assert stat.S_ISFIFO((other / "fifo").lstat().st_mode)
    assert os.readlink(other / "link") == "changed"
    mounts, others = [overlay(upper, lower)], [overlay(other, lower)]
    assert [c for c in changes(mounts, others) if c[0] != "/fifo"] == []


def test_shapes_must_match(lower: Path, upper: Path) -> None:
    with pytest.raises(InvalidArgument, match="shapes"):
        clone([overlay(upper, lower)], [])
    with pytest.raises(InvalidArgument, match="no layers"):
        layers_of(["ext4", "/dev/x", "", []])
    bind = layers_of(["bind", str(lower), "", ["ro", "rbind"]])
    assert (bind.folders, bind.writable) == ([str(lower)], False)
