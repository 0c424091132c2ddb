"""Sections of configuration as values: `section(settings, uri, kind)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from sampan.engine.checking import builtins_of, converted
from sampan.engine.config import Settings

__all__ = ["section"]

T = TypeVar("T")

_KEPT: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "io.containerd.cri.v1.images": (("pinned_images",),),
    "io.containerd.cri.v1.runtime": (("containerd", "runtimes"),),
}
"""Maps whose default entries stay when others are added."""


def section(settings: Settings, uri: str, kind: type[T]) -> T:
    """Return what the configuration says of plugin `uri`, defaults where it says nothing.

    Raises:
      InvalidArgument: a key has the wrong type; names the file and the key.
    """
    table = settings.plugins.get(uri, {})
    if not isinstance(table, Mapping):
        table = {}
    kept = _KEPT.get(uri, ())
    whole = _overlaid(builtins_of(kind()), table, kept) if kept else table
    return converted(whole, kind, source=str(settings.config or "defaults"), at=(uri,))


def _overlaid(
    defaults: Mapping[str, Any], table: Mapping[str, Any], kept: tuple[tuple[str, ...], ...]
) -> dict[str, Any]:
    """Return `table` with the default entries of the maps at `kept`, which it adds to.

    So `runtimes.runc.options` alone keeps the type that `runc` has by default.
    """
    result = dict(table)
    for path in kept:
        if path[0] not in result or not isinstance(result[path[0]], Mapping):
            continue
        head, rest = path[0], path[1:]
        if rest:
            result[head] = _overlaid(defaults[head], result[head], (rest,))
        else:
            result[head] = _merged(defaults[head], result[head])
    return result


def _merged(defaults: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(defaults)
    for key, value in table.items():
        old = result.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        result[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return result
