"""As an ordinary user, made for the test; with ranges of subordinate ids, and with one id alone."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.testing import require, requires

pytestmark = requires("root", "useradd")

LIFE = """
import sampan
with sampan.in_process() as client:
    with client.sandbox("host:") as box:
        print(box.run("sh", "-c", "id -u; touch /x; ls -l /x | cut -d' ' -f3; pwd").text.split())
        box.write("/a/b", "c")
        assert box.read("/a/b") == b"c"
        child = box.fork()
        assert child.run("cat", "/a/b").text == "c"
        child.close()
        box.snapshot("s")
        box.remove("/a")
        print([(c.path, c.kind) for c in box.diff("s")])
        box.rollback("s")
        assert box.read("/a/b") == b"c"
        try:
            box.run("sh", "-c", "sleep 99 & sleep 99", timeout=0.5)
        except sampan.TimeoutExpired:
            pass
        assert box.run("sh", "-c", "cat /proc/[0-9]*/comm").text.count("sleep") == 0
        print(box.run("cat", "/sys/class/net/lo/operstate").returncode)
    assert client.sandboxes() == []
"""

LIMIT = """
import sampan
with sampan.in_process() as client:
    try:
        client.sandbox("host:", memory="64M").start()
    except sampan.SampanError as err:
        print(type(err).__name__, err)
"""


class User:
    """An ordinary user with a home of his own."""

    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self.home = home

    def run(self, *argv: str, expect: int = 0) -> str:
        env = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        entry = pwd.getpwnam(self.name)
        done = subprocess.run(
            argv,
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=[],
            env=env,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def python(self, program: str) -> str:
        return self.run(sys.executable, "-c", program)

    def sampan(self, *args: str) -> str:
        return self.run(sys.executable, "-m", "sampan.cli.main", *args)


def _made(folder: Path, *, ranges: bool) -> Iterator[User]:
    name = f"sbx{os.getpid() % 100000}{'r' if ranges else 's'}"
    home = folder / "home"
    subprocess.run(["useradd", "-M", "-d", str(home), name], check=True)
    try:
        if not ranges:
            entry = ["usermod", "--del-subuids", "0-4294967294", "--del-subgids", "0-4294967294"]
            subprocess.run([*entry, name], check=True)
        home.mkdir(mode=0o700)
        (home / "run").mkdir(mode=0o700)
        entry_ = pwd.getpwnam(name)
        os.chown(home, entry_.pw_uid, entry_.pw_gid)
        os.chown(home / "run", entry_.pw_uid, entry_.pw_gid)
        for parent in (folder, *folder.parents):
            if parent.stat().st_mode & 0o001 == 0 and parent.stat().st_uid == 0:
                parent.chmod(parent.stat().st_mode | 0o001)
        yield User(name, home)
    finally:
        subprocess.run(["userdel", name], check=True)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def user(short_path: Path) -> Iterator[User]:
    """One with ranges in /etc/subuid."""
    require("newuidmap")
    yield from _made(short_path, ranges=True)


@pytest.fixture
def single(short_path: Path) -> Iterator[User]:
    """One without."""
    yield from _made(short_path, ranges=False)


def test_the_life_of_a_sandbox(user: User) -> None:
    out = user.python(LIFE).splitlines()
    assert out[0] == "['0', 'root', '/']"
    assert out[1] == "[('/a', 'deleted')]"


def test_with_one_id_alone(single: User) -> None:
    out = single.python(LIFE).splitlines()
    assert out[0] == "['0', 'root', '/']"


def test_the_command_line(user: User) -> None:
    assert user.sampan("run", "--rm", "host:", "id", "-u") == "0\n"
    assert user.sampan("run", "--rm", "--user", "nobody", "host:", "id", "-un") == "nobody\n"
    assert user.sampan("ps", "-aq") == ""


def test_images_are_unpacked_with_all_their_ids(user: User) -> None:
    user.sampan("image", "from-host", "t/small:1", "sh", "ls", "id", "touch", "cat")
    script = "touch /new; id -u; ls -ln /new"
    out = user.sampan("run", "--rm", "t/small:1", "sh", "-c", script)
    assert out.splitlines()[0] == "0"
    commit = """
import sampan
with sampan.in_process() as client:
    with client.sandbox("t/small:1") as box:
        box.write("/note", "kept", user="1000:1000")
        box.commit("t/new:1")
    with client.sandbox("t/new:1") as box:
        print(box.read("/note"), box.stat("/note").uid)
"""
    assert user.python(commit) == "b'kept' 1000\n"


def test_what_cannot_be_limited_is_said(user: User) -> None:
    out = user.python(LIMIT)
    if out:
        assert out.startswith("FailedPrecondition memory cannot be limited: no cgroup is delegated")


def test_nothing_is_left_of_a_killed_owner(user: User) -> None:
    program = """
import os, sampan
client = sampan.in_process()
client.open()
box = client.sandbox("host:").start()
box.run("true")
os.kill(os.getpid(), 9)
"""
    user.run(sys.executable, "-c", program, expect=-9)
    assert (
        user.python("import sampan\nwith sampan.in_process() as c: print(c.sandboxes())") == "[]\n"
    )
    left = [path for path in user.home.rglob("*/snapshots/*") if path.name.isdigit()]
    assert left == []
