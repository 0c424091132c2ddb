"""Our own config.toml: its keys, and the strict reading of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.engine import toml
from sampan.engine.checking import converted, dotted, unknown_keys
from sampan.engine.schema import KNOWN, ProxyPlugin, StreamProcessor
from sampan.errors import InvalidArgument
from sampan.model.durations import Duration

__all__ = ["LOG_FORMATS", "ConfigFile", "SampanSection", "parse"]

LOG_FORMATS: Final = ("text", "json")


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True):
    """The top level of config.toml; an empty string means the default."""

    version: int = 1
    """Of this file's layout; 2, 3 and 4 are containerd's (`containerd`)."""
    root: str = ""
    state: str = ""
    address: str = ""
    hosts_dir: str = ""
    log_level: str = ""
    log_format: str = ""
    """`text` or `json`."""
    runtime: str = ""
    snapshotter: str = ""
    exec_oci: bool = False
    foreign_runtimes: tuple[str, ...] = ()
    """Of the names that our own shim answers, those to leave to the binary they are named for:
    `["io.containerd.runc.v2"]` is then containerd-shim-runc-v2."""
    imports: tuple[str, ...] = ()
    """Further files, or globs of them, relative to this one; later ones win."""
    disabled_plugins: tuple[str, ...] = ()
    """URIs of plugins that shall not start."""
    required_plugins: tuple[str, ...] = ()
    """URIs of plugins without which the daemon shall not start."""
    proxy_plugins: dict[str, ProxyPlugin] = {}
    stream_processors: dict[str, StreamProcessor] = {}
    timeouts: dict[str, Duration] = {}
    plugins: dict[str, dict[str, Any]] = {}
    """By URI: [plugins."io.containerd.snapshotter.v1.overlayfs"]."""


class SampanSection(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.sampan.engine.v1.settings"]: ours, in containerd's file."""

    hosts_dir: str = ""
    runtime: str = ""
    snapshotter: str = ""
    exec_oci: bool = False
    foreign_runtimes: tuple[str, ...] = ()


def parse(main: Mapping[str, Any], path: Path) -> ConfigFile:
    """Return what the file and its imports say.

    Raises:
      InvalidArgument: not TOML (the message has line and column), an unknown key, or a wrong type
        (the message has the key's path).
    """
    table: dict[str, Any] = {}
    for one, found in ((path, dict(main)), *toml.imported(path, main)):
        _check(one, found)
        toml.merge(table, found)
    return converted(table, ConfigFile, source=str(path))


def _check(path: Path, table: Mapping[str, Any]) -> None:
    file = converted(table, ConfigFile, source=str(path))
    if file.version != 1:
        raise InvalidArgument(f"config file {path} is refused: version {file.version} is not 1")
    if file.log_format and file.log_format not in LOG_FORMATS:
        raise InvalidArgument(
            f"config file {path} is refused: log_format: {file.log_format!r} is none of"
            f" {', '.join(LOG_FORMATS)}"
        )
    unknown = list(unknown_keys(table, ConfigFile))
    for uri, section in file.plugins.items():
        if uri in KNOWN:
            converted(section, KNOWN[uri], source=str(path), at=(uri,))
            unknown += unknown_keys(section, KNOWN[uri], ("plugins", uri))
    if unknown:
        raise InvalidArgument(f"config file {path} is refused: unknown key {dotted(unknown[0])}")
