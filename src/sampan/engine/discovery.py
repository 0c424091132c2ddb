"""Where plugins come from: our own by name, third parties' by entry point.

    [project.entry-points."sampan.plugins"]
    zstd-store = "my_package.store:registration"      # a sampan.plugin.Registration

Looking through installed packages with importlib.metadata costs every start 20 ms and more. Most
hosts have no plugin, so first we only look whether any `entry_points.txt` names our group.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from sampan.engine.builtins import PLUGINS
from sampan.plugin import Registration

__all__ = ["GROUP", "builtin", "third_party", "uris"]

log = logging.getLogger(__name__)

GROUP: Final = "sampan.plugins"
_MOST_BYTES: Final = 1 << 20


def builtin(names: Iterable[str] = PLUGINS) -> list[Registration[Any, Any]]:
    """Import our own registrations."""
    return [_load(name) for name in names]


def third_party(path: Iterable[str] | None = None) -> list[Registration[Any, Any]]:
    """Import the registrations that installed packages announce; one that cannot is logged.

    Args:
      path: Folders to look in; those of `sys.path` by default.
    """
    folders = list(dict.fromkeys(sys.path if path is None else path))
    if not any(_announces(one) for folder in folders for one in _texts(folder)):
        return []
    from importlib.metadata import distributions

    found: dict[str, Registration[Any, Any]] = {}
    for distribution in distributions(path=folders):
        for entry in distribution.entry_points.select(group=GROUP):
            try:
                value = entry.load()
            except Exception:  # the edge between us and third parties
                log.exception("plugin cannot be imported: %s = %s", entry.name, entry.value)
                continue
            for one in value if isinstance(value, list | tuple) else (value,):
                if not isinstance(one, Registration):
                    log.error("plugin is no Registration: %s = %s", entry.name, entry.value)
                    continue
                found.setdefault(one.uri, one)
    return list(found.values())


def uris() -> tuple[str, ...]:
    """Return the names under which configuration may speak of the plugins that there are."""
    return tuple(one.uri for one in (*builtin(), *third_party()))


def _load(name: str) -> Registration[Any, Any]:
    module, _, attribute = name.partition(":")
    value: Registration[Any, Any] = getattr(import_module(module), attribute)
    return value


def _texts(folder: str) -> Iterator[Path]:
    try:
        with os.scandir(folder or ".") as entries:
            names = [one.name for one in entries if one.name.endswith((".dist-info", ".egg-info"))]
    except OSError:
        return
    for name in names:
        yield Path(folder or ".", name, "entry_points.txt")


def _announces(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return GROUP.encode() in file.read(_MOST_BYTES)
    except OSError:
        return False
