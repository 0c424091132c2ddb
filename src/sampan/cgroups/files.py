"""The files of one cgroup folder, read and written with an error that says what was tried."""

from __future__ import annotations

import errno
import os

from sampan.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SampanError,
    Unimplemented,
)

__all__ = ["NOTHING", "Cgroup", "parse_flat", "parse_number", "translate"]

NOTHING = (1 << 63) - 1
"""Stands for no limit in statistics; v1 writes a number near it, v2 the word `max`."""


class Cgroup:
    """A folder of one hierarchy."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, name: str, value: str | int) -> None:
        """Write a value in one call.

        Raises:
          InvalidArgument: The kernel refuses the value. Unimplemented: there is no such file.
          FailedPrecondition: Not now, EBUSY. PermissionDenied.
        """
        try:
            self.write_raw(name, str(value).encode())
        except OSError as error:
            raise translate(error, f"write {str(value)!r} to {self.path}/{name}") from error

    def write_raw(self, name: str, data: bytes) -> None:
        """Write bytes in one call, raising OSError."""
        fd = os.open(f"{self.path}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    def read(self, name: str) -> str:
        """Return the text of a file, stripped.

        Raises:
          NotFound: The cgroup is gone. Unimplemented: it has no such file.
        """
        try:
            return self.read_raw(name).decode().strip()
        except OSError as error:
            raise translate(error, f"read {self.path}/{name}") from error

    def read_raw(self, name: str) -> bytes:
        """Return the content of a file, raising OSError."""
        fd = os.open(f"{self.path}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(fd, 65536)
            while len(data) % 4096 == 0 and data:
                more = os.read(fd, 65536)
                if not more:
                    break
                data += more
            return data
        finally:
            os.close(fd)

    def optional(self, name: str) -> str | None:
        """Return the text of a file, or None where this kernel or cgroup has none."""
        try:
            return self.read_raw(name).decode().strip()
        except OSError as error:
            # EOPNOTSUPP: swap accounting or PSI is switched off.
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV):
                return None
            raise translate(error, f"read {self.path}/{name}") from error

    def number(self, name: str) -> int | None:
        """Return the number in a file, `max` being NOTHING; None where there is no such file."""
        text = self.optional(name)
        return None if text is None else parse_number(text)

    def flat(self, name: str) -> dict[str, int]:
        """Return a file of `key number` lines; empty where there is no such file."""
        text = self.optional(name)
        return {} if text is None else parse_flat(text)

    def has(self, name: str) -> bool:
        """Return whether there is such a file."""
        return os.path.exists(f"{self.path}/{name}")


def parse_number(text: str) -> int:
    """Return a number of a cgroup file, at most NOTHING."""
    return NOTHING if text == "max" else min(int(text), NOTHING)


def parse_flat(text: str) -> dict[str, int]:
    """Return `key number` lines as a dict."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.rpartition(" ")
        found[key] = parse_number(value)
    return found


def translate(error: OSError, tried: str) -> SampanError:
    """Return what an OSError means to whoever set limits, with what was tried."""
    text = f"{tried}: {os.strerror(error.errno or 0)}"
    code = error.errno
    if code in (errno.EINVAL, errno.ERANGE, errno.E2BIG):
        return InvalidArgument(text)
    if code in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV):
        if os.path.isdir(os.path.dirname(tried.rpartition(" ")[2])):
            return Unimplemented(f"{text}: this kernel or cgroup lacks it")
        return NotFound(text)
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDenied(text)
    return FailedPrecondition(text)
