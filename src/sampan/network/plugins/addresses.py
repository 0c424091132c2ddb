r"""Addresses in use on this host, in the files of host-local: one folder for each network.

    <dataDir>/<network>/
      lock                     flock, held by whoever reads and then writes
      10.88.0.7                "<container id>\r\n<ifname>": in use
      last_reserved_ip.<set>   where the search for the next one goes on

A kill may leave an empty file. Everybody writes under the lock, so whoever holds it knows that an
empty one belongs to nobody, and removes it.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sampan.linux.fds import OwnedFd
from sampan.network.errors import TRY_AGAIN_LATER, PluginError
from sampan.network.plugins.ranges import Address, Range, RangeSet, candidates

__all__ = ["Store"]

_LOCK_TIMEOUT_S: Final = 30.0
_LOCK_PAUSE_S: Final = 0.005
_LAST: Final = "last_reserved_ip."

_Seen = dict[str, tuple[int, int, str]]
_SEEN: Final[dict[str, _Seen]] = {}
"""For each folder what its files hold, with inode and ctime: a file is read once."""


class Store:
    """The folder of one network; a context manager that holds its lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1

    def __enter__(self) -> Self:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            self._fd = os.open(self._folder / "lock", flags, 0o600)
        except FileNotFoundError:
            self._folder.mkdir(parents=True, mode=0o755, exist_ok=True)
            self._fd = os.open(self._folder / "lock", flags, 0o600)
        try:
            self._lock()
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def _lock(self) -> None:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise PluginError(
                        TRY_AGAIN_LATER,
                        f"{self._folder}/lock is held by another process",
                        f"waited {_LOCK_TIMEOUT_S:g} s",
                    ) from None
                time.sleep(_LOCK_PAUSE_S)
            else:
                return

    def owned_by(self, id: str, ifname: str) -> list[Address]:
        """Return the addresses of an interface."""
        mine = f"{id}\r\n{ifname}"
        found = []
        for name, content in self._contents():
            if not content:
                (self._folder / name).unlink(missing_ok=True)
            # Before 0.8.3 host-local wrote the id alone.
            if content in (mine, id):
                found.append(ipaddress.ip_address(name))
        return found

    def owners(self) -> dict[str, tuple[str, str]]:
        """Return id and ifname by address; ifname is empty where none was written."""
        return {
            name: (owner, ifname)
            for name, content in self._contents()
            for owner, _, ifname in [content.partition("\r\n")]
        }

    def reserve(self, address: Address, id: str, ifname: str, set_number: int) -> bool:
        """Take an address; return False if somebody has it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        try:
            fd = os.open(self._folder / str(address), flags | os.O_EXCL, 0o600)
        except FileExistsError:
            return False
        with OwnedFd(fd):
            os.write(fd, f"{id}\r\n{ifname}".encode())
        last = str(address).encode()
        with OwnedFd(os.open(self._folder / f"{_LAST}{set_number}", flags, 0o600)) as file:
            # Not O_TRUNC: ext4 would write such a file to the disk when it is closed.
            os.write(file.fd, last)
            os.ftruncate(file.fd, len(last))
        return True

    def take_next(
        self, ranges: RangeSet, id: str, ifname: str, set_number: int
    ) -> tuple[Range, Address] | None:
        """Take the next free address of a set; None if all are in use."""
        names = set(os.listdir(self._folder))
        for one, address in candidates(ranges, self._last(set_number)):
            if str(address) not in names and self.reserve(address, id, ifname, set_number):
                return one, address
        return None

    def release(self, id: str, ifname: str, hints: Sequence[str] = (), wanted: int = 0) -> bool:
        """Give back the addresses of an interface.

        Args:
          id: Of the container.
          ifname: Its interface.
          hints: Addresses that it probably has: looked at first.
          wanted: If so many of the hints were its own, nothing else is looked at.

        Returns:
          Whether there was one.
        """
        mine = (f"{id}\r\n{ifname}", id)
        count = 0
        for hint in hints:
            path = self._folder / hint
            with suppress(OSError):
                if _read(path) in mine:
                    path.unlink()
                    count += 1
        if wanted and count >= wanted:
            return True
        for address in self.owned_by(id, ifname):
            (self._folder / str(address)).unlink(missing_ok=True)
            count += 1
        return count > 0

    def forget(self, address: str) -> None:
        """Give one address back, whoever has it."""
        (self._folder / address).unlink(missing_ok=True)

    def _contents(self) -> Iterator[tuple[str, str]]:
        """Yield name and content of each address in use; unchanged files are not read again."""
        before = _SEEN.get(str(self._folder), {})
        now: _Seen = {}
        for entry in os.scandir(self._folder):
            if not entry.name[0].isalnum() or not ("." in entry.name or ":" in entry.name):
                continue
            if entry.name.startswith(_LAST) or not _is_address(entry.name, before):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
                key = (status.st_ino, status.st_ctime_ns)
                seen = before.get(entry.name)
                if seen is None or seen[:2] != key:
                    seen = (*key, _read(Path(entry.path)))
            except FileNotFoundError:
                continue
            now[entry.name] = seen
        _SEEN[str(self._folder)] = now
        for name, (_, _, content) in now.items():
            yield name, content

    def _last(self, set_number: int) -> Address | None:
        try:
            return ipaddress.ip_address(_read(self._folder / f"{_LAST}{set_number}"))
        except (FileNotFoundError, ValueError):
            return None


def _is_address(name: str, known: _Seen) -> bool:
    if name in known:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _read(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.read(fd, 1024).decode(errors="replace").strip()
    finally:
        os.close(fd)
