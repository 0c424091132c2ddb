"""Containerd's config.toml as it stands on a host: read, checked, migrated, merged.

Versions 2, 3 and 4 are read, and drop-ins of `imports`, each of which may be older than the main
file. A wrong type is an error that names file and key; a key or section that we do not know is a
warning. What comes out is version 4: one table of plugins, whatever the file looked like.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sampan.engine import schema, toml
from sampan.engine.checking import builtins_of, converted, dotted, unknown_keys
from sampan.engine.migrate import LATEST, migrated
from sampan.errors import InvalidArgument

__all__ = ["DEFAULT_ADDRESS", "DEFAULT_ROOT", "DEFAULT_STATE", "Loaded", "defaults", "is_foreign"]

DEFAULT_ROOT: Final = "/var/lib/containerd"
DEFAULT_STATE: Final = "/run/containerd"
DEFAULT_ADDRESS: Final = "/run/containerd/containerd.sock"

_MARKS: Final = frozenset(
    {
        *("grpc", "ttrpc", "oom_score", "subreaper", "plugin_dir", "temp", "cgroup", "debug"),
        "metrics",
    }
)
"""Top-level keys that only containerd's file has."""


@dataclass(slots=True)
class Loaded:
    """A file and what it imports, as one table of version 4."""

    table: dict[str, Any]
    files: tuple[Path, ...] = ()
    warnings: list[str] = field(default_factory=list)

    @property
    def file(self) -> schema.ContainerdFile:
        """The top level, typed."""
        source = str(self.files[0]) if self.files else "defaults"
        return converted(self.table, schema.ContainerdFile, source=source)

    @classmethod
    def load(cls, path: Path, own: Iterable[str] = ()) -> Loaded:
        """Read `path` and its imports.

        Args:
          path: The main file.
          own: URIs of plugins beyond `schema.KNOWN`, whose sections are theirs to check.

        Raises:
          InvalidArgument: a file is missing, no TOML, of a wrong version, or has a wrong type.
          PermissionDenied: one cannot be read.
        """
        main = toml.read(path)
        return cls.of(path, main, own)

    @classmethod
    def of(cls, path: Path, main: Mapping[str, Any], own: Iterable[str] = ()) -> Loaded:
        """Do so with the main file's tables already read."""
        result = cls({})
        known = {*own, *schema.IGNORED}
        highest = _version(path, main)
        files = [path]
        toml.merge(result.table, result.checked(path, main, known))
        for one, table in toml.imported(path, main):
            if _version(one, table) > highest:
                raise InvalidArgument(
                    f"config file {one} is refused: its version {table['version']} is higher than"
                    f" version {highest} of {path}, which imports it"
                )
            files.append(one)
            toml.merge(result.table, result.checked(one, table, known))
        result.files = tuple(files)
        result.table["version"] = LATEST
        return result

    def checked(self, path: Path, table: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
        """Check one file in the words of its own version, and return it in those of the latest."""
        source = str(path)
        file = converted(table, schema.ContainerdFile, source=source)
        self.warnings += [
            f"config file {path}: unknown key {dotted(one)}"
            for one in unknown_keys(table, schema.ContainerdFile)
        ]
        for uri in (*file.disabled_plugins, *file.required_plugins):
            if "." not in uri:
                raise InvalidArgument(
                    f"config file {path} is refused: plugin {uri!r} must be named in full, such as"
                    " io.containerd.snapshotter.v1.native"
                )
        kinds = schema.known(file.version)
        for uri, section in file.plugins.items():
            kind = kinds.get(uri)
            if kind is not None:
                converted(section, kind, source=source, at=(uri,))
                self.warnings += [
                    f"config file {path}: unknown key {dotted(one)}"
                    for one in unknown_keys(section, kind, ("plugins", uri))
                ]
            elif uri not in known:
                self.warnings.append(f"config file {path}: unknown plugin {uri}")
        return migrated(table)


def is_foreign(table: Mapping[str, Any]) -> bool:
    """Tell whether a file is containerd's rather than ours, which has version 1 or none.

    Containerd's version 1 is foreign, too: `Loaded` refuses it with a sentence.
    """
    version = table.get("version", 1)
    if isinstance(version, int) and not isinstance(version, bool) and version >= 2:
        return True
    plugins = table.get("plugins")
    short = isinstance(plugins, Mapping) and any("." not in one for one in plugins)
    disabled = table.get("disabled_plugins")
    named = isinstance(disabled, list) and any("." not in str(one) for one in disabled)
    return bool(_MARKS & table.keys()) or short or named


def _version(path: Path, table: Mapping[str, Any]) -> int:
    version = table.get("version", 1)
    if isinstance(version, bool) or not isinstance(version, int):
        raise InvalidArgument(f"config file {path} is refused: version: expected a number")
    if version < 2:
        raise InvalidArgument(
            f"config file {path} is refused: it is of containerd's version 1, which has been given"
            " up: name the plugins in full and say version = 2 (or let containerd 1.7 do it:"
            " containerd config migrate)"
        )
    if version > LATEST:
        raise InvalidArgument(
            f"config file {path} is refused: version {version} is newer than {LATEST}, the latest"
            " that this program knows"
        )
    return version


def defaults(sections: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Return the file that says in full what an empty one means.

    Args:
      sections: Further plugins' defaults by URI.
    """
    plugins = {uri: builtins_of(kind()) for uri, kind in schema.KNOWN.items()}
    plugins[schema.GRPC]["address"] = DEFAULT_ADDRESS
    plugins[schema.TTRPC]["address"] = f"{DEFAULT_ADDRESS}.ttrpc"
    for uri in (schema.TTRPC, schema.DEBUG, schema.METRICS):
        del plugins[uri]["max_recv_message_size"], plugins[uri]["max_send_message_size"]
    plugins |= {uri: dict(table) for uri, table in (sections or {}).items()}
    return {
        "version": LATEST,
        "root": DEFAULT_ROOT,
        "state": DEFAULT_STATE,
        "disabled_plugins": [],
        "required_plugins": [],
        "oom_score": 0,
        "imports": ["/etc/containerd/conf.d/*.toml"],
        "debug": {"level": "", "format": ""},
        "cgroup": {"path": ""},
        "timeouts": {},
        "stream_processors": {},
        "proxy_plugins": {},
        "plugins": dict(sorted(plugins.items())),
    }
