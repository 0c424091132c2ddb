"""The inventory sees one planted leak of each kind, and says so in the leak fixture's words."""

from __future__ import annotations

import ctypes
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sampan.testing import SESSION, Kind, Scope, requires, unique_name
from sampan.testing.inventory import leaked, take

LIBC = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2

pytestmark = requires("root")


def mount(source: str, target: Path, fstype: str = "", flags: int = 0) -> None:
    result = LIBC.mount(source.encode(), bytes(target), fstype.encode(), flags, None)
    assert result == 0, os.strerror(ctypes.get_errno())


@contextmanager
def a_mount(folder: Path) -> Iterator[None]:
    target = folder / "mnt"
    target.mkdir()
    mount("planted", target, "tmpfs")
    yield
    LIBC.umount2(bytes(target), MNT_DETACH)


@contextmanager
def an_fd(folder: Path) -> Iterator[None]:
    fd = os.open("/dev/null", os.O_RDONLY)
    yield
    os.close(fd)


@contextmanager
def a_cgroup(folder: Path) -> Iterator[None]:
    top = Path("/sys/fs/cgroup")
    places = [top, top / "unified", top / "pids"]
    path = next(p for p in places if (p / "cgroup.procs").exists()) / unique_name("leak")
    path.mkdir()
    yield
    path.rmdir()


@contextmanager
def a_process(folder: Path) -> Iterator[None]:
    """One that daemonized: its parent is gone, it has a session of its own."""
    out = subprocess.run(
        ["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"], capture_output=True, check=True
    )
    pid = int(out.stdout)
    yield
    os.kill(pid, 9)
    os.waitid(os.P_PID, pid, os.WEXITED)


@contextmanager
def a_namespace(folder: Path) -> Iterator[None]:
    """A network namespace kept by a bind mount alone, as `ip netns add` does."""
    target = folder / "netns"
    target.touch()
    script = 'unshare --net sh -c "mount --bind /proc/self/ns/net $0"'
    subprocess.run(["sh", "-c", script, target], check=True)
    yield
    LIBC.umount2(bytes(target), MNT_DETACH)


@contextmanager
def a_file(folder: Path) -> Iterator[None]:
    (folder / "watched" / "left").touch()
    yield
    (folder / "watched" / "left").unlink()


@contextmanager
def a_socket(folder: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + unique_name("leak"))
        yield


@contextmanager
def a_link(folder: Path) -> Iterator[None]:
    """A network device. Its name must be short, so the tag stands in its alias."""
    name = f"l{os.getpid() % 100000}"
    subprocess.run(["ip", "link", "add", name, "type", "veth"], check=True)
    subprocess.run(["ip", "link", "set", name, "alias", unique_name("leak")], check=True)
    yield
    subprocess.run(["ip", "link", "delete", name], check=True)


@contextmanager
def a_row(folder: Path) -> Iterator[None]:
    database = sqlite3.connect(folder / "planted.db")
    database.execute("INSERT INTO things VALUES (1, 'left')")
    database.commit()
    yield
    database.execute("DELETE FROM things")
    database.commit()
    database.close()


PLANTS: dict[Kind, Callable[[Path], object]] = {
    Kind.FD: an_fd,
    Kind.MOUNT: a_mount,
    Kind.CGROUP: a_cgroup,
    Kind.NAMESPACE: a_namespace,
    Kind.PROCESS: a_process,
    Kind.FILE: a_file,
    Kind.SOCKET: a_socket,
    Kind.LINK: a_link,
    Kind.ROW: a_row,
}


@requires("ip", "setsid", "unshare")
@pytest.mark.parametrize("kind", list(Kind))
def test_a_planted_leak_is_seen(kind: Kind, short_path: Path) -> None:
    (short_path / "watched").mkdir()
    database = sqlite3.connect(short_path / "planted.db")
    database.execute("CREATE TABLE things (id INTEGER, name TEXT)")
    database.close()
    scope = Scope(
        tag=SESSION.tag,
        folders=(short_path / "watched",),
        databases=(short_path / "planted.db",),
    )
    before = take(scope)
    assert leaked(before, take(scope)) == []
    with ExitStack() as planted:
        planted.enter_context(PLANTS[kind](short_path))  # type: ignore[arg-type]
        found = leaked(before, take(scope))
        assert kind in {item.kind for item in found}, found
    assert leaked(before, take(scope)) == []


LODGED = """
import os, sys
from pathlib import Path
from sampan.testing.inventory import Kind, Scope, leaked, take
home = Path(sys.argv[1])
(home / "cgroup.procs").write_text("0")
scope = Scope(alone=True, kinds=frozenset({Kind.CGROUP}))
before = take(scope)
planted = [home.parent / "neighbour", home.parent / "neighbour" / "below", home / "ours"]
for path in planted:
    path.mkdir()
print([item.key for item in leaked(before, take(scope)) if str(home.parent) in item.key])
for path in reversed(planted):
    path.rmdir()
(Path("/sys/fs/cgroup/pids/cgroup.procs")).write_text("0")
"""


@requires("cgroup:pids")
def test_alone_others_may_be_lodged_beside_us() -> None:
    """A tool that puts each of its commands into a cgroup does so for others, too."""
    lodge = Path("/sys/fs/cgroup/pids") / unique_name("lodge")
    home = lodge / "a"
    home.mkdir(parents=True)
    try:
        printed = subprocess.check_output([sys.executable, "-c", LODGED, home], text=True)
    finally:
        home.rmdir()
        lodge.rmdir()
    assert printed.strip() == str([str(home / "ours")])


@requires("cgroup:pids")
@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("{name}", False),
        ("sampan/{name}", False),
        ("sampan/{name}/c", True),
        ("{name}/c", True),
    ],
)
def test_alone_a_containers_cgroup_counts_and_an_empty_parent_does_not(
    path: str, counts: bool
) -> None:
    """Untagged, as those of ctr and CRI are; `/default/ID` is a container, `/default` is not."""
    top = Path("/sys/fs/cgroup/pids")
    planted = top / path.format(name=unique_name("parent"))
    made = [one for one in (*reversed(planted.parents), planted) if not one.exists()]
    scope = Scope(alone=True, kinds=frozenset({Kind.CGROUP}))
    before = take(scope)
    for one in made:
        one.mkdir()
    try:
        found = {item.key for item in leaked(before, take(scope))}
    finally:
        for one in reversed(made):
            one.rmdir()
    assert (str(planted) in found) is counts


LEAKY = """
import os, subprocess
{body}
"""

BODIES = {
    "fd": "def test_it(): os.open('/dev/null', os.O_RDONLY)",
    "process": "def test_it(): subprocess.run(['sh', '-c', 'setsid sleep 60 >/dev/null 2>&1 &'])",
    "mount": "def test_it(tmp_path): subprocess.run(['mount', '-t', 'tmpfs', 'x', tmp_path])",
}


@pytest.mark.parametrize("kind", BODIES)
def test_the_fixture_fails_a_leaky_test(kind: str, tmp_path: Path) -> None:
    """Another pytest runs the leaky test, so this one proves the whole way to the report."""
    (tmp_path / "test_leaky.py").write_text(LEAKY.format(body=BODIES[kind]))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "sampan.testing.plugin",
         "-p", "no:cacheprovider", "--rootdir", tmp_path, "-c", os.devnull, tmp_path],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "the test left behind:" in result.stdout, result.stdout
    assert f"\n  {kind} " in result.stdout, result.stdout
    assert "1 passed, 1 error" in result.stdout, result.stdout
