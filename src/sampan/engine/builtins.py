"""What we bring along, by name: nothing here is imported before it is wanted."""

from __future__ import annotations

from typing import Final

__all__ = ["PLUGINS"]

PLUGINS: Final = (
    "sampan.storage.plugins:local",
    "sampan.storage.plugins:overlayfs",
    "sampan.storage.plugins:native",
    "sampan.storage.plugins:host",
    "sampan.network.registrations:cni",
    "sampan.network.registrations:pinned",
    "sampan.network.registrations:bridge",
)
"""`module:name` of a Registration each."""
