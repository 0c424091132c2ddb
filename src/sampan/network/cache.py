"""What is attached: libcni's cache for everyone's eyes, and our own record of what we began.

    <cache>/results/<network>-<id>-<ifname>
        {"kind": "cniCacheV1", containerId, config (base64), ifName, networkName, netns, cniArgs,
        capabilityArgs, result}: written after ADD, gone after DEL
    <root>/attachments/<network>-<id>-<ifname>
        the same without result, written before ADD

Only what stands in `attachments` is ours to collect: other tools (podman, containerd) share the
cache and would not like their pods to be taken down.

Source: libcni/api.go of CNI 1.3.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sampan.errors import DataLoss
from sampan.linux.fds import OwnedFd
from sampan.network.newfile import write_new

__all__ = ["Cache", "Entry"]

_KIND: Final = "cniCacheV1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One interface of one container on one network."""

    network: str
    id: str
    ifname: str
    netns: str = ""
    config: bytes = b""
    """The list of plugins it was made with."""
    args: tuple[tuple[str, str], ...] = ()
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        """The name of its file."""
        return f"{self.network}-{self.id}-{self.ifname}"

    def encode(self) -> bytes:
        """Return the file's content."""
        raw: dict[str, Any] = {
            "kind": _KIND,
            "containerId": self.id,
            "config": base64.b64encode(self.config).decode(),
            "ifName": self.ifname,
            "networkName": self.network,
        }
        if self.netns:
            raw["netns"] = self.netns
        if self.args:
            raw["cniArgs"] = [list(pair) for pair in self.args]
        if self.capabilities:
            raw["capabilityArgs"] = dict(self.capabilities)
        if self.result is not None:
            raw["result"] = self.result
        return json.dumps(raw).encode()

    @classmethod
    def decode(cls, data: bytes) -> Entry:
        """Return the entry in a file.

        Raises:
          DataLoss: the file is torn, or no entry.
        """
        try:
            raw = json.loads(data)
            if raw["kind"] != _KIND:
                raise DataLoss(f"record of a network attachment is of kind {raw['kind']!r}")
            return cls(
                network=str(raw["networkName"]),
                id=str(raw["containerId"]),
                ifname=str(raw["ifName"]),
                netns=str(raw.get("netns") or ""),
                config=base64.b64decode(raw.get("config") or ""),
                args=tuple((str(k), str(v)) for k, v in raw.get("cniArgs") or ()),
                capabilities=raw.get("capabilityArgs") or {},
                result=raw.get("result"),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataLoss(f"record of a network attachment is broken: {error}") from error


class Cache:
    """Both folders; every method blocks for a moment, on file operations."""

    def __init__(self, shared: Path, own: Path) -> None:
        self._results = shared / "results"
        self._own = own

    def begin(self, entry: Entry) -> bool:
        """Remember that this is about to be attached; return False if it is already.

        Not synced to disk: namespaces and interfaces do not outlive a crash of the machine either.
        """
        return write_new(self._own, entry.key, entry.encode(), mode=0o700)

    def finish(self, entry: Entry) -> None:
        """Write libcni's entry, result and all; a torn one is worth as much as none."""
        data = entry.encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            fd = os.open(self._results / entry.key, flags, 0o600)
        except FileNotFoundError:
            self._results.mkdir(parents=True, mode=0o700, exist_ok=True)
            fd = os.open(self._results / entry.key, flags, 0o600)
        with OwnedFd(fd):
            os.write(fd, data)

    def forget(self, entry: Entry) -> None:
        """Remove both files."""
        for folder in (self._results, self._own):
            (folder / entry.key).unlink(missing_ok=True)

    def attached(self, id: str) -> Sequence[Entry]:
        """Return what is attached of one container, with results, the last attached first."""
        found = [self._with_result(one) for one in _entries(self._own, f"-{id}-") if one.id == id]
        return sorted(found, key=lambda one: (len(one.ifname), one.ifname), reverse=True)

    def ours(self, network: str = "") -> Sequence[Entry]:
        """Return all that we attached, or began to, on a network or on any."""
        return [
            self._with_result(one) for one in _entries(self._own) if network in ("", one.network)
        ]

    def everyones(self, network: str) -> Sequence[Entry]:
        """Return what the shared cache knows of a network."""
        return [one for one in _entries(self._results) if one.network == network]

    def find(self, network: str, id: str, ifname: str) -> Entry | None:
        """Return one entry of ours, or else of the shared cache."""
        key = Entry(network=network, id=id, ifname=ifname).key
        for folder in (self._own, self._results):
            try:
                return self._with_result(Entry.decode((folder / key).read_bytes()))
            except (FileNotFoundError, DataLoss):
                continue
        return None

    def _with_result(self, entry: Entry) -> Entry:
        try:
            return Entry.decode((self._results / entry.key).read_bytes())
        except (FileNotFoundError, DataLoss):
            return entry


def _entries(folder: Path, part: str = "") -> list[Entry]:
    found = []
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    for name in names:
        if name.startswith(".") or part not in name:
            continue
        try:
            found.append(Entry.decode((folder / name).read_bytes()))
        except (FileNotFoundError, DataLoss, IsADirectoryError):
            continue
    return found
