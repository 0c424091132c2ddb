"""Labels and field masks: what may be set, and how an update picks what it sets.

Source: containerd pkg/labels (limit and message), core/metadata (masks).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sampan.errors import InvalidArgument

__all__ = ["MAX_BYTES", "check", "dump", "load", "merged", "paths_of"]

MAX_BYTES: Final = 4096
_SHOWN: Final = 64


def check(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels as a dict if each key and value are at most 4096 bytes together.

    Raises:
      InvalidArgument: one is longer, or its key is empty.
    """
    for key, value in labels.items():
        if not key:
            raise InvalidArgument("label key must not be empty")
        size = len(key.encode("utf-8", "surrogatepass")) + len(
            value.encode("utf-8", "surrogatepass")
        )
        if size > MAX_BYTES:
            shown = key if len(key) <= _SHOWN else key[:_SHOWN]
            raise InvalidArgument(
                f"label key and value length ({size} bytes) greater than maximum size"
                f" ({MAX_BYTES} bytes), key: {shown}"
            )
    return dict(labels)


def merged(
    old: Mapping[str, str], new: Mapping[str, str], paths: Sequence[str], prefix: str = "labels"
) -> dict[str, str]:
    """Return `old` with what the mask names taken from `new`; an empty mask takes all of `new`.

    `labels` replaces all, `labels.<key>` sets that key, or deletes it if `new` has it not or empty.
    """
    if not paths or prefix in paths:
        return check(new)
    result = dict(old)
    for path in paths:
        if path.startswith(f"{prefix}."):
            key = path[len(prefix) + 1 :]
            if new.get(key):
                result[key] = new[key]
            else:
                result.pop(key, None)
    return check(result)


def paths_of(
    paths: Sequence[str], known: Collection[str], what: str, maps: Collection[str] = ("labels",)
) -> Sequence[str]:
    """Check a field mask: each path is a known field, or `<map>.<key>`; return it.

    Raises:
      InvalidArgument: a path names something that cannot be updated.
    """
    for path in paths:
        if path in known or any(path.startswith(f"{name}.") for name in maps):
            continue
        raise InvalidArgument(f"cannot update {path!r} field on {what}")
    return paths


def dump(labels: Mapping[str, str]) -> str:
    """Encode labels for the database."""
    return json.dumps(dict(labels), separators=(",", ":")) if labels else "{}"


def load(text: str) -> dict[str, str]:
    """Decode labels of the database."""
    if text == "{}":
        return {}
    found: dict[str, str] = json.loads(text)
    return found
