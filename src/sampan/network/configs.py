"""Configurations of networks: files of a folder, read again whenever they have changed.

    /etc/cni/net.d/
      10-pods.conflist      a network: name, cniVersion, plugins
      20-old.conf           a single plugin is a network of one; .json is the same
      pods/50-more.conf     plugins added to network `pods`, unless loadOnlyInlinedPlugins

Nothing watches: a look at the folder costs some 20 microseconds, is made on each use, and so
notices a folder that vanishes or returns like any other change. A broken file is skipped, with a
warning once for each of its states, as CRI-O does; containerd would give up the whole folder.

Source: CNI specification 1.1.0, section 1 "Network configuration format"; libcni's file names.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sampan.errors import InvalidArgument
from sampan.network.results import VERSIONS, version_of

__all__ = ["NAME", "Folder", "NetworkConf", "PluginConf", "parse"]

log = logging.getLogger(__name__)

NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_SUFFIXES: Final = (".conf", ".conflist", ".json")
_MAX_BYTES: Final = 4 << 20

_Seen = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class PluginConf:
    """One plugin of a network."""

    type: str
    raw: Mapping[str, Any]

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the arguments that it wants in runtimeConfig."""
        wanted = self.raw.get("capabilities") or {}
        return frozenset(name for name, on in wanted.items() if on)


@dataclass(frozen=True, slots=True)
class NetworkConf:
    """A list of plugins under a name."""

    name: str
    version: str
    plugins: tuple[PluginConf, ...]
    raw: bytes
    """As read, with plugins of its folder added."""
    path: str = ""
    disable_check: bool = False
    disable_gc: bool = False


def parse(data: bytes, path: str = "") -> NetworkConf:
    """Return the network that a list or a single configuration describes.

    Raises:
      InvalidArgument: it describes none; says why.
    """
    where = f"network configuration {path}" if path else "network configuration"
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise InvalidArgument(f"{where} is no JSON: {error}") from error
    if not isinstance(raw, dict):
        raise InvalidArgument(f"{where} is no JSON object")
    name = raw.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidArgument(f"{where} has no usable name: {name!r}")
    plugins = raw.get("plugins") if "plugins" in raw else [raw]
    if not isinstance(plugins, list) or not plugins:
        raise InvalidArgument(f"{where}: network {name} has no plugins")
    return NetworkConf(
        name=name,
        version=_version(raw, f"{where}: network {name}"),
        plugins=tuple(_plugin(one, f"{where}: network {name}") for one in plugins),
        raw=data,
        path=path,
        disable_check=_flag(raw, "disableCheck", where),
        disable_gc=_flag(raw, "disableGC", where),
    )


def _plugin(raw: object, where: str) -> PluginConf:
    if not isinstance(raw, dict):
        raise InvalidArgument(f"{where}: a plugin is no object")
    kind = raw.get("type")
    if not isinstance(kind, str) or not kind or "/" in kind:
        raise InvalidArgument(f"{where}: a plugin has no usable type: {kind!r}")
    capabilities = raw.get("capabilities")
    if capabilities is not None and not isinstance(capabilities, dict):
        raise InvalidArgument(f"{where}: capabilities of plugin {kind} are no object")
    return PluginConf(kind, raw)


def _version(raw: Mapping[str, Any], where: str) -> str:
    """Return the highest version offered that we know."""
    offered = [version_of(raw)] if raw.get("cniVersion") or not raw.get("cniVersions") else []
    offered += raw.get("cniVersions") or []
    known = [one for one in VERSIONS if one in offered]
    if not known:
        raise InvalidArgument(
            f"{where} is of version {', '.join(map(str, offered))}, unknown to us"
        )
    return known[-1]


def _flag(raw: Mapping[str, Any], name: str, where: str) -> bool:
    value = raw.get(name, False)
    # libcni takes the strings as well, since some tools write them.
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise InvalidArgument(f"{where}: {name} is {value!r}, neither true nor false")
    return value


class Folder:
    """The networks of one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: _Seen | None = None
        self._networks: tuple[NetworkConf, ...] = ()
        self.problems: tuple[str, ...] = ()
        """What is wrong with files that were skipped, at the last look."""

    def networks(self) -> Sequence[NetworkConf]:
        """Return the networks in the lexical order of their files; blocks for a moment.

        Of two networks of one name the first counts.
        """
        seen = self._look()
        if seen != self._seen:
            self._load(seen)
            self._seen = seen
        return self._networks

    def _look(self) -> _Seen:
        """Return what tells one state of the folder, and of folders in it, from another."""
        found = []
        for folder, names in self._folders():
            for name in names:
                try:
                    status = os.stat(os.path.join(folder, name))
                except OSError:
                    continue
                entry = os.path.join(folder, name)
                found.append((entry, status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)

    def _folders(self) -> list[tuple[str, list[str]]]:
        try:
            entries = list(os.scandir(self.path))
        except OSError:
            return []
        top = sorted(one.name for one in entries if one.name.endswith(_SUFFIXES))
        folders = [(str(self.path), top)]
        for one in sorted((e for e in entries if e.is_dir()), key=lambda e: e.name):
            try:
                inner = sorted(n for n in os.listdir(one.path) if n.endswith(".conf"))
            except OSError:
                continue
            folders.append((one.path, inner))
        return folders

    def _load(self, seen: _Seen) -> None:
        networks: dict[str, NetworkConf] = {}
        problems = []
        for path, *_ in seen:
            if os.path.dirname(path) != str(self.path):
                continue
            try:
                network = self._read(path)
            except FileNotFoundError:
                continue
            except (OSError, InvalidArgument) as error:
                problems.append(str(error))
                log.warning("network configuration skipped: %s", error)
                continue
            if network.name in networks:
                problems.append(
                    f"{path}: network {network.name} is in {networks[network.name].path}"
                )
                log.warning("network configuration skipped: %s", problems[-1])
            else:
                networks[network.name] = network
        self._networks, self.problems = tuple(networks.values()), tuple(problems)

    def _read(self, path: str) -> NetworkConf:
        network = parse(_read(path), path)
        raw = json.loads(network.raw)
        if "plugins" not in raw or _flag(raw, "loadOnlyInlinedPlugins", path):
            return network
        folder = self.path / network.name
        try:
            names = sorted(n for n in os.listdir(folder) if n.endswith(".conf"))
        except OSError:
            return network
        for name in names:
            more = _read(str(folder / name))
            try:
                raw["plugins"].append(json.loads(more))
            except ValueError as error:
                raise InvalidArgument(f"plugin {folder / name} is no JSON: {error}") from error
        return parse(json.dumps(raw).encode(), path) if names else network


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise InvalidArgument(f"network configuration {path} is over {_MAX_BYTES} bytes")
    return data
