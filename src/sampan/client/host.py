"""`host:`, the image that needs no image: a container on this host's own programs, copy on write.

    /                 a snapshot upon a small committed one: folders, links, some files of /etc
    /usr /opt ...     an overlay each, with the host's folder below and the container's own above
    /proc /dev ...    fresh, by the config.json

An overlay does not cross mount points: each mount below /usr or /opt gets an overlay of its own.
Where the upper folders lie on an overlay themselves, which the kernel refuses, the host's folders
are bound read-only instead, and `HostRoot.warning` says so.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.concurrency import to_thread
from sampan.errors import AlreadyExists, InvalidArgument, NotFound
from sampan.model.mounts import Mount

if TYPE_CHECKING:
    from sampan.client import Client

__all__ = ["HOST", "HostRoot", "prepare"]

HOST: Final = "host:"
_VERSION: Final = b"sampan host rootfs 1"
_TREES: Final = ("usr", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_EMPTY: Final = (
    "dev",
    "etc",
    "home",
    "mnt",
    "proc",
    "run",
    "srv",
    "sys",
    "var",
    "var/lib",
    "var/log",
)
_ETC: Final = (
    "alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "debian_version",
    "gai.conf", "group", "host.conf", "hosts", "inputrc", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "locale.alias", "localtime", "mime.types", "networks", "nsswitch.conf",
    "os-release", "passwd", "profile", "protocols", "python3", "python3.11", "resolv.conf", "rpc",
    "services", "shells", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone",
)  # fmt: skip
_OVERLAY_MAGIC: Final = "overlay"


@dataclass(frozen=True, slots=True)
class HostRoot:
    """A prepared root."""

    mounts: list[Mount]
    snapshot_key: str
    warning: str = ""


async def prepare(client: Client, key: str, folder: Path) -> HostRoot:
    """Prepare the root of container `key`; its upper folders go below `folder`, which is its own.

    Raises:
      InvalidArgument: the host's root is not laid out as we know it.
    """
    snapshots = client.snapshots()
    name = await to_thread(_name)
    try:
        base = await snapshots.prepare(key, name)
    except NotFound:
        await _build(client, name, key)
        base = await snapshots.prepare(key, name)
    over, warning = await to_thread(_overlays, folder)
    return HostRoot([*base, *over], key, warning)


async def _build(client: Client, name: str, key: str) -> None:
    snapshots = client.snapshots()
    temporary = f"{key}-host-base"
    mounts = await snapshots.prepare(temporary)
    if len(mounts) != 1 or mounts[0].type != "bind":
        raise InvalidArgument(f"host: needs a snapshotter that binds folders, not {mounts}")
    await to_thread(_fill, Path(mounts[0].source))
    try:
        await snapshots.commit(name, temporary)
    except AlreadyExists:
        await snapshots.remove(temporary)


def _name() -> str:
    """Return the name of the base snapshot: it changes with what it was made of."""
    digest = hashlib.sha256(_VERSION)
    for path in [f"/{tree}" for tree in _TREES] + [f"/etc/{name}" for name in _ETC]:
        try:
            status = os.lstat(path)
        except OSError:
            continue
        digest.update(f"{path} {status.st_mode} {status.st_mtime_ns} {status.st_size}\n".encode())
    return f"sampan-host:{digest.hexdigest()}"


def _fill(root: Path) -> None:
    root.chmod(0o755)
    for name in _EMPTY:
        (root / name).mkdir(mode=0o755, exist_ok=True)
        (root / name).chmod(0o755)
    for name, mode in (("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700)):
        (root / name).mkdir()
        (root / name).chmod(mode)
    for name in _TREES:
        here = Path("/") / name
        if here.is_symlink():
            (root / name).symlink_to(os.readlink(here))
        elif here.is_dir():
            (root / name).mkdir(mode=0o755)
    for name in _ETC:
        _copy(Path("/etc") / name, root / "etc" / name)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, a link or a tree; what others may not read is left out."""
    try:
        status = source.lstat()
    except OSError:
        return
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if stat.S_ISLNK(status.st_mode):
        link = os.readlink(source)
        if Path(os.path.normpath(source.parent / link)).parts[1:2] == ("run",) and source.is_file():
            shutil.copyfile(source, target)  # such as resolv.conf of systemd-resolved
        else:
            target.symlink_to(link)
    elif stat.S_ISDIR(status.st_mode):
        target.mkdir(mode=0o755, exist_ok=True)
        for name in os.listdir(source):
            _copy(source / name, target / name)
    elif stat.S_ISREG(status.st_mode) and status.st_mode & 0o004:
        shutil.copyfile(source, target)
        target.chmod(stat.S_IMODE(status.st_mode) & 0o777)


def _overlays(folder: Path) -> tuple[list[Mount], str]:
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    trees = [
        name for name in _TREES if not Path("/", name).is_symlink() and Path("/", name).is_dir()
    ]
    points, kind = _mount_points(folder)
    mounts = []
    warning = ""
    for path in sorted({*(f"/{tree}" for tree in trees), *points}):
        if path.lstrip("/").split("/")[0] not in trees:
            continue
        if kind == _OVERLAY_MAGIC:
            mounts.append(Mount("bind", path, path.lstrip("/"), ("bind", "ro")))
            warning = f"{folder} lies on an overlay, so the host's folders are read-only inside"
            continue
        upper = folder / "upper" / path.strip("/").replace("/", "%")
        for part in ("fs", "work"):
            (upper / part).mkdir(mode=0o755, parents=True, exist_ok=True)
        options = (f"lowerdir={path}", f"upperdir={upper}/fs", f"workdir={upper}/work")
        mounts.append(Mount("overlay", "overlay", path.lstrip("/"), options))
    return mounts, warning


def _mount_points(folder: Path) -> tuple[list[str], str]:
    """Return the folders that are mount points, and the type of the file system under `folder`."""
    points, best, kind = [], "", ""
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        fields = line.split(" ")
        point = fields[4]
        if "\\" in point:
            continue
        if f"{folder}/".startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, fields[fields.index("-") + 1]
        if Path(point).is_dir():
            points.append(point)
    return points, kind
