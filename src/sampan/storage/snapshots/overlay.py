"""Snapshots as folders that overlayfs stacks: nothing is copied, whatever the depth.

    snapshots/<id>/fs         the layer: upper folder while active, a lower one once committed
                   work       overlayfs's own, while active

    no parent, active         bind fs (rw)
    one parent, view          bind parent/fs (ro)
    else                      overlay, lowerdir=<nearest>:…:<bottom>[,upperdir=,workdir=]

With user mappings in the labels a layer's owner is the mapped root; the kernel maps the lower ones
when the caller mounts them with `uidmap=` and `gidmap=` (see `mounts`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from sampan.concurrency import to_thread
from sampan.errors import InvalidArgument, NotFound
from sampan.model import filters as filter_language
from sampan.model.mounts import Mount
from sampan.storage.snapshots import LABEL_GIDMAPPING, LABEL_UIDMAPPING, Info, Kind, Usage
from sampan.storage.snapshots.folders import SNAPSHOTS, Folders
from sampan.storage.snapshots.ledger import Row

__all__ = ["FolderSnapshotter", "OverlayLayout", "OverlaySnapshotter"]


def mapped_root(mapping: str) -> int:
    """Return the host's id of the container's 0 in `container:host:size,...`; no mapping is 0.

    Raises:
      InvalidArgument: not such a list, or without a mapping of 0.
    """
    if not mapping:
        return 0
    for one in mapping.split(","):
        numbers = one.split(":")
        if len(numbers) != 3 or not all(n.isascii() and n.isdigit() for n in numbers):
            raise InvalidArgument(f"id mapping {mapping[:80]!r}: must be container:host:size,...")
        container, host, size = (int(n) for n in numbers)
        if container == 0 and size > 0:
            return host
    raise InvalidArgument(f"id mapping {mapping[:80]!r}: does not map 0")


def in_user_namespace() -> bool:
    """Tell whether our workers are root of a user namespace only, or we are."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return os.geteuid() != 0 or file.read().split() != ["0", "0", "4294967295"]


class OverlayLayout:
    """How overlayfs lays folders down and mounts them."""

    def __init__(self, root: str, options: Sequence[str]) -> None:
        self._root = root
        self._options = tuple(options)

    def make(self, folder: str, row: Row, parents: list[int], labels: Mapping[str, str]) -> None:
        os.mkdir(folder, 0o711)
        os.chmod(folder, 0o711)  # noqa: S103
        fs = f"{folder}/fs"
        os.mkdir(fs, 0o755)
        mode, uid, gid = 0o755, os.geteuid(), os.getegid()
        if parents:
            # The root of the tree is the upper's: what the parent says of it must go on.
            status = os.stat(f"{self._root}/snapshots/{parents[0]}/fs")
            mode, uid, gid = status.st_mode & 0o7777, status.st_uid, status.st_gid
        if LABEL_UIDMAPPING in labels or LABEL_GIDMAPPING in labels:
            uid = mapped_root(labels.get(LABEL_UIDMAPPING, ""))
            gid = mapped_root(labels.get(LABEL_GIDMAPPING, ""))
        if (uid, gid) != (os.geteuid(), os.getegid()):
            os.chown(fs, uid, gid)
        os.chmod(fs, mode)
        if row.kind is Kind.ACTIVE:
            os.mkdir(f"{folder}/work", 0o711)

    def mounts(self, row: Row, parents: list[int], labels: Mapping[str, str]) -> list[Mount]:
        base = f"{self._root}/snapshots"
        if not parents:
            access = "ro" if row.kind is Kind.VIEW else "rw"
            return [Mount("bind", f"{base}/{row.id}/fs", options=(access, "rbind"))]
        mapped: tuple[str, ...] = ()
        if LABEL_UIDMAPPING in labels or LABEL_GIDMAPPING in labels:
            mapped = (
                f"uidmap={labels.get(LABEL_UIDMAPPING, '')}",
                f"gidmap={labels.get(LABEL_GIDMAPPING, '')}",
            )
        if row.kind is Kind.VIEW and len(parents) == 1 and not mapped:
            return [Mount("bind", f"{base}/{parents[0]}/fs", options=("ro", "rbind"))]
        options = ["index=off", *self._options, *mapped]
        if row.kind is Kind.ACTIVE:
            options += [f"workdir={base}/{row.id}/work", f"upperdir={base}/{row.id}/fs"]
        options.append("lowerdir=" + ":".join(f"{base}/{one}/fs" for one in parents))
        return [Mount("overlay", "overlay", options=tuple(options))]


