"""Names of containers on a network, written into the hosts file of each.

    <folder>/
      .lock
      <network>.json      {"<id>": {"names": [...], "ips": [...], "hosts": "/path"}}

Of each hosts file we own the part between two marker lines, at its end. It is written in place,
since it is bind-mounted into the container; a reader may see it short for a moment, never mixed.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sampan.errors import InvalidArgument

__all__ = ["Names"]

_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.\-]{0,252})")

_BEGIN: Final = "# begin: containers on the same network, kept by sampan"
_END: Final = "# end: containers on the same network"

_Members = dict[str, dict[str, Any]]


class Names:
    """The members of all networks; every method blocks for a moment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def join(
        self, network: str, id: str, names: Sequence[str], ips: Sequence[str], hosts: str
    ) -> None:
        """Add a member, or replace what is known of it, and write everyone's file.

        Raises:
          InvalidArgument: a name or an address could not stand in a hosts file.
        """
        for name in names:
            if not _NAME.fullmatch(name):
                raise InvalidArgument(f"{name!r} of {id} cannot stand in a hosts file")
        for ip in ips:
            try:
                ipaddress.ip_address(ip)
            except ValueError as error:
                raise InvalidArgument(f"address {ip!r} of {id}: {error}") from error
        with self._locked():
            members = self._read(network)
            members[id] = {"names": list(names), "ips": list(ips), "hosts": hosts}
            self._write(network, members)
            self._publish({id, *members})

    def leave(self, id: str) -> None:
        """Remove a member from every network, and write the files of those it leaves behind."""
        with self._locked():
            left: set[str] = set()
            for network in self._networks():
                members = self._read(network)
                if members.pop(id, None) is not None:
                    self._write(network, members)
                    left |= set(members)
            self._publish(left)

    def drop(self, network: str) -> None:
        """Forget a network."""
        with self._locked():
            members = self._read(network)
            (self._folder / f"{network}.json").unlink(missing_ok=True)
            self._publish(set(members), {one: str(its["hosts"]) for one, its in members.items()})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _networks(self) -> list[str]:
        return sorted(p.stem for p in self._folder.glob("*.json") if not p.name.startswith("."))

    def _read(self, network: str) -> _Members:
        with suppress(FileNotFoundError, ValueError):
            raw: _Members = json.loads((self._folder / f"{network}.json").read_bytes())
            return raw
        return {}

    def _write(self, network: str, members: _Members) -> None:
        path = self._folder / f"{network}.json"
        if not members:
            path.unlink(missing_ok=True)
            return
        temporary = self._folder / f".{network}.{os.getpid()}"
        temporary.write_text(json.dumps(members), encoding="utf-8")
        os.replace(temporary, path)

    def _publish(self, ids: set[str], known: Mapping[str, str] | None = None) -> None:
        """Write the hosts files of some members, each with all it shares a network with.

        Args:
          ids: Whose files.
          known: Files of those that may be on no network any more.
        """
        lines: dict[str, list[str]] = {one: [] for one in ids}
        files = dict(known or {})
        for network in self._networks():
            members = self._read(network)
            for one_id in ids & members.keys():
                files[one_id] = str(members[one_id]["hosts"])
                for one in members.values():
                    words = " ".join(one["names"])
                    lines[one_id] += (f"{ip}\t{words}" for ip in one["ips"] if words)
        for one_id, path in files.items():
            if path:
                _write_part(path, list(dict.fromkeys(lines[one_id])))


def _write_part(path: str, lines: Sequence[str]) -> None:
    """Replace our part of a hosts file; one that is gone is left alone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    with os.fdopen(fd, "r+", encoding="utf-8", errors="surrogateescape") as file:
        kept = []
        skipping = False
        for line in file.read().splitlines():
            if line == _BEGIN:
                skipping = True
            elif line == _END and skipping:
                skipping = False
            elif not skipping:
                kept.append(line)
        if lines:
            kept += [_BEGIN, *lines, _END]
        text = "\n".join(kept) + "\n"
        file.seek(0)
        file.write(text)
        file.truncate()
