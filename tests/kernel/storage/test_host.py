"""Roots of the host's own programs: what is seen, and what reaches the host: nothing."""

import os
import subprocess
from pathlib import Path

import pytest

from sampan.errors import FailedPrecondition
from sampan.linux import mounts as calls
from sampan.model.mounts import Mount
from sampan.storage.snapshots.host import HostSnapshotter
from sampan.storage.snapshots.skeleton import LINKED_OR_MOUNTED
from sampan.testing import requires

pytestmark = requires("root")

EMPTY = ("home", "mnt", "proc", "root", "run", "srv", "sys", "tmp")


def mount_all(mounts: list[Mount], target: Path) -> None:
    target.mkdir(exist_ok=True)
    for mount in mounts:
        argv = ["mount", "-t", mount.type, mount.source, f"{target}{mount.target}"]
        subprocess.run([*argv, "-o", ",".join(mount.options)], check=True)


def unmount_all(mounts: list[Mount], target: Path) -> None:
    for mount in reversed(mounts):
        calls.umount2(f"{target}{mount.target}")


async def test_programs_run_and_secrets_are_not_there(root: Path, short_path: Path) -> None:
    snapshotter = HostSnapshotter(root)
    mounts = await snapshotter.prepare("c")
    assert mounts == await snapshotter.mounts("c")
    target = short_path / "m"
    mount_all(mounts, target)
    try:
        for name in ("shadow", "gshadow", "machine-id", "ssh", "ssl/private", "sudoers", "fstab"):
            assert not (target / "etc" / name).exists(), name
        shown = {path.name for path in target.iterdir()}
        assert {"usr", "bin", "etc", "proc", "tmp", "root"} <= shown
        assert shown <= {*LINKED_OR_MOUNTED, "dev", "etc", *EMPTY, "media", "var"}
        for empty in EMPTY:
            assert list((target / empty).iterdir()) == [], empty
        said = subprocess.run(  # noqa: ASYNC221
            ["chroot", target, "python3", "-c", "import ssl, json; print(6 * 7)"],
            capture_output=True,
            text=True,
        )
        assert (said.stdout, said.stderr) == ("42\n", "")
        marker = f"sampan-{os.urandom(6).hex()}"
        for place in ("", "usr/", "usr/bin/", "etc/", "opt/"):
            (target / f"{place}{marker}").write_text("x")
            assert not os.path.exists(f"/{place}{marker}")  # noqa: ASYNC240
    finally:
        unmount_all(mounts, target)
    assert (await snapshotter.usage("c")).inodes > 5
    with pytest.raises(FailedPrecondition):
        await snapshotter.commit("n", "c")
    await snapshotter.remove("c")
    await snapshotter.cleanup()
    assert list((root / "snapshots").iterdir()) == []
    await snapshotter.close()


async def test_an_overlay_below_falls_back_and_says_so(root: Path, short_path: Path) -> None:
    lower, upper, work, merged = (short_path / name for name in "luwm")
    for folder in (lower, upper, work, merged):
        folder.mkdir()
    calls.mount(
        "overlay", str(merged), "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}"
    )
    target = short_path / "t"
    try:
        snapshotter = HostSnapshotter(merged / "root")
        mounts = await snapshotter.prepare("c")
        assert "overlayfs does not work" in snapshotter.notices[0]
        mount_all(mounts, target)
        try:
            (target / "file").write_text("x")
            with pytest.raises(OSError, match="Read-only"):
                (target / "usr" / "x").write_text("x")
            assert subprocess.run(["chroot", target, "true"]).returncode == 0  # noqa: ASYNC221
        finally:
            unmount_all(mounts, target)
        await snapshotter.close()
    finally:
        calls.umount2(str(merged))


async def test_a_new_state_of_the_host_is_a_new_skeleton(root: Path, short_path: Path) -> None:
    host = short_path / "host"
    (host / "etc").mkdir(parents=True)
    (host / "usr").mkdir()
    (host / "secret").mkdir()
    (host / "etc" / "passwd").write_text("one")
    (host / "etc" / "group").write_text("hidden")
    (host / "etc" / "group").chmod(0o600)
    snapshotter = HostSnapshotter(root, host=str(host))
    first = await snapshotter.prepare("a")
    (host / "etc" / "passwd").write_text("another")
    second = await snapshotter.prepare("b")
    lowers = [mounts[0].options[-1].removeprefix("lowerdir=") for mounts in (first, second)]
    assert [(Path(one) / "etc" / "passwd").read_text() for one in lowers] == ["one", "another"]
    assert not (Path(lowers[1]) / "etc" / "group").exists()
    assert not (Path(lowers[1]) / "secret").exists()
    assert first[1].target == "/usr"
    await snapshotter.cleanup()
    assert len(list((root / "skeletons").iterdir())) == 2
    await snapshotter.remove("a")
    await snapshotter.cleanup()
    assert len(list((root / "skeletons").iterdir())) == 1
    await snapshotter.close()