class FolderSnapshotter:
    """The Protocol over `Folders`: every call in a thread. Snapshotters differ by their layout."""

    def __init__(self, name: str, folders: Folders, capabilities: frozenset[str]) -> None:
        self.name = name
        self.capabilities = capabilities
        self._folders = folders

    @property
    def folders(self) -> Folders:
        """Rows and folders; blocking."""
        return self._folders

    def work_by(self, make: Callable[[Folders], Folders]) -> None:
        """Put something else with the methods of `Folders` in its place: see `storage.rootless`."""
        self._folders = make(self._folders)

    async def stat(self, key: str) -> Info:
        return await to_thread(self._folders.ledger.info, key, limit=SNAPSHOTS)

    async def update(self, info: Info, fieldpaths: Sequence[str] = ()) -> Info:
        return await to_thread(self._folders.update, info, tuple(fieldpaths), limit=SNAPSHOTS)

    async def usage(self, key: str) -> Usage:
        return await to_thread(self._folders.usage, key, limit=SNAPSHOTS)

    async def mounts(self, key: str) -> list[Mount]:
        return await to_thread(self._folders.mounts, key, limit=SNAPSHOTS)

    async def prepare(
        self, key: str, parent: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        return await to_thread(
            self._folders.create, key, parent, Kind.ACTIVE, labels or {}, limit=SNAPSHOTS
        )

    async def view(
        self, key: str, parent: str = "", *, labels: Mapping[str, str] | None = None
    ) -> list[Mount]:
        return await to_thread(
            self._folders.create, key, parent, Kind.VIEW, labels or {}, limit=SNAPSHOTS
        )

    async def commit(
        self,
        name: str,
        key: str,
        *,
        labels: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> None:
        await to_thread(self._folders.commit, name, key, labels or {}, parent, limit=SNAPSHOTS)

    async def remove(self, key: str) -> None:
        await to_thread(self._folders.remove, key, limit=SNAPSHOTS)

    async def walk(self, filters: Sequence[str] = ()) -> AsyncIterator[Info]:
        wanted = filter_language.parse_all(filters)
        for name in await to_thread(self._folders.ledger.names, limit=SNAPSHOTS):
            try:
                info = await to_thread(self._folders.ledger.info, name, limit=SNAPSHOTS)
            except NotFound:
                continue
            if wanted.match(info):
                yield info

    async def cleanup(self) -> None:
        await to_thread(self._folders.cleanup, limit=SNAPSHOTS)

    async def close(self) -> None:
        await to_thread(self._folders.close, limit=SNAPSHOTS)


class OverlaySnapshotter(FolderSnapshotter):
    """The snapshotter `overlayfs`."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        mount_options: Sequence[str] = (),
        volatile: bool = False,
    ) -> None:
        """Open `root`.

        Args:
          root: A folder of its own, on a file system that overlayfs accepts as upper.
          mount_options: Added to every overlay mount, `userxattr` for instance.
          volatile: Never sync upper folders: faster, and lost at a power cut.
        """
        path = os.path.abspath(os.fspath(root))
        if ":" in path or "," in path:
            raise InvalidArgument(f"snapshots root {path!r}: overlayfs allows neither ':' nor ','")
        options = (
            *mount_options,
            *(("volatile",) if volatile else ()),
            *(("userxattr",) if in_user_namespace() else ()),
        )
        super().__init__(
            "overlayfs",
            Folders(path, OverlayLayout(path, options)),
            frozenset({"rebase", "remap-ids"}),
        )
