"""The files of any container, running or not: what `cp`, `diff` and `export` work on.

A running one's are those of its first process's root, mounts and all; of one that does not run,
its root is mounted for the moment of each call, seen by nobody else, without what would be mounted
in it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from sampan.concurrency import to_thread
from sampan.sandbox import branching
from sampan.sandbox.files import Files

if TYPE_CHECKING:
    from sampan.metadata import Container
    from sampan.model.mounts import Mount
    from sampan.sandbox.box import Sandbox
    from sampan.sandbox.clients import Client
    from sampan.sandbox.values import Change, FileInfo

__all__ = ["Tree", "tree_of"]


class Tree:
    """The files of one container. Make it by `tree_of`."""

    def __init__(self, files: Files, box: Sandbox) -> None:
        self._files = files
        self._box = box

    async def stat(self, path: str) -> FileInfo:
        """Describe a file; links are not followed.

        Raises:
          NotFound: there is none.
        """
        return await self._files.stat(path)

    async def upload(self, source: str, target: str, *, user: str = "") -> None:
        """Copy a file or folder of this host to `target`; see `Sandbox.upload`."""
        await self._files.upload(source, target, user)

    async def download(self, source: str, target: str) -> None:
        """Copy a file or folder to `target` here; see `Sandbox.download`."""
        await self._files.download(source, target)

    async def export(self, target: str) -> None:
        """Write the whole root as a tar archive."""
        await self._files.export(target)

    async def diff(self) -> list[Change]:
        """Return what is different from the image, by path."""
        return await branching.diff(self._box, "")


class _Resting:
    """As much of a sandbox as files need, of a container that does not run."""

    pid = 0

    def __init__(self, client: Client, container: Container, mounts: Sequence[Mount]) -> None:
        self.client = client
        self.container = container
        self.mounts = list(mounts)
        self.id = self.name = container.id
        self.namespace = client.namespace
        self.image = container.image
        self.pidfd = -1

    def check_alive(self) -> None:
        """It needs no process."""


class _RestingFiles(Files):
    """Each call is answered by a worker in the root itself."""

    async def _ask(
        self, call: str, fds: Sequence[int] = (), **values: object
    ) -> tuple[Any, list[int]]:
        box = cast("_Resting", self._box)
        root = await to_thread(_root, box.mounts)
        box.pidfd = root
        try:
            return await super()._ask(call, fds, folder=True, ids=[0, 0], **values)
        finally:
            box.pidfd = -1
            os.close(root)


def _root(mounts: Sequence[Mount]) -> int:
    from sampan.storage.detached import open_mounts

    return open_mounts([mount for mount in mounts if not mount.target])


async def tree_of(client: Client, name: str) -> Tree:
    """Return the files of a container, by name, id, or the beginning of an id.

    Raises:
      NotFound: there is none.
    """
    from sampan.client.containers import find, view
    from sampan.client.creation import root_mounts

    container = await find(client.raw, name)
    seen = await view(client.raw, container)
    if seen.task is not None and seen.state in ("running", "paused"):
        box = await client.attach(container.id)
        return Tree(Files(box), box)
    resting = cast("Sandbox", _Resting(client, container, await root_mounts(client.raw, container)))
    return Tree(_RestingFiles(resting), resting)
