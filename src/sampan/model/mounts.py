"""A mount as snapshotters return it and shims receive it: containerd's Mount.

Source: containerd api types/mount.proto.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Mount"]


@dataclass(frozen=True, slots=True)
class Mount:
    """What to mount, before anyone says where the root is."""

    type: str
    """File system type, `bind` included; `format/...` types hold templates of activated mounts."""
    source: str
    """Device, folder or pseudo source, as mount(8) takes it."""
    target: str = ""
    """Where below the root to mount; empty is the root itself."""
    options: tuple[str, ...] = ()
    """fstab-style options, flags and data mixed, in order."""
