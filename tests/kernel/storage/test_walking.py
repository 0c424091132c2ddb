"""Diff create: what is written can be applied again, and means the same to GNU tar and umoci."""

import io
import os
import random
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from sampan.storage.diff.walking import write_changes
from sampan.testing import requires

pytestmark = requires("root")

Apply = Callable[..., dict[str, object]]


def plant(tree: Path, choose: random.Random) -> None:
    """Fill `tree` with one of everything, in random places."""
    folders = [tree]
    for number in range(choose.randint(5, 12)):
        folder = choose.choice(folders) / f"d{number}"
        folder.mkdir()
        folder.chmod(choose.choice([0o755, 0o700, 0o1777, 0o2775]))
        folders.append(folder)
    files = []
    for number in range(choose.randint(10, 30)):
        name = choose.choice([f"f{number}", f"{number}" + "n" * 150, f"é{number}"])
        path = choose.choice(folders) / name
        path.write_bytes(choose.randbytes(choose.choice([0, 1, 511, 512, 513, 70_000])))
        os.chown(path, choose.randrange(3_000_000), choose.randrange(3_000_000))
        path.chmod(choose.choice([0o644, 0o4755, 0o600, 0o2711]))
        os.utime(path, ns=(0, choose.choice([0, 1, 10**18, 1_700_000_000_123_456_789])))
        files.append(path)
    os.link(files[0], choose.choice(folders) / "hard")
    choose.choice(folders).joinpath("soft").symlink_to("/etc/" + "x" * choose.choice([1, 150]))
    os.mkfifo(choose.choice(folders) / "fifo")
    os.mknod(choose.choice(folders) / "dev", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(files[1], "user.test", b"\0value\n=")
    os.setxattr(folders[1], "trusted.test", b"x")
    with socket.socket(socket.AF_UNIX) as unix:
        os.chdir(folders[1])
        unix.bind("socket")
        os.chdir("/")


def layer(upper: Path, lower: Path | None = None) -> bytes:
    out = io.BytesIO()
    above = os.open(upper, os.O_RDONLY)
    below = os.open(lower, os.O_RDONLY) if lower else None
    write_changes(above, below, out)
    os.close(above)
    if below is not None:
        os.close(below)
    return out.getvalue()


def test_apply_then_diff_is_the_same(short_path: Path, apply: Apply) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    choose = random.Random(seed)
    for number in range(200 if os.environ.get("SAMPAN_SOAK") else 4):
        one, two = short_path / f"one{number}", short_path / f"two{number}"
        one.mkdir()
        two.mkdir()
        plant(one, choose)
        data = layer(one)
        assert "error" not in apply(data, two)
        assert layer(two) == data
        next(one.rglob("socket")).unlink()
        assert layer(two, one) == layer(one, one) == bytes(1024)


def test_changes_only(short_path: Path, apply: Apply) -> None:
    old, new, copy = (short_path / name for name in ("old", "new", "copy"))
    old.mkdir()
    (old / "gone").mkdir()
    (old / "gone" / "x").write_text("x")
    (old / "same").mkdir()
    (old / "same" / "y").write_text("y")
    (old / "dir").mkdir()
    (old / "dir" / "z").write_text("z")
    (old / "file").write_text("a")
    subprocess.run(["cp", "-a", old, new], check=True)
    subprocess.run(["cp", "-a", old, copy], check=True)
    subprocess.run(["rm", "-r", new / "gone", new / "file"], check=True)
    (new / "dir" / "z").write_text("new")
    (new / "file").mkdir()
    data = layer(new, old)
    names = subprocess.run(["tar", "t"], input=data, capture_output=True, check=True)
    assert names.stdout.decode().split() == [".wh.gone", "dir/", "dir/z", "file/"]
    assert "error" not in apply(data, copy)
    assert layer(copy, new) == layer(new, copy) == bytes(1024)


@requires("umoci")
def test_umoci_and_gnu_tar_see_the_same_tree(short_path: Path, apply: Apply) -> None:
    tree, ours, theirs = (short_path / name for name in ("tree", "ours", "theirs"))
    for folder in (tree, ours, theirs):
        folder.mkdir()
    plant(tree, random.Random(7))
    data = layer(tree)
    assert "error" not in apply(data, ours)
    subprocess.run(
        ["tar", "-x", "-p", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", theirs],
        input=data,
        check=True,
        capture_output=True,
    )
    assert layer(theirs) == layer(ours)
    image = short_path / "image"
    run = ["umoci"]
    subprocess.run([*run, "init", "--layout", image], check=True, capture_output=True)
    subprocess.run([*run, "new", "--image", f"{image}:a"], check=True, capture_output=True)
    (short_path / "l.tar").write_bytes(data)
    subprocess.run(
        [*run, "raw", "add-layer", "--image", f"{image}:a", short_path / "l.tar"],
        check=True,
        capture_output=True,
    )
    bundle = short_path / "bundle"
    subprocess.run(
        [*run, "raw", "unpack", "--image", f"{image}:a", bundle], check=True, capture_output=True
    )
    found = bundle / "rootfs" if (bundle / "rootfs").is_dir() else bundle
    os.chmod(found, 0o755)  # noqa: S103
    assert layer(found) == layer(ours)


def test_sparse_files_of_gnu_tar(short_path: Path, apply: Apply) -> None:
    tree = short_path / "tree"
    tree.mkdir()
    with (tree / "holes").open("wb") as file:
        for number in range(60):
            file.seek(number * 100_000)
            file.write(b"data%d" % number)
        file.truncate(8_000_000)
    for version in ("gnu", "0.0", "0.1", "1.0"):
        argv = ["tar", "-c", "--sparse", "-C", str(tree)]
        argv += (
            ["--format=gnu"]
            if version == "gnu"
            else [
                "--format=pax",
                f"--sparse-version={version}",
            ]
        )
        data = subprocess.run([*argv, "holes"], check=True, capture_output=True).stdout
        assert len(data) < 1_000_000
        target = short_path / version
        target.mkdir()
        assert "error" not in apply(data, target)
        assert (target / "holes").read_bytes() == (tree / "holes").read_bytes()
        assert (target / "holes").stat().st_blocks * 512 < 1_000_000
