"""Storage for ordinary users: what only the root of a user namespace may do, done in workers there.

A layer's files belong to ids that are the user's own in a user namespace alone (subuid(5)): outside
of it this process can neither give files to them nor remove theirs, and it may mount nothing. So
each such call goes to a worker of the zygote, which lives in that namespace.

    Folders of a snapshotter     RemoteFolders, with the same methods: create, commit, remove, ...
    apply, inherit, compare      `storage.diff`, with mounts in place of fds that we could not open

    worker(payload, fds)         fds[0]  a memory file for the answer, as `storage.worker` has it

The zygote preloads this module for ordinary users only, for it loads SQLite and the event loop's
modules, which workers of root do without.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - what is loaded late cannot be loaded after the fork
import encodings.ascii  # noqa: F401 - likewise a codec
import errno
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from sampan import errors
from sampan.model.mounts import Mount
from sampan.storage import worker as plain
from sampan.storage.detached import open_mounts
from sampan.storage.diff.compare import write_layer
from sampan.storage.snapshots import Kind, Usage
from sampan.storage.snapshots.host import HostSnapshotter
from sampan.storage.snapshots.native import NativeSnapshotter
from sampan.storage.snapshots.overlay import FolderSnapshotter, OverlaySnapshotter
from sampan.storage.unpack import inherit

if TYPE_CHECKING:
    from sampan.storage.snapshots.folders import Folders
    from sampan.zygote import Zygote

__all__ = ["MODULE", "RemoteFolders", "confine", "from_json", "to_json", "worker"]

MODULE: Final = "sampan.storage.rootless"
_WORKER_S: Final = 600.0


def to_json(mounts: Sequence[Mount]) -> list[list[object]]:
    """Return mounts as a request has them."""
    return [[one.type, one.source, one.target, list(one.options)] for one in mounts]


def from_json(values: Sequence[Sequence[Any]]) -> list[Mount]:
    """Return what `to_json` was given."""
    return [Mount(kind, source, target, tuple(more)) for kind, source, target, more in values]


class RemoteFolders:
    """The methods of `Folders` that need the namespace, each a worker. Blocking."""

    def __init__(self, folders: Folders, snapshotter: str, zygote: Callable[[], Zygote]) -> None:
        """Stand for `folders`, whose ledger is read here."""
        self.root = folders.root
        self.ledger = folders.ledger
        self.folder = folders.folder
        self.fs = folders.fs
        self.close = folders.close
        self.mounts = folders.mounts
        self.update = folders.update
        self._snapshotter = snapshotter
        self._zygote = zygote

    def _call(self, call: str, *args: object) -> Any:
        request = {
            "call": call, "snapshotter": self._snapshotter, "root": self.root, "args": args,
        }  # fmt: skip
        answer = os.memfd_create("rootless")
        try:
            payload = json.dumps(request).encode()
            with self._zygote().fork(f"{MODULE}:worker", payload, [answer]) as born:
                status = born.wait(_WORKER_S)
            text = os.pread(answer, 64 << 20, 0)
        finally:
            os.close(answer)
        if not text:
            raise errors.Internal(f"storage worker ended without an answer, status {status}")
        value = json.loads(text)
        if "error" in value:
            raise getattr(errors, value["error"], errors.Unknown)(value["message"])
        return value["value"]

    def create(self, key: str, parent: str, kind: Kind, labels: Mapping[str, str]) -> list[Mount]:
        return from_json(self._call("create", key, parent, kind.value, dict(labels)))

    def usage(self, key: str) -> Usage:
        return Usage(*self._call("usage", key))

    def commit(self, name: str, key: str, labels: Mapping[str, str], parent: str | None) -> None:
        self._call("commit", name, key, dict(labels), parent)

    def remove(self, key: str) -> None:
        self._call("remove", key)

    def cleanup(self) -> None:
        self._call("cleanup")


def confine(snapshotter: object, zygote: Callable[[], Zygote]) -> None:
    """Let a snapshotter of folders work by the zygote that `zygote` returns; others stay."""
    if isinstance(snapshotter, FolderSnapshotter):

        def remote(folders: Folders) -> Folders:
            return cast("Folders", RemoteFolders(folders, snapshotter.name, zygote))

        snapshotter.work_by(remote)


# --- in the worker ---------------------------------------------------------------------------


def _open(request: Mapping[str, Any]) -> FolderSnapshotter:
    kind, root = request["snapshotter"], request["root"]
    if kind == "overlayfs":
        return OverlaySnapshotter(root)
    if kind == "native":
        return NativeSnapshotter(root)
    return HostSnapshotter(root)


def _folders(request: Mapping[str, Any]) -> Any:
    snapshotter = _open(request)
    folders = snapshotter.folders
    call, args = request["call"], request["args"]
    try:
        if call == "create":
            key, parent, kind, labels = args
            return to_json(folders.create(key, parent, Kind(kind), labels))
        if call == "usage":
            usage = folders.usage(*args)
            return [usage.inodes, usage.size]
        return getattr(folders, call)(*args)
    finally:
        folders.close()


def worker(payload: bytes, fds: list[int]) -> int:
    """Do what `payload` asks; see the module."""
    request = json.loads(payload)
    if request.get("call", "apply") == "apply":
        target = open_mounts(from_json(request.pop("mounts")))
        return plain.worker(json.dumps(request).encode(), [*fds, target])
    try:
        if request["call"] == "inherit":
            below = from_json(request["below"])
            value: Any = inherit(request["paths"], from_json(request["mounts"]), below)
        elif request["call"] == "compare":
            with open(os.dup(fds[1]), "wb") as file:
                lower, upper = from_json(request["lower"]), from_json(request["upper"])
                value = write_layer(file, request["kind"], lower, upper, request["latest_s"])
        else:
            value = _folders(request)
        answer: dict[str, Any] = {"value": value}
    except errors.SampanError as err:
        answer = {"error": type(err).__name__, "message": str(err)}
    except OSError as err:
        full = err.errno in (errno.ENOSPC, errno.EDQUOT)
        kind = "ResourceExhausted" if full else "Unknown"
        answer = {"error": kind, "message": f"{request['call']}: {err}"}
    except Exception as err:  # noqa: BLE001 - the edge of a program: our own fault, told as such
        text = f"{request['call']}: {type(err).__name__}: {err}"
        answer = {"error": "Internal", "message": text}
    os.write(fds[0], json.dumps(answer).encode())
    return 1 if "error" in answer else 0
