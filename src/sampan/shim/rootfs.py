"""The rootfs that Create brings: containerd's mounts, put onto bundle/rootfs, and taken off."""

from __future__ import annotations

import contextlib
import errno
import os

from sampan.errors import InvalidArgument, SampanError, Unknown
from sampan.linux import idmap
from sampan.linux import mounts as linux
from sampan.rpc.messages.types import Mount

__all__ = ["mount_all", "unmount_all"]

# Source: mount(8), the options that are flags of mount(2).
_FLAGS = {
    "ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "sync": 16, "remount": 32, "mand": 64,
    "dirsync": 128, "nosymfollow": 256, "noatime": 1024, "nodiratime": 2048, "bind": 4096,
    "rbind": 4096 | 16384, "relatime": 1 << 21, "strictatime": 1 << 24, "lazytime": 1 << 25,
}  # fmt: skip
_CLEARS = {"rw": 1, "suid": 2, "dev": 4, "exec": 8, "async": 16, "atime": 1024, "diratime": 2048}
_PROPAGATION = {
    "unbindable": 1 << 17, "private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20,
    "runbindable": 1 << 17 | 16384, "rprivate": 1 << 18 | 16384, "rslave": 1 << 19 | 16384,
    "rshared": 1 << 20 | 16384,
}  # fmt: skip
_BIND, _REMOUNT, _REC = 4096, 32, 16384
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_DATA_MAX_BYTES = 4095
_MAPS = ("uidmap=", "gidmap=")


def mount_all(mounts: list[Mount], rootfs: str) -> None:
    """Mount each of `mounts` on `rootfs` or its `target` below; undo all if one fails.

    Raises:
      SampanError: one could not be mounted; it names its source and options.
    """
    if not mounts:
        return
    os.makedirs(rootfs, mode=0o711, exist_ok=True)
    try:
        for mount in mounts:
            _mount(
                mount, os.path.join(rootfs, mount.target.lstrip("/")) if mount.target else rootfs
            )
    except SampanError:
        unmount_all(rootfs)
        raise


def _mount(mount: Mount, target: str) -> None:
    if mount.type.startswith(("format/", "mkfs/", "mkdir/")):
        raise InvalidArgument(f"mount {mount.source}: type {mount.type} is for the mount manager")
    flags, propagation, data = 0, 0, []
    for option in mount.options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option in _CLEARS:
            flags &= ~_CLEARS[option]
        elif option in _PROPAGATION:
            propagation |= _PROPAGATION[option]
        elif option not in ("defaults", "loop"):
            data.append(option)
    maps = dict(option.split("=", 1) for option in data if option.startswith(_MAPS))
    data = [option for option in data if not option.startswith(_MAPS)]
    text = ",".join(data)
    kind = "" if flags & _BIND else mount.type
    try:
        if maps:
            _mapped(mount, kind, data, flags, maps, target)
        elif kind == "overlay" and len(text) > _DATA_MAX_BYTES:
            _overlay(data, flags, target)
        else:
            linux.mount(mount.source, target, kind or None, flags, text or None)
        if flags & _BIND and flags & ~(_BIND | _REC):
            linux.mount(None, target, None, flags | _REMOUNT | _BIND, None)
        if propagation:
            linux.mount(None, target, None, propagation, None)
    except OSError as err:
        raise Unknown(
            f"mount {mount.source} on {target}: type {mount.type!r}, options"
            f" {','.join(mount.options)}: {err.strerror}"
        ) from err


def _mapped(
    mount: Mount, kind: str, options: list[str], flags: int, maps: dict[str, str], target: str
) -> None:
    """Mount with ids mapped: each lower layer of an overlay, or the one folder of a bind.

    `uidmap=container:host:size` and `gidmap=`, as containerd's snapshotters write them.
    """
    userns = idmap.mapped_userns(idmap.parse(maps["uidmap"]), idmap.parse(maps["gidmap"]))
    try:
        if kind != "overlay":
            tree = idmap.clone_mapped(mount.source, userns, recursive=bool(flags & _REC))
            _attach(tree, target)
            os.close(tree)
            return
        _overlay(options, flags, target, userns)
    finally:
        os.close(userns)


