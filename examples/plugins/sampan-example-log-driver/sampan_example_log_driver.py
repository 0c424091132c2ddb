"""A log driver: a file for each container, below one folder.

    [plugins."io.sampan.log-driver.v1.folder"]
      path = "/var/log/containers"

    sampan run --log-driver folder --log-opt suffix=.txt …

A driver is asked once, before the container is made, and answers with a URI. The shim writes there
by itself; a driver that must see each line answers `binary:///program?key=value` instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from sampan.engine.extensions import LOG_DRIVER, LogDriver
from sampan.errors import InvalidArgument
from sampan.plugin import InitContext, plugin

__all__ = ["folder"]


class FolderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The plugin's table."""

    path: str = "/var/log/containers"


@plugin(LOG_DRIVER, "folder", config=FolderConfig)
def folder(ctx: InitContext[FolderConfig]) -> LogDriver:
    """Write below the folder of the configuration."""
    return Folder(Path(ctx.config.path))


class Folder:
    """See the module."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def uri(self, namespace: str, container: str, options: Mapping[str, str]) -> str:
        unknown = set(options) - {"suffix"}
        if unknown:
            raise InvalidArgument(f"log driver folder knows no option {min(unknown)!r}")
        suffix = options.get("suffix", ".log")
        if "/" in suffix:
            raise InvalidArgument(f"log driver folder: suffix {suffix!r} must have no slash")
        target = self._path / namespace / f"{container}{suffix}"
        target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        return f"file://{target}"
