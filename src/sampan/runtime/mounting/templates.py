"""`{{ mount 0 }}` and its like: what a mount says of the mounts before it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sampan.errors import Unknown
from sampan.model.mounts import Mount
from sampan.runtime.mounting import ActiveMount

__all__ = ["filled"]

_CALL: Final = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.ASCII | re.DOTALL)
_ONE: Final = {"source", "target", "mount"}
_NUMBER: Final = re.compile(r"[0-9]{1,4}", re.ASCII)


def filled(mount: Mount, active: Sequence[ActiveMount]) -> Mount:
    """Return `mount` with every template replaced.

    Raises:
      Unknown: a template is not understood, or speaks of a mount that is not there; containerd
        gives such errors no better class.
    """
    return replace(
        mount,
        source=_filled(mount.source, active),
        target=_filled(mount.target, active),
        options=tuple(_filled(option, active) for option in mount.options),
    )


def _filled(text: str, active: Sequence[ActiveMount]) -> str:
    if "{{" not in text:
        return text

    def value(match: re.Match[str]) -> str:
        return _value(match[1].split(), active, text)

    done = _CALL.sub(value, text)
    if "{{" in _CALL.sub("", text):
        raise Unknown(f"template {text[:200]!r}: a brace is not closed")
    return done


def _value(words: Sequence[str], active: Sequence[ActiveMount], text: str) -> str:
    if not words or not all(_NUMBER.fullmatch(word) for word in words[1:]):
        raise Unknown(f"template {text[:200]!r}: give mount, source or target and a number")
    name, numbers = words[0], [int(word) for word in words[1:]]
    if name in _ONE and len(numbers) == 1:
        at = numbers[0]
        if at >= len(active):
            raise Unknown(
                f"template {text[:200]!r}: index out of bounds: {at}, "
                f"has {len(active)} active mounts"
            )
        one = active[at]
        return {
            "source": one.mount.source, "target": one.mount.target, "mount": one.mount_point
        }[name]  # fmt: skip
    if name == "overlay" and len(numbers) == 2:
        first, last = numbers
        if max(first, last) >= len(active):
            raise Unknown(
                f"template {text[:200]!r}: invalid range: {first}-{last}, "
                f"has {len(active)} active mounts"
            )
        step = 1 if last >= first else -1
        return ":".join(active[at].mount_point for at in range(first, last + step, step))
    raise Unknown(f"template {text[:200]!r}: there is no {name[:40]!r} of {len(numbers)} numbers")