def _attach(tree: int, target: str) -> None:
    target_fd = os.open(target, os.O_PATH | os.O_CLOEXEC)
    try:
        linux.attach(tree, target_fd)
    finally:
        os.close(target_fd)


def _overlay(options: list[str], flags: int, target: str, userns: int = -1) -> None:
    """Mount an overlay whose options do not fit into a page, layer by layer.

    With `userns` the ids of the lower layers are mapped. Layers are given by fd then, of mounts
    that nobody sees; before Linux 6.13, which takes no fds, they stand on `target` for a moment.
    """
    pairs: list[tuple[str, str | int | None]] = []
    trees: list[int] = []
    for option in options:
        key, equals, value = option.partition("=")
        if key == "lowerdir":
            layers = value.split(":")
            if userns >= 0:
                trees = [idmap.clone_mapped(layer, userns) for layer in layers]
                pairs += [("lowerdir+", tree) for tree in trees]
            else:
                pairs += [("lowerdir+", layer) for layer in layers]
        else:
            pairs.append((key, value if equals else None))
    try:
        try:
            _overlay_of(pairs, flags, target)
        except OSError as err:
            if not trees or err.errno not in (errno.EINVAL, errno.EBADF):
                raise
            _overlay_by_path(pairs, flags, target)
    finally:
        for tree in trees:
            os.close(tree)


def _overlay_by_path(pairs: list[tuple[str, str | int | None]], flags: int, target: str) -> None:
    """Mount with layers that stand in a tmpfs on `target` until the overlay covers them."""
    linux.mount("layers", target, "tmpfs", 0, "mode=700,size=64k")
    try:
        paths: list[tuple[str, str | int | None]] = []
        for number, (key, value) in enumerate(pairs):
            if isinstance(value, int):
                path = os.path.join(target, str(number))
                os.mkdir(path)
                _attach(value, path)
                paths.append((key, path))
            else:
                paths.append((key, value))
        fs_fd = _configured(paths)
    except BaseException:
        linux.umount2(target, _MNT_DETACH)
        raise
    try:
        linux.umount2(target, _MNT_DETACH)
        _attach_new(fs_fd, flags, target)
    finally:
        os.close(fs_fd)


def _overlay_of(pairs: list[tuple[str, str | int | None]], flags: int, target: str) -> None:
    fs_fd = _configured(pairs)
    try:
        _attach_new(fs_fd, flags, target)
    finally:
        os.close(fs_fd)


def _attach_new(fs_fd: int, flags: int, target: str) -> None:
    # MS_RDONLY, NOSUID, NODEV, NOEXEC have the numbers of their MOUNT_ATTR_ twins.
    mount_fd = linux.fsmount(fs_fd, flags & 15)
    try:
        _attach(mount_fd, target)
    finally:
        os.close(mount_fd)


def _configured(pairs: list[tuple[str, str | int | None]]) -> int:
    """Return an overlay with these options, created and not yet mounted; the caller owns it."""
    fs_fd = linux.fsopen("overlay")
    try:
        for name, content in pairs:
            if isinstance(content, int):
                linux.fsconfig(fs_fd, linux.FSCONFIG_SET_FD, name, None, content)
            elif content is None:
                linux.fsconfig(fs_fd, linux.FSCONFIG_SET_FLAG, name)
            else:
                linux.fsconfig(fs_fd, linux.FSCONFIG_SET_STRING, name, content)
        linux.fsconfig(fs_fd, linux.FSCONFIG_CMD_CREATE)
    except BaseException:
        os.close(fs_fd)
        raise
    return fs_fd


def unmount_all(rootfs: str) -> None:
    """Take everything off `rootfs`, at once for the eye, when the last user goes for the kernel.

    Raises:
      OSError: EPERM or the like; a missing folder and one without a mount are fine.
    """
    with contextlib.suppress(FileNotFoundError):
        for _ in range(64):
            try:
                linux.umount2(rootfs, _MNT_DETACH | _UMOUNT_NOFOLLOW)
            except OSError as err:
                if err.errno != errno.EINVAL:
                    raise
                return
