"""config.toml: its keys, and the strict reading of it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from sampan.errors import InvalidArgument

__all__ = ["ConfigFile", "parse"]


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The top level of config.toml; an empty string means the default."""

    version: int = 1
    """Of this file's layout; only 1 exists."""
    root: str = ""
    state: str = ""
    address: str = ""
    hosts_dir: str = ""
    log_level: str = ""
    runtime: str = ""
    snapshotter: str = ""
    exec_oci: bool = False
    foreign_runtimes: tuple[str, ...] = ()
    """Of the names that our own shim answers, those to leave to the binary they are named for:
    `["io.containerd.runc.v2"]` is then containerd-shim-runc-v2."""
    plugins: dict[str, dict[str, Any]] = {}
    """By URI: [plugins."io.containerd.snapshotter.v1.overlayfs"]."""


def parse(text: bytes, path: Path) -> ConfigFile:
    """Return what the file says.

    Raises:
      InvalidArgument: not TOML (the message has line and column), an unknown key, or a wrong type
        (the message has the key's path).
    """
    try:
        table = tomllib.loads(text.decode("utf-8"))
        file = msgspec.convert(table, ConfigFile)
    except UnicodeDecodeError as err:
        raise InvalidArgument(f"config file {path} is not UTF-8: byte {err.start}") from err
    except tomllib.TOMLDecodeError as err:
        raise InvalidArgument(f"config file {path} is not TOML: {err}") from err
    except msgspec.ValidationError as err:
        raise InvalidArgument(f"config file {path} is refused: {err}") from err
    if file.version != 1:
        raise InvalidArgument(f"config file {path} is refused: version {file.version} is not 1")
    return file
