"""Volumes of a container that are not folders of the host: those of images, in both senses.

image mounts      Mount.image: a read-only view of another image, or of a folder of it
                  <state>/.../containers/<id>/images/<n>
defined volumes   what the container's own image declares: an empty folder each, with what the
                  image has there copied into it, which stays writable on a read-only root
                  <root>/.../containers/<id>/volumes/<n>
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import to_thread
from sampan.cri.images.pull import unpack
from sampan.errors import FailedPrecondition, InvalidArgument, NotFound
from sampan.linux import mounts as calls
from sampan.linux.paths import open_in_root
from sampan.model.mounts import Mount as RootMount
from sampan.model.runtime.linux import IDMapping
from sampan.model.runtime.spec import Mount
from sampan.storage.detached import open_mounts

if TYPE_CHECKING:
    from sampan.cri.core import Cri
    from sampan.cri.store.records import Pod

__all__ = ["GC_ROOT", "KEPT", "drop_views", "of_config", "of_images", "unmount"]

_DETACH: Final = 2 | 8
_NOBODY: Final = 65534
GC_ROOT: Final = "containerd.io/gc.root"
KEPT: Final = ("image-volume", "pause")
"""Values of that label on snapshots of ours."""
_ROOTED: Final = {GC_ROOT: KEPT[0]}
"""Nothing refers to a view: it is kept until its container is removed."""
_FAILED: Final = "ImageVolumeMountFailed"
"""Kubelet shows this word as the reason, and looks for it."""


async def of_images(
    cri: Cri, pod: Pod, config: pb.ContainerConfig, id: str
) -> tuple[tuple[str, ...], dict[int, str]]:
    """Mount the images that the request's mounts name; return snapshot keys, and paths by place.

    Raises:
      FailedPrecondition: an image or the folder in it is not there.
    """
    keys, paths = [], {}
    snapshots = cri.engine.metadata.snapshotter(cri.settings.images.snapshotter)
    for place, one in enumerate(config.mounts):
        if not one.HasField("image") or not one.image.image:
            continue
        image = await cri.images.find(one.image.image)
        if image is None:
            raise FailedPrecondition(f"{_FAILED}: image {one.image.image!r} is not here")
        key = f"{id}-image-{place}"
        try:
            mounts = await snapshots.view(key, image.chain, labels=_ROOTED)
        except NotFound:
            await unpack(cri, image.content.manifest)
            mounts = await snapshots.view(key, image.chain, labels=_ROOTED)
        keys.append(key)
        one.image.image_ref = image.id
        target = cri.container_folder(id) / "images" / str(place)
        await to_thread(_mount, mounts, one.image_sub_path, target)
        paths[place] = str(target)
    return tuple(keys), paths


def _mount(mounts: Sequence[RootMount], sub_path: str, target: Path) -> None:
    if sub_path and (os.path.isabs(sub_path) or ".." in sub_path.split("/")):
        raise FailedPrecondition(f"{_FAILED}: image_sub_path {sub_path!r} must stay in the image")
    root = open_mounts(mounts)
    fd = -1
    try:
        try:
            fd = open_in_root(root, sub_path or ".", os.O_PATH | os.O_CLOEXEC)
        except OSError as err:
            raise FailedPrecondition(
                f"{_FAILED}: the image has no {sub_path!r}: {err.strerror}"
            ) from err
        is_folder = os.fstat(fd).st_mode & 0o170000 == 0o040000
        target.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        if is_folder:
            target.mkdir(mode=0o755, exist_ok=True)
        else:
            target.touch()
        if sub_path:
            tree = calls.open_tree(fd, "", calls.OPEN_TREE_CLONE | calls.AT_EMPTY_PATH)
        else:
            tree = os.dup(root)
        try:
            target_fd = os.open(target, os.O_PATH | os.O_CLOEXEC)
            try:
                calls.attach(tree, target_fd)
            finally:
                os.close(target_fd)
        finally:
            os.close(tree)
    finally:
        if fd >= 0:
            os.close(fd)
        os.close(root)


def unmount(folder: Path) -> None:
    """Unmount the image mounts in a container's folder."""
    with suppress(FileNotFoundError):
        for name in os.listdir(folder / "images"):
            try:
                calls.umount2(os.fspath(folder / "images" / name), _DETACH)
            except OSError as err:
                if err.errno != errno.EINVAL:
                    raise


