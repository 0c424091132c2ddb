"""Roots made of the host's own programs: what the reference `host:` stands for.

    /                overlay: own upper, lower = skeletons/<state> (see `skeleton`)
    /usr /opt …      overlay each: own upper, lower = the host's folder
    /usr/x           overlay of its own where a file system is mounted on the host's folder

    snapshots/<id>/{fs,work}            upper of the root
                   host.json            which skeleton, and the folders that are mounted
                   mounts/<n>/{fs,work} upper of each of them
    skeletons/<state>/                  made once for each state of the host's listed files

Nothing is written to the host, and nothing but what the lists name is seen of it. Where overlayfs
cannot stand upon this root's file system (it is itself an overlay, for instance), the root is a
copy of the skeleton and programs are read-only binds: `notices` says so.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence

from sampan.concurrency import to_thread
from sampan.concurrency.trace import trace
from sampan.errors import FailedPrecondition, InvalidArgument
from sampan.linux.mounts import mountinfo
from sampan.model.mounts import Mount
from sampan.storage.detached import open_mounts
from sampan.storage.snapshots import Kind
from sampan.storage.snapshots import skeleton as skeletons
from sampan.storage.snapshots.folders import SNAPSHOTS, Folders
from sampan.storage.snapshots.ledger import Row
from sampan.storage.snapshots.native import copy_tree
from sampan.storage.snapshots.overlay import FolderSnapshotter, in_user_namespace
from sampan.storage.trees import remove_tree

__all__ = ["HostLayout", "HostSnapshotter"]

_NOT_PROGRAMS = frozenset(
    [
        "proc",
        "sysfs",
        "cgroup",
        "cgroup2",
        "devpts",
        "devtmpfs",
        "mqueue",
        "tracefs",
        "debugfs",
        "securityfs",
        "bpf",
        "pstore",
        "configfs",
        "hugetlbfs",
        "binfmt_misc",
        "autofs",
        "fusectl",
        "nsfs",
        "rpc_pipefs",
    ]
)


def program_folders(host: str = "/") -> list[str]:
    """Return the host's folders that get a mount of their own, outer ones first."""
    tops = [
        path
        for name in skeletons.LINKED_OR_MOUNTED
        if os.path.isdir(path := os.path.join(host, name)) and not os.path.islink(path)
    ]
    found = set(tops)
    for mount in mountinfo():
        point = os.fsdecode(mount.mount_point)
        if os.fsdecode(mount.fstype) in _NOT_PROGRAMS or any(c in point for c in ":,\\"):
            continue
        if any(point.startswith(top + "/") for top in tops) and os.path.isdir(point):
            found.add(point)
    return sorted(found)


