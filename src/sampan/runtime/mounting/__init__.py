"""Mounts that the kernel does not know by their type: activated here, under a name.

    made = await manager.activate("c1", [
        Mount("loop", "/images/root.xfs"),                           # 0: a device
        Mount("format/xfs", "{{ mount 0 }}"),                        # 1: on that device
    ])
    made.active                  # [loop at .../2]: ours to unmount
    made.system                  # [xfs on /dev/loop3]: what is left for the caller to mount
    await manager.deactivate("c1")

A type is a chain: `format/mkdir/overlay` is filled in, then makes folders, then is an overlay.

    format/   `{{ mount N }}`, `{{ source N }}`, `{{ target N }}`, `{{ overlay N M }}` in source,
              target and options stand for the activated mounts before it
    mkdir/    option `X-containerd.mkdir.path=DIR[:MODE[:UID:GID]]` makes a folder
    mkfs/     options `X-containerd.mkfs.{size,fs,uuid}=...` make a file system in the source
    loop      a file as a block device

The caller gets back from the first mount that needs nothing of this any more, or from the last one
with a chain, done as far as it goes. Where nothing is needed, `activate` raises Unimplemented, and
the caller mounts as it always did. A *temporary* activation mounts everything, and gives one bind.

    <state>/mounts/<hash of namespace and name>/        0700
      record.json            name, labels, active and system mounts; written last
      1, 2, ...              mount points, or links to loop devices; unmounted from 1 on

Activations end with the machine, with `deactivate`, or, half made by a daemon that died, when the
next one starts.

Source: containerd api mounts/v1 and types/mount.proto; behaviour of containerd 2.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sampan.model import filters
from sampan.model.mounts import Mount

__all__ = ["Activation", "ActiveMount", "MountManager"]


@dataclass(frozen=True, slots=True)
class ActiveMount:
    """A mount that was made here."""

    mount: Mount
    """As it was mounted: with everything filled in."""
    mount_point: str
    mounted_at_ns: int
    """Since the epoch."""


@dataclass(frozen=True, slots=True)
class Activation:
    """What an activation made, and what it left to its caller."""

    name: str
    active: Sequence[ActiveMount] = ()
    system: Sequence[Mount] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        """Answer a filter about `name` or `labels.<key>`."""
        return filters.field_of(path, {"name": self.name}, self.labels)


class MountManager(Protocol):
    """Activations in the namespace of the request."""

    async def activate(
        self,
        name: str,
        mounts: Sequence[Mount],
        *,
        labels: Mapping[str, str] | None = None,
        temporary: bool = False,
    ) -> Activation:
        """Mount what needs us; nothing is left mounted when it fails.

        Raises:
          Unimplemented: nothing needs us.
          AlreadyExists: there is such an activation.
          InvalidArgument: an option is wrong.
          Unknown: a template is wrong, or the kernel refuses; says why.
        """
        ...

    async def deactivate(self, name: str) -> None:
        """Unmount it all, and forget it.

        Raises:
          NotFound: there is no such activation.
          FailedPrecondition: a mount is in use; it can be tried again.
        """
        ...

    async def info(self, name: str) -> Activation:
        """Return an activation.

        Raises:
          NotFound: there is none of that name.
        """
        ...

    async def update(self, activation: Activation, fields: Sequence[str] = ()) -> Activation:
        """Change labels: by a mask of `labels` and `labels.<key>`, or as a whole."""
        ...

    async def list(self, *texts: str) -> list[Activation]:
        """Return those that any filter matches, by name."""
        ...
