"""Paths in a hostile tree: nothing leads out of the root, and creating goes on under attack."""

import contextlib
import os
import signal
from pathlib import Path

import pytest

from sampan.linux import fds, mounts, paths, process
from sampan.linux import namespaces as ns
from sampan.testing import requires


@pytest.fixture
def root(tmp_path: Path) -> int:
    (tmp_path / "root/real").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    base = tmp_path / "root"
    (base / "up").symlink_to("../../outside")
    (base / "absolute").symlink_to("/real")
    (base / "dangling").symlink_to("/made/by/link")
    (base / "loop").symlink_to("loop")
    (base / "file").write_text("x")
    return os.open(base, os.O_PATH | os.O_DIRECTORY)


def where(fd: int) -> str:
    try:
        return os.readlink(paths.fd_path(fd))
    finally:
        os.close(fd)


@pytest.mark.parametrize("walk", [False, True])
def test_links_and_dots_stay_inside(root: int, tmp_path: Path, walk: bool) -> None:
    def find(path: str) -> str:
        if walk:
            return where(paths._open_by_walking(root, path, os.O_PATH, 0, 0))
        return where(paths.open_in_root(root, path, os.O_PATH))

    assert find("absolute") == str(tmp_path / "root/real")
    assert find("../../..") == str(tmp_path / "root")
    with pytest.raises(FileNotFoundError):
        find("up")
    with pytest.raises(OSError, match="symbolic links"):
        find("loop")
    os.close(root)


def test_mkdirs_makes_what_a_dangling_link_means(root: int, tmp_path: Path) -> None:
    assert where(paths.mkdirs_in_root(root, "dangling/x")) == str(tmp_path / "root/made/by/link/x")
    assert where(paths.mkdirs_in_root(root, "up/new")) == str(tmp_path / "root/outside/new")
    assert os.listdir(tmp_path / "outside") == []
    with pytest.raises(NotADirectoryError):
        paths.mkdirs_in_root(root, "file/x")
    with pytest.raises(OSError, match="symbolic links"):
        paths.mkdirs_in_root(root, "loop/x")
    os.close(root)


def test_mkdirs_survives_an_exchange_race(root: int, tmp_path: Path) -> None:
    """A folder and a link to the outside change places all the time: nothing lands outside."""
    (tmp_path / "root/a").mkdir()
    (tmp_path / "root/b").symlink_to(tmp_path / "outside")
    pid, pidfd = process.clone3()
    if pid == 0:
        while True:
            paths.renameat2(root, "a", root, "b", paths.RENAME_EXCHANGE)
    try:
        for number in range(1000 if not os.environ.get("SAMPAN_SOAK") else 10000):
            with contextlib.suppress(OSError):
                os.close(paths.mkdirs_in_root(root, f"a/{number}/deep"))
        assert not process.pidfd_wait(pidfd, 0)
    finally:
        process.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        os.close(root)
    assert os.listdir(tmp_path / "outside") == []


@requires("root")
def test_proc_handle_sees_what_lies_under_a_mount(tmp_path: Path) -> None:
    fake = tmp_path / "fake"
    fake.write_text("fake")
    pid, pidfd = process.clone3(ns.CLONE_NEWNS)
    if pid == 0:
        mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
        mounts.mount(str(fake), "/proc/version", None, mounts.MS_BIND)
        with paths.ProcHandle() as proc:
            seen = proc.read("version")
            link = proc.read("self/stat")
        covered = Path("/proc/version").read_text() == "fake"
        root_fd = os.open("/proc", os.O_PATH)
        try:
            paths.openat2(root_fd, "version", os.O_RDONLY, resolve=paths.RESOLVE_NO_XDEV)
            refused = False
        except OSError as error:
            refused = error.errno == 18
        os._exit(0 if covered and refused and b"Linux" in seen and link else 1)
    assert process.pidfd_wait(pidfd, 10)
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    assert ended is not None
    assert ended.si_status == 0


def test_nameless_file_gets_a_name_once(tmp_path: Path) -> None:
    with (
        fds.OwnedFd(os.open(tmp_path, os.O_RDONLY)) as folder,
        fds.OwnedFd(paths.open_tmpfile(folder.fd)) as file,
    ):
        fds.write_all(file.fd, b"whole")
        paths.link_fd(file.fd, folder.fd, "name")
        assert (tmp_path / "name").read_bytes() == b"whole"
        with pytest.raises(FileExistsError):
            paths.link_fd(file.fd, folder.fd, "name")
        assert paths.statx(file.fd).ino == os.fstat(file.fd).st_ino
