"""What CRIU cannot know of a container: its stdio, and what in it belongs to the host."""

from __future__ import annotations

import os
import stat

from sampan.errors import InvalidArgument
from sampan.linux import mounts as mnt
from sampan.linux import paths
from sampan.model.runtime.document import dumps, loads
from sampan.oci.rootfs.options import parse_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.cgroups import Manager
    from sampan.model.runtime.spec import Spec

__all__ = [
    "EXTERNAL_NAMESPACES",
    "ExternalMount", "external_mounts", "prepare_mount_points", "read_descriptors",
    "read_external_files", "write_descriptors",
]  # fmt: skip

_DESCRIPTORS = "descriptors.json"
_OURS = "sampan.json"
EXTERNAL_NAMESPACES = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
"""config.json's word to the kernel's, and the key by which the fd is inherited at restore."""


def write_descriptors(folder: str, pid: int) -> list[str]:
    """Note what 0, 1 and 2 of `pid` are; return the names of those that are files of the host."""
    links = [os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)]
    inside = {info.id for info in mnt.mountinfo(pid)}
    outer = {}
    for number, link in enumerate(links):
        info = os.stat(f"/proc/{pid}/fd/{number}")
        mount_id = _mount_id(pid, number)
        if link.startswith("/") and stat.S_ISREG(info.st_mode) and mount_id not in inside:
            outer[str(number)] = f"file[{mount_id:x}:{info.st_ino:x}]"
    _write(f"{folder}/{_DESCRIPTORS}", links)
    _write(f"{folder}/{_OURS}", {"external_files": outer})
    return sorted(set(outer.values()))


def _mount_id(pid: int, number: int) -> int:
    for line in mnt.read_all(f"/proc/{pid}/fdinfo/{number}").splitlines():
        if line.startswith(b"mnt_id:"):
            return int(line.split()[1])
    return -1


def read_descriptors(folder: str) -> list[str]:
    """Return what 0, 1 and 2 were.

    Raises:
      InvalidArgument: the folder is no image, or was tampered with.
    """
    links = _read(f"{folder}/{_DESCRIPTORS}")
    if not isinstance(links, list) or not all(isinstance(link, str) for link in links):
        raise InvalidArgument(f"{folder}/{_DESCRIPTORS} is no list of names")
    return links[:3]


def read_external_files(folder: str) -> dict[int, str]:
    """Return by number the names of those of 0, 1 and 2 that were files of the host."""
    if not os.path.exists(f"{folder}/{_OURS}"):
        return {}  # an image that runc has made
    document = _read(f"{folder}/{_OURS}")
    files = document.get("external_files") if isinstance(document, dict) else None
    if not isinstance(files, dict):
        raise InvalidArgument(f"{folder}/{_OURS} is not of ours")
    return {int(k): str(v) for k, v in files.items() if k in ("0", "1", "2")}


class ExternalMount:
    """A mount that comes from the host."""

    __slots__ = ("name", "place", "source")

    def __init__(self, place: str, source: str, name: str = "") -> None:
        self.place = place
        """Where it is in the container, links followed."""
        self.name = name or place
        """What the image calls it; runc's names, so that either may restore the other's."""
        self.source = source
        """Path on the host."""


def external_mounts(spec: Spec, root: int, manager: Manager, bundle: str) -> list[ExternalMount]:
    """Return the mounts that come from the host.

    Args:
      spec: config.json.
      root: Fd of the container's root.
      manager: Its cgroup, which a mount of type cgroup shows.
      bundle: Relative sources count from here.
    """
    found = []
    for mount in spec.mounts:
        destination = "/" + mount.destination.lstrip("/")
        if mount.type == "bind" or parse_options(mount.options).is_bind:
            source = os.path.join(bundle, mount.source)
            found.append(ExternalMount(_resolve(root, destination), source))
        elif mount.type in ("cgroup", "cgroup2"):
            at = _resolve(root, destination)
            found += [ExternalMount(at + below, path) for below, path in _cgroup_mounts(manager)]
    linux = spec.linux
    for path in linux.masked_paths if linux is not None else ():
        try:
            point = paths.open_in_root(root, path, os.O_PATH)
        except OSError:
            continue
        if not stat.S_ISDIR(os.fstat(point).st_mode):
            found.append(ExternalMount(path, "/dev/null", "/dev/null"))
        os.close(point)
    return found


def _cgroup_mounts(manager: Manager) -> Iterator[tuple[str, str]]:
    """Yield (place below the mount, source): one on v2, one for each hierarchy on v1."""
    by_path: dict[str, list[str]] = {}
    for name, path in manager.paths.items():
        if name != "unified":
            by_path.setdefault(path, []).append(name.removeprefix("name="))
    if not by_path:
        yield "", manager.paths["unified"]
    for path, names in by_path.items():
        yield "/" + ",".join(names), path


def _resolve(root: int, destination: str) -> str:
    """Return the path that a destination has inside the root once links are followed."""
    try:
        point = paths.open_in_root(root, destination, os.O_PATH)
    except OSError:
        return os.path.normpath(destination)
    try:
        top, path = (os.readlink(paths.fd_path(fd)) for fd in (root, point))
    finally:
        os.close(point)
    if top != "/" and path.startswith(top + "/"):
        return path[len(top) :]
    return path


def prepare_mount_points(spec: Spec, root: int, bundle: str) -> None:
    """Make what will be mounted on: CRIU expects it there. Not what lies in a restored tmpfs."""
    tmpfs: list[str] = []
    for mount in spec.mounts:
        destination = os.path.normpath("/" + mount.destination.lstrip("/"))
        if not any(destination.startswith(top + "/") for top in tmpfs):
            bind = mount.type == "bind" or parse_options(mount.options).is_bind
            if bind and not os.path.isdir(os.path.join(bundle, mount.source)):
                _make_file(root, destination)
            else:
                os.close(paths.mkdirs_in_root(root, destination))
        if mount.type in ("tmpfs", "proc", "sysfs", "cgroup", "cgroup2"):
            tmpfs.append(destination)


def _make_file(root: int, destination: str) -> None:
    folder, name = os.path.split(destination)
    parent = paths.mkdirs_in_root(root, folder)
    try:
        flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC
        os.close(paths.open_in_root(parent, name, flags, 0o755))
    finally:
        os.close(parent)


def _write(path: str, document: object) -> None:
    with open(path, "wb") as file:
        file.write(dumps(document).encode())


def _read(path: str) -> object:
    try:
        with open(path, "rb") as file:
            document: object = loads(file.read(1 << 20))
    except FileNotFoundError as err:
        raise InvalidArgument(
            f"{os.path.dirname(path)} is no checkpoint: {path} is missing"
        ) from err
    except ValueError as err:
        raise InvalidArgument(f"{path} is no JSON: {err}") from err
    return document