async def drop_views(cri: Cri, id: str) -> None:
    """Remove the snapshots that a container's image mounts stand on."""
    snapshots = cri.engine.metadata.snapshotter(cri.settings.images.snapshotter)
    prefix = f"{id}-image-"
    async for info in snapshots.walk([f"name~=^{prefix}"]):
        if info.name.startswith(prefix):
            with suppress(NotFound):
                await snapshots.remove(info.name)


def of_config(
    config: pb.ContainerConfig,
    defined: list[str],
    folder: Path,
    root_fd: int,
    mappings: tuple[tuple[IDMapping, ...], tuple[IDMapping, ...]],
) -> tuple[Mount, ...]:
    """Make a folder for each volume that the image defines and the request does not cover."""
    covered = [os.path.normpath(one.container_path) for one in config.mounts]
    found = []
    for place, text in enumerate(defined):
        target = os.path.normpath("/" + text.lstrip("/"))
        if target == "/" or ".." in text.split("/"):
            raise InvalidArgument(f"the image defines a volume at {text!r}")
        if target in covered:
            continue
        source = folder / str(place)
        source.mkdir(mode=0o755, parents=True, exist_ok=True)
        os.chown(source, _mapped(0, mappings[0]), _mapped(0, mappings[1]))
        _fill(source, target, root_fd, _Owners(*mappings))
        found.append(
            Mount(
                destination=target,
                type="bind",
                source=str(source),
                options=("rbind", "rprivate", "rw"),
            )
        )
    return tuple(found)


class _Owners:
    """Who owns on the host what a user and a group own in the container."""

    def __init__(self, uids: tuple[IDMapping, ...], gids: tuple[IDMapping, ...]) -> None:
        self._uids = uids
        self._gids = gids

    def of(self, status: os.stat_result) -> tuple[int, int]:
        """Return the host's ids for those that the image has."""
        return _mapped(status.st_uid, self._uids), _mapped(status.st_gid, self._gids)


def _mapped(id: int, maps: tuple[IDMapping, ...]) -> int:
    for one in maps:
        if one.container_id <= id < one.container_id + one.size:
            return one.host_id + id - one.container_id
    return id if not maps else _NOBODY


def _fill(target: Path, path: str, root_fd: int, owners: _Owners) -> None:
    """Copy what the image has at `path`, with owners and modes; links are copied as links."""
    try:
        fd = open_in_root(root_fd, path.lstrip("/"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        status = os.fstat(fd)
        os.chown(target, *owners.of(status))
        os.chmod(target, status.st_mode & 0o7777)
        _copy(fd, os.fspath(target), owners)
    finally:
        os.close(fd)


def _copy(source_fd: int, target: str, owners: _Owners) -> None:
    for name in os.listdir(source_fd):
        status = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
        kind, into = status.st_mode & 0o170000, os.path.join(target, name)
        if kind == 0o120000:
            os.symlink(os.readlink(name, dir_fd=source_fd), into)
            os.lchown(into, *owners.of(status))
            continue
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        if kind == 0o040000:
            os.mkdir(into, 0o700)
            inner = os.open(name, flags | os.O_DIRECTORY, dir_fd=source_fd)
            try:
                _copy(inner, into, owners)
            finally:
                os.close(inner)
        elif kind == 0o100000:
            with (
                os.fdopen(os.open(name, flags, dir_fd=source_fd), "rb") as data,
                open(into, "xb") as out,
            ):
                shutil.copyfileobj(data, out, 1 << 20)
        else:
            continue
        os.chown(into, *owners.of(status))
        os.chmod(into, status.st_mode & 0o7777)
