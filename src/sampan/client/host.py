"""`host:`, the image that needs no image: a container on this host's own programs, copy on write.

The root is a snapshot of storage's snapshotter `host`, which says what is seen and how it is laid
out; here is only how people ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sampan.model.mounts import Mount

if TYPE_CHECKING:
    from sampan.client import Client

__all__ = ["HOST", "SNAPSHOTTER", "HostRoot", "prepare"]

HOST: Final = "host:"
SNAPSHOTTER: Final = "host"


@dataclass(frozen=True, slots=True)
class HostRoot:
    """A prepared root."""

    mounts: list[Mount]
    warning: str = ""
    """How this host falls short, in a sentence."""


async def prepare(client: Client, key: str) -> HostRoot:
    """Prepare the root of container `key`.

    Raises:
      InvalidArgument: the snapshotter `host` could not be opened here.
    """
    mounts = await client.snapshots(SNAPSHOTTER).prepare(key)
    return HostRoot(mounts, "; ".join(client.notices(SNAPSHOTTER)))