ATTACK = r"""
echo x > /usr/bin/env; rm -f /usr/bin/tail; mv /usr/bin/cat /usr/bin/dog; chmod 4777 /usr/bin/ls
chown 1:1 /usr/bin/head; touch -t 200001010000 /usr/bin/wc; ln /usr/bin/sort /usr/bin/sorted
truncate -s 0 /usr/bin/uniq; cp /usr/bin/id /usr/bin/cut; mv /usr/lib/os-release /tmp/x
ln -sfn /tmp /usr/share/common-licenses; echo root::0:0::/:/bin/sh > /etc/passwd; echo ok
"""
VICTIMS = (
    *(f"/usr/bin/{name}" for name in ("env", "tail", "cat", "ls", "head", "wc", "sort", "uniq")),
    *("/usr/bin", "/usr/bin/id", "/usr/bin/cut", "/usr/lib", "/usr/lib/os-release"),
    *("/usr/share", "/usr/share/common-licenses", "/etc", "/etc/passwd", "/", "/opt", "/usr"),
)


def fingerprint() -> dict[str, object]:
    """Describe the victims on the host; the change time tells of every change but reading."""
    found: dict[str, object] = {}
    for path in VICTIMS:
        status = os.lstat(path)
        data = Path(path).read_bytes() if os.path.isfile(path) else b""
        times = (status.st_mtime_ns, status.st_ctime_ns)
        found[path] = (status.st_ino, status.st_mode, status.st_uid, status.st_nlink, times, data)
    return found


async def test_attacks_from_inside_leave_the_host_alone(root: Path, short_path: Path) -> None:
    before = fingerprint()
    snapshotter = HostSnapshotter(root)
    mounts = await snapshotter.prepare("c")
    target = short_path / "m"
    mount_all(mounts, target)
    try:
        said = subprocess.run(  # noqa: ASYNC221
            ["chroot", target, "sh", "-c", ATTACK], capture_output=True, text=True
        )
        assert said.stdout == "ok\n"
        assert said.stderr == ""
        assert (target / "usr/bin/dog").exists(), "the attack did what it wanted, inside"
        assert (target / "usr/bin/env").read_text() == "x\n"
    finally:
        unmount_all(mounts, target)
    after = fingerprint()
    assert [path for path in before if before[path] != after[path]] == []
    await snapshotter.remove("c")
    await snapshotter.close()


async def test_a_file_system_below_programs_is_seen_and_kept(root: Path, short_path: Path) -> None:
    host, target = short_path / "host", short_path / "m"
    for folder in ("etc", "usr/more", "opt", "usr/odd:name", "work"):
        (host / folder).mkdir(parents=True)
    for folder in ("usr/more", "usr/odd:name", "work"):
        calls.mount("tmpfs", str(host / folder), "tmpfs")
        (host / folder / "file").write_text("host")
    try:
        snapshotter = HostSnapshotter(root, host=str(host))
        mounts = await snapshotter.prepare("c")
        assert [mount.target for mount in mounts] == ["", "/opt", "/usr", "/usr/more"]
        mount_all(mounts, target)
        try:
            assert (target / "usr/more/file").read_text() == "host"
            (target / "usr/more/file").write_text("inside")
            (target / "usr/more/new").write_text("inside")
            assert list((target / "usr/odd:name").iterdir()) == [], "what cannot be named is hidden"
            assert not (target / "work").exists()
        finally:
            unmount_all(mounts, target)
        assert (host / "usr/more/file").read_text() == "host"
        assert [path.name for path in (host / "usr/more").iterdir()] == ["file"]
        await snapshotter.remove("c")
        await snapshotter.close()
    finally:
        for folder in ("usr/more", "usr/odd:name", "work"):
            calls.umount2(str(host / folder))