class HostLayout:
    """How roots of the host's programs are laid down and mounted."""

    def __init__(self, root: str, options: Sequence[str], host: str) -> None:
        self._root = root
        self._options = tuple(options)
        self._host = host
        self._probed = False
        self.overlays = True
        self.notice = ""
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.join(root, "skeletons"), 0o711)

    def make(self, folder: str, row: Row, parents: list[int], labels: Mapping[str, str]) -> None:
        if row.kind is not Kind.ACTIVE or parents:
            raise InvalidArgument("host: roots are prepared upon nothing; view is not offered")
        os.mkdir(folder, 0o711)
        os.chmod(folder, 0o711)  # noqa: S103
        state = self.skeleton()
        self._probe(state)
        shown = program_folders(self._host)
        self._upper(folder, f"{self._root}/skeletons/{state}", copy=not self.overlays)
        if self.overlays:
            os.mkdir(f"{folder}/mounts", 0o711)
            for number, path in enumerate(shown):
                os.mkdir(f"{folder}/mounts/{number}", 0o711)
                self._upper(f"{folder}/mounts/{number}", path, copy=False)
        with open(f"{folder}/host.json", "w", encoding="utf-8") as file:
            json.dump({"skeleton": state, "shown": shown, "overlays": self.overlays}, file)

    def _upper(self, folder: str, lower: str, *, copy: bool) -> None:
        """Make an upper folder that looks like the top of `lower`, or is all of it."""
        fs = f"{folder}/fs"
        os.mkdir(fs, 0o755)
        if copy:
            copy_tree(lower, fs)
        status = os.stat(lower)
        os.chown(fs, status.st_uid, status.st_gid)
        os.chmod(fs, status.st_mode & 0o7777)
        os.mkdir(f"{folder}/work", 0o711)

    def mounts(self, row: Row, parents: list[int], labels: Mapping[str, str]) -> list[Mount]:
        folder = f"{self._root}/snapshots/{row.id}"
        with open(f"{folder}/host.json", encoding="utf-8") as file:
            made = json.load(file)
        if not made["overlays"]:
            return [
                Mount("bind", f"{folder}/fs", options=("rw", "rbind")),
                *(
                    Mount("bind", path, self._target(path), ("ro", "bind", "nosuid", "nodev"))
                    for path in made["shown"]
                ),
            ]
        return [
            self._overlay(folder, f"{self._root}/skeletons/{made['skeleton']}", ""),
            *(
                self._overlay(f"{folder}/mounts/{number}", path, self._target(path))
                for number, path in enumerate(made["shown"])
            ),
        ]

    def _target(self, path: str) -> str:
        return "/" + os.path.relpath(path, self._host)

    def _overlay(self, folder: str, lower: str, target: str) -> Mount:
        return Mount(
            "overlay",
            "overlay",
            target,
            (
                "index=off",
                *self._options,
                f"workdir={folder}/work",
                f"upperdir={folder}/fs",
                f"lowerdir={lower}",
            ),
        )

    def skeleton(self) -> str:
        """Return the name of the skeleton for the host as it is now, making it if it is new."""
        state = skeletons.state(self._host)
        base = f"{self._root}/skeletons"
        if not os.path.isdir(f"{base}/{state}"):
            made = tempfile.mkdtemp(prefix="new-", dir=base)
            try:
                skeletons.build(made, self._host)
                trace("host.skeleton_built")
                os.rename(made, f"{base}/{state}")
            except BaseException as err:
                shutil.rmtree(made, ignore_errors=True)
                if not (isinstance(err, OSError) and err.errno in (errno.ENOTEMPTY, errno.EEXIST)):
                    raise
        return state

    def _probe(self, state: str) -> None:
        """Find out, once, whether overlays work here; the ledger's write lock is held."""
        if self._probed:
            return
        if in_user_namespace():
            # Copying a folder up needs its owner mapped, and the host's programs are the host's.
            self.overlays = False
            self.notice = "host: programs are read-only in the containers of an ordinary user"
            self._probed = True
            return
        with tempfile.TemporaryDirectory(prefix="probe-", dir=self._root) as folder:
            lower = f"{self._root}/skeletons/{state}"
            self._upper(folder, lower, copy=False)
            try:
                os.close(open_mounts([self._overlay(folder, lower, "")]))
            except OSError as err:
                # EPERM: not ours to mount; the caller's user namespace may.
                if err.errno != errno.EPERM:
                    self.overlays = False
                    self.notice = (
                        f"host: overlayfs does not work on {self._root} ({err.strerror}):"
                        " programs are read-only in containers, and their root is a copy"
                    )
        self._probed = True

    def sweep(self, used: set[str]) -> None:
        """Remove skeletons that no root uses; the ledger's write lock is held."""
        base = f"{self._root}/skeletons"
        for name in os.listdir(base):
            if name not in used and name != skeletons.state(self._host):
                remove_tree(f"{base}/{name}")
        for name in os.listdir(self._root):
            if name.startswith("probe-"):
                # Its process died: probing is under the write lock, too.
                remove_tree(f"{self._root}/{name}")


class HostSnapshotter(FolderSnapshotter):
    """The snapshotter `host`. Keys have no parent, and are never committed."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        mount_options: Sequence[str] = (),
        host: str = "/",
    ) -> None:
        """Open `root`; whether overlays work there is tried by the first `prepare`.

        Args:
          root: A folder of its own, on a file system that overlayfs accepts as upper.
          mount_options: Added to every overlay mount; `userxattr` is, in a user namespace.
          host: Whose programs; tests take another root than `/`.
        """
        path = os.path.abspath(os.fspath(root))
        if ":" in path or "," in path:
            raise InvalidArgument(f"snapshots root {path!r}: overlayfs allows neither ':' nor ','")
        os.makedirs(path, mode=0o711, exist_ok=True)
        options = (*mount_options, *(("userxattr",) if in_user_namespace() else ()))
        self._layout = HostLayout(path, options, host)
        super().__init__("host", Folders(path, self._layout), frozenset())

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences for whoever starts a container: how this host falls short. After `prepare`."""
        return (self._layout.notice,) if self._layout.notice else ()

    async def commit(
        self,
        name: str,
        key: str,
        *,
        labels: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> None:
        raise FailedPrecondition(
            f"snapshot {key!r}: a root of host: cannot be committed; use `image from-host`"
        )

    async def cleanup(self) -> None:
        await super().cleanup()
        await to_thread(self._sweep, limit=SNAPSHOTS)

    def _sweep(self) -> None:
        ledger = self._folders.ledger
        with ledger.writing():
            used = set()
            for number in ledger.ids():
                with (
                    contextlib.suppress(FileNotFoundError),
                    open(f"{self._folders.folder(number)}/host.json", encoding="utf-8") as file,
                ):
                    used.add(json.load(file)["skeleton"])
            self._layout.sweep(used)
