"""Terminals and stdio as users of runc know them."""

import fcntl
import os
import select
import socket
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.linux import fds
from sampan.testing import Bundle, Runtime, requires
from sampan.testing.runtimes import sampan_oci, wait_for

pytestmark = requires("root", "busybox")


class Console:
    """A console socket, and the master that came through it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        fds.unix_bind(self._listener, str(path))
        self._listener.listen()
        self.master = -1
        self._seen = b""

    def receive(self) -> None:
        assert select.select([self._listener], [], [], 10)[0]
        connection, _ = self._listener.accept()
        data, received = fds.recv_fds(connection, 4096, 1)
        connection.close()
        self.master = received[0]
        assert data

    def expect(self, text: bytes) -> bytes:
        while text not in self._seen:
            assert select.select([self.master], [], [], 10)[0], self._seen
            try:
                data = os.read(self.master, 4096)
            except OSError:
                data = b""  # EIO: nobody has the other side any more
            assert data, self._seen
            self._seen += data
        return self._seen

    def close(self) -> None:
        self._listener.close()
        if self.master >= 0:
            os.close(self.master)


@pytest.fixture
def console(short_path: Path) -> Iterator[Console]:
    made = Console(short_path / "console")
    yield made
    made.close()


def start(runtime: Runtime, bundle: Bundle, console: Console, *command: str) -> str:
    bundle.process["terminal"] = True
    name = runtime.create(bundle, *command, flags=("--console-socket", str(console.path)))
    console.receive()
    runtime.start(name)
    return name


def test_it_is_the_containers_own(runtime: Runtime, bundle: Bundle, console: Console) -> None:
    """It belongs to the user, group 5, has the size asked for, and adds no carriage returns."""
    bundle.process["consoleSize"] = {"height": 33, "width": 77}
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    script = "stty size; stat -L -c 'owner %u %g' /proc/self/fd/0; tty; echo end"
    start(runtime, bundle, console, "sh", "-c", script)
    output = console.expect(b"end")
    if runtime.ours:
        assert b"\r" not in output
        assert b"33 77\n" in output  # runc 1.1 heeds it in `run` alone
    assert b"owner 1000 5" in output
    assert b"/dev/pts/0" in output or b"/dev/console" in output


def test_lines_and_sizes_go_through(runtime: Runtime, bundle: Bundle, console: Console) -> None:
    name = start(runtime, bundle, console, "sh", "-c", "read -r x; echo got $x; stty size")
    fcntl.ioctl(console.master, termios.TIOCSWINSZ, struct.pack("4H", 12, 34, 0, 0))
    os.write(console.master, b"word\n")
    output = console.expect(b"12 34")
    assert b"got word" in output
    assert runtime.wait(name) == 0


def test_a_second_one_for_an_exec(runtime: Runtime, bundle: Bundle, console: Console) -> None:
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    pid = bundle.path / "exec-pid"
    flags = ("-t", "-d", "--console-socket", str(console.path), "--pid-file", str(pid))
    result = runtime.exec(name, "sh", "-c", "tty; echo end; read -r x", flags=flags)
    assert result.returncode == 0, result.stderr
    console.receive()
    assert b"/dev/pts/" in console.expect(b"end")
    os.write(console.master, b"\n")
    assert wait_for(int(pid.read_text()), 10, "exec") == 0
    runtime.delete(name, force=True)


def test_without_a_socket_create_refuses(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["terminal"] = True
    bundle.write(bundle.config)
    result = runtime.call("create", "--bundle", str(bundle.path), bundle.id)
    if runtime.ours:
        assert result.returncode != 0
    assert "console" in result.stderr or "tty" in result.stderr or result.returncode == 0
    runtime.call("delete", "-f", bundle.id)


def test_run_works_when_stdin_is_no_terminal(runtime: Runtime, bundle: Bundle) -> None:
    if not runtime.ours:
        return  # runc 1.1.5 copies until its stdin ends
    bundle.process["terminal"] = True
    result = runtime.run(bundle, "sh", "-c", "test -t 0 && test -t 1 && echo terminal")
    assert (result.returncode, result.stdout) == (0, "terminal\n"), result.stderr


def test_exec_works_when_stdin_is_no_terminal(runtime: Runtime, bundle: Bundle) -> None:
    if not runtime.ours:
        return
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    result = runtime.exec(name, "sh", "-c", "test -t 0 && echo terminal", flags=("-t",))
    assert (result.returncode, result.stdout) == (0, "terminal\n"), result.stderr
    runtime.delete(name, force=True)


def test_the_hosts_null_keeps_its_owner(runtime: Runtime, bundle: Bundle) -> None:
    before = os.stat("/dev/null")
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.write(bundle.with_changes(("true",)))
    null = os.open("/dev/null", os.O_RDWR)
    runtime._pids[bundle.id] = 0
    command = ("run", "--bundle", str(bundle.path), bundle.id)
    result = runtime.call(*command, stdin=null, stdout=null, stderr=null)
    os.close(null)
    assert result.returncode == 0
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid, after.st_mode) == (
        before.st_uid, before.st_gid, before.st_mode
    )  # fmt: skip


def test_preserved_fds_arrive(runtime: Runtime, bundle: Bundle, short_path: Path) -> None:
    if runtime.name == "sampan-fork":
        return  # its worker has the fds of the zygote
    bundle.write(bundle.with_changes(("sh", "-c", "echo through >&3; ls /proc/self/fd")))
    program = sampan_oci() if runtime.ours else (runtime.name,)
    command = [*program, "--root", str(runtime.root), "run", "--preserve-fds", "1"]
    command += ["--bundle", str(bundle.path), bundle.id]
    target = short_path / "target"
    shell = ["sh", "-c", 'exec "$@" 3>"$0"', str(target), *command]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert target.read_text() == "through\n"
    assert done.stdout.split()[:4] == ["0", "1", "2", "3"]
