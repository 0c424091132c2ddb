"""Terminals: a real pty, its size, its modes, and the way out."""

import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from fcntl import ioctl
from types import TracebackType
from typing import Self

import pytest

from .conftest import Sampan


class Screen:
    """A pty with a program on it."""

    def __init__(self, sampan: Sampan, *args: str) -> None:
        self.fd, child = pty.openpty()
        ioctl(child, termios.TIOCSWINSZ, struct.pack("4H", 33, 101, 0, 0))
        self.before = termios.tcgetattr(child)
        self.child = child
        self.program = subprocess.Popen(
            [*sampan.argv, *args],
            stdin=child,
            stdout=child,
            stderr=child,
            env=sampan.environment,
            start_new_session=True,
        )

    def until(self, text: bytes, timeout_s: float = 20) -> bytes:
        """Read until `text` has come."""
        seen = b""
        while text not in seen:
            ready, _, _ = select.select([self.fd], [], [], timeout_s)
            assert ready, f"no {text!r} in {seen!r}"
            seen += os.read(self.fd, 4096)
        return seen

    def types(self, data: bytes) -> None:
        os.write(self.fd, data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.program.poll() is None:
            self.program.kill()
        self.program.wait(20)
        os.close(self.fd)
        os.close(self.child)


@pytest.fixture
def shell(sampan: Sampan) -> Iterator[Screen]:
    with Screen(sampan, "run", "-it", "--name", "t", "host:", "sh") as screen:
        yield screen


def test_a_shell_sees_a_terminal_of_our_size_that_follows(sampan: Sampan, shell: Screen) -> None:
    shell.types(b"stty size; tty\n")
    assert b"33 101" in shell.until(b"/dev/pts/0")
    ioctl(shell.fd, termios.TIOCSWINSZ, struct.pack("4H", 20, 60, 0, 0))
    shell.program.send_signal(signal.SIGWINCH)
    # Its own shell tells when the new size has arrived; nothing here waits by the clock.
    shell.types(b"until [ \"$(stty size)\" = '20 60' ]; do sleep 0.05; done; echo re''sized\n")
    shell.until(b"resized")
    shell.types(b"exit 6\n")
    assert shell.program.wait(20) == 6
    assert termios.tcgetattr(shell.child) == shell.before


def test_ctrl_c_goes_to_the_container(sampan: Sampan, shell: Screen) -> None:
    shell.types(b"echo rea''dy; sleep 600\n")
    shell.until(b"ready")
    shell.types(b"\x03")
    shell.types(b"echo st''ill\n")
    shell.until(b"still")
    shell.types(b"exit 0\n")
    assert shell.program.wait(20) == 0


def test_detach_keys_leave_it_running_and_attach_comes_back(sampan: Sampan, shell: Screen) -> None:
    shell.types(b"echo rea''dy\n")
    shell.until(b"ready")
    shell.types(b"\x10\x11")
    assert shell.program.wait(20) == 0
    assert termios.tcgetattr(shell.child) == shell.before
    assert json.loads(sampan("inspect", "t").ok())[0]["State"]["Running"] is True
    with Screen(sampan, "attach", "t") as again:
        again.types(b"echo ba''ck; exit 2\n")
        again.until(b"back")
        assert again.program.wait(20) == 2


def test_exec_it_is_a_terminal_too(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "c", "host:", "sleep", "600").ok()
    with Screen(sampan, "exec", "-it", "c", "sh") as screen:
        screen.types(b"stty size; exit 8\n")
        screen.until(b"33 101")
        assert screen.program.wait(20) == 8
        assert termios.tcgetattr(screen.child) == screen.before


def test_tty_without_a_terminal_is_refused(sampan: Sampan) -> None:
    result = sampan("run", "--rm", "-it", "host:", "true")
    assert result.status == 1
    assert "not a terminal" in result.stderr


def test_t_alone_gives_a_terminal_without_one_of_ours(sampan: Sampan) -> None:
    assert sampan("run", "--rm", "-t", "host:", "tty").ok().strip() == "/dev/pts/0"
