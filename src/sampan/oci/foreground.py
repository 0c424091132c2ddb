"""Waiting for a process in the foreground: signals go to it, its terminal is relayed to ours."""

from __future__ import annotations

import errno
import os
import select
import termios

from sampan.linux import process, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["wait"]

_SIGCHLD, _SIGWINCH, _SIGURG = 17, 28, 23
_NOT_FORWARDED = {_SIGCHLD, _SIGURG, 9, 19}


def wait(pid: int, pidfd: int, console: int) -> int:
    """Return the exit code of child `pid`, 128+n for signal n; reap adopted orphans, too."""
    blocked = signals.block_all()
    arrivals = signals.signalfd((1 << 64) - 1)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(arrivals, select.POLLIN)
    raw = _make_raw() if console >= 0 else None
    if console >= 0:
        poll.register(console, select.POLLIN)
        poll.register(0, select.POLLIN)
        _copy_size(console)
    try:
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if console in ready and not _pump(console, 1):
                poll.unregister(console)
            if console >= 0 and 0 in ready and not _pump(0, console):
                poll.unregister(0)
            if arrivals in ready:
                _forward(arrivals, pidfd, console)
            if pidfd in ready:
                break
        if console >= 0:
            while _pump(console, 1):
                pass
        status = os.waitpid(pid, 0)[1]
    finally:
        if raw is not None:
            termios.tcsetattr(0, termios.TCSANOW, raw)
        os.close(arrivals)
        signals.set_mask(blocked)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _forward(arrivals: int, pidfd: int, console: int) -> None:
    for number, _ in signals.signalfd_read(arrivals):
        if number == _SIGWINCH and console >= 0:
            _copy_size(console)
        elif number not in _NOT_FORWARDED:
            try:
                process.pidfd_send_signal(pidfd, number)
            except ProcessLookupError:
                return


def _pump(source: int, target: int) -> bool:
    try:
        data = os.read(source, 65536)
    except OSError as err:
        if err.errno in (errno.EIO, errno.EAGAIN):
            return False
        raise
    while data:
        data = data[os.write(target, data) :]
        if not data:
            return True
    return False


def _make_raw() -> list[Any] | None:
    try:
        old = termios.tcgetattr(0)
    except termios.error:
        return None
    new = termios.tcgetattr(0)
    new[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
    new[2] = new[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    new[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
    termios.tcsetattr(0, termios.TCSANOW, new)
    return old


def _copy_size(console: int) -> None:
    try:
        termios.tcsetwinsize(console, termios.tcgetwinsize(0))
    except termios.error:
        return
