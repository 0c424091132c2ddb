"""The program: where its user is at home, and which file its name means, as the user finds it."""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["ExecFailed", "find", "home"]

_MAX_PASSWD = 1 << 20


class ExecFailed(Exception):
    """The executable cannot be executed; `code` is what docker exits with."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def home(uid: int) -> bytes:
    try:
        fd = os.open("/etc/passwd", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b"/"
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b"/"
        for line in os.read(fd, _MAX_PASSWD).splitlines():
            fields = line.split(b":")
            if len(fields) >= 6 and fields[2] == b"%d" % uid:
                return fields[5] or b"/"
    finally:
        os.close(fd)
    return b"/"


def find(name: bytes, search: bytes) -> bytes:
    """Find the executable as the user in the container, with runc's words when it is not there."""
    shown = os.fsdecode(name)
    if b"/" in name:
        problem = _executable_problem(name)
        if problem == errno.ENOENT:
            raise ExecFailed(f'exec: "{shown}": stat {shown}: no such file or directory', 127)
        if problem:
            raise ExecFailed(f'exec: "{shown}": {os.strerror(problem).lower()}', 126)
        return name
    denied = False
    for folder in search.split(b":"):
        candidate = os.path.join(folder or b".", name)
        problem = _executable_problem(candidate)
        if not problem:
            return candidate
        denied = denied or problem == errno.EACCES
    if denied:
        raise ExecFailed(f'exec: "{shown}": permission denied', 126)
    raise ExecFailed(f'exec: "{shown}": executable file not found in $PATH', 127)


def _executable_problem(path: bytes) -> int:
    try:
        info = os.stat(path)
    except OSError as err:
        return errno.ENOENT if err.errno == errno.ENOTDIR else err.errno or errno.EIO
    if stat.S_ISDIR(info.st_mode):
        return errno.EISDIR
    return 0 if os.access(path, os.X_OK, effective_ids=True) else errno.EACCES
