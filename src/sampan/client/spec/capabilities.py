"""Capabilities by the names that people write."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.linux.capabilities import NAMES
from sampan.model.runtime.defaults import DEFAULT_CAPABILITIES

__all__ = ["chosen", "known"]


def known() -> tuple[str, ...]:
    """Return all capabilities, in the kernel's order."""
    return tuple(NAMES.values()) if isinstance(NAMES, dict) else tuple(NAMES)


def chosen(add: tuple[str, ...], drop: tuple[str, ...]) -> tuple[str, ...]:
    """Return the default set with `add` and without `drop`, in the kernel's order.

    Dropping ALL keeps what is added; a capability that is both added and dropped is dropped.

    Raises:
      InvalidArgument: there is no such capability.
    """
    everything = known()
    added = {name for text in add for name in _named(text, everything)}
    dropped = {name for text in drop for name in _named(text, everything)}
    if "ALL" in {text.upper() for text in drop}:
        kept = added
    else:
        kept = (set(DEFAULT_CAPABILITIES) | added) - dropped
    return tuple(name for name in everything if name in kept)


def _named(text: str, everything: tuple[str, ...]) -> tuple[str, ...]:
    name = text.upper()
    if name == "ALL":
        return everything
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in everything:
        raise InvalidArgument(f"unknown capability {text!r}: see capabilities(7)")
    return (name,)
