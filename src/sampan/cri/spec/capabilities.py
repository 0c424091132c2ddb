"""Capabilities: the default ones, what is added and dropped, and ambient ones."""

from __future__ import annotations

from collections.abc import Iterable

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.client.spec.capabilities import known
from sampan.errors import InvalidArgument
from sampan.linux import capabilities as kernel
from sampan.model.runtime.defaults import DEFAULT_CAPABILITIES
from sampan.model.runtime.process import Capabilities

__all__ = ["capabilities_of", "names_of"]


def names_of(security: pb.LinuxContainerSecurityContext) -> tuple[str, ...]:
    """Return what the first process may, without the ambient ones.

    ALL is applied first, so that single names take from it or add to nothing.

    Raises:
      InvalidArgument: there is no such capability.
    """
    everything = _ours()
    if security.privileged:
        return everything
    wanted = security.capabilities
    kept = set(DEFAULT_CAPABILITIES)
    add, drop = _named(wanted.add_capabilities), _named(wanted.drop_capabilities)
    if "CAP_ALL" in add:
        kept = set(everything)
    if "CAP_ALL" in drop:
        kept = set()
    kept |= set(add) - {"CAP_ALL"}
    kept -= set(drop) - {"CAP_ALL"}
    return tuple(name for name in known() if name in kept)


def capabilities_of(security: pb.LinuxContainerSecurityContext) -> Capabilities:
    """Return the five sets of the first process."""
    names = names_of(security)
    ambient = [] if security.privileged else _named(security.capabilities.add_ambient_capabilities)
    if "CAP_ALL" in ambient:
        ambient = list(_ours())
    more = tuple(name for name in known() if name in names or name in ambient)
    return Capabilities(
        bounding=more,
        effective=more,
        permitted=more,
        inheritable=tuple(name for name in more if name in ambient),
        ambient=tuple(name for name in more if name in ambient),
    )


def _ours() -> tuple[str, ...]:
    """Return every capability that this machine's root has to give."""
    own = set(kernel.names_of(kernel.bounding()))
    return tuple(name for name in known() if name in own)


def _named(texts: Iterable[str]) -> list[str]:
    names, valid = [], {*known(), "CAP_ALL"}
    for text in texts:
        name = text.upper()
        name = name if name.startswith("CAP_") else f"CAP_{name}"
        if name not in valid:
            raise InvalidArgument(f"unknown capability {text!r}: see capabilities(7)")
        names.append(name)
    return names
