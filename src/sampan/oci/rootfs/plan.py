"""`root` and `mounts` of config.json, checked and encoded before the birth."""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument
from sampan.linux import idmap
from sampan.linux import mounts as mnt
from sampan.oci.rootfs import options as opt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.model.runtime.linux import Device, Linux
    from sampan.model.runtime.spec import Mount, Spec

__all__ = ["MountPlan", "NodePlan", "RootfsPlan", "plan_rootfs"]

_PROPAGATIONS = {
    "": opt.MS_SLAVE | opt.MS_REC,
    "slave": opt.MS_SLAVE, "rslave": opt.MS_SLAVE | opt.MS_REC,
    "private": opt.MS_PRIVATE, "rprivate": opt.MS_PRIVATE | opt.MS_REC,
    "shared": opt.MS_SHARED, "rshared": opt.MS_SHARED | opt.MS_REC,
    "unbindable": opt.MS_UNBINDABLE, "runbindable": opt.MS_UNBINDABLE | opt.MS_REC,
}  # fmt: skip
_S_IFCHR, _S_IFBLK, _S_IFIFO = 0o020000, 0o060000, 0o010000
_LABELLED = ("tmpfs", "devpts", "mqueue", "overlay")
"""Types whose files have no label of their own, and get that of the mount."""
_NODE_TYPES = {"c": _S_IFCHR, "u": _S_IFCHR, "b": _S_IFBLK, "p": _S_IFIFO}
_DEFAULT_NODES = (
    (b"/dev/null", 1, 3), (b"/dev/zero", 1, 5), (b"/dev/full", 1, 7),
    (b"/dev/random", 1, 8), (b"/dev/urandom", 1, 9), (b"/dev/tty", 5, 0),
)  # fmt: skip


class MountPlan:
    __slots__ = (
        "destination", "fstype", "inner_source", "late", "options", "source", "source_is_folder",
        "tree_fd",
    )  # fmt: skip

    def __init__(self, mount: Mount, options: opt.MountOptions) -> None:
        self.destination = os.fsencode(mount.destination)
        self.fstype = mount.type
        self.source = os.fsencode(mount.source)
        self.options = options
        self.tree_fd = -1
        """Detached copy of a bind's source, opened by the parent; owned by the RootfsPlan."""
        self.source_is_folder = True
        self.late = False
        """The child opens `source`: we may not copy mounts, it may, in its user namespace."""
        self.inner_source = b""
        """Path inside the root of a bind's source there: it is opened when its turn has come."""


class NodePlan:
    __slots__ = ("device", "gid", "mode", "path", "uid")

    def __init__(self, path: bytes, mode: int, device: int, uid: int, gid: int) -> None:
        self.path = path
        self.mode = mode
        """Type and permissions."""
        self.device = device
        self.uid = uid
        self.gid = gid


class RootfsPlan:
    __slots__ = (
        "bind_nodes", "cgroup_links", "cgroup_mounts", "cgroup_v2", "make_dev", "masked", "mounts",
        "no_pivot", "nodes", "own_mounts", "path", "propagation", "readonly", "readonly_paths",
    )  # fmt: skip

    def __init__(self) -> None:
        self.path = b"/"
        self.readonly = False
        self.propagation = opt.MS_SLAVE | opt.MS_REC
        self.mounts: list[MountPlan] = []
        self.nodes: list[NodePlan] = []
        self.bind_nodes = False
        """In a user namespace mknod is refused: the host's nodes are bound instead."""
        self.make_dev = True
        """Whether /dev is the container's own and gets nodes and links."""
        self.masked: tuple[bytes, ...] = ()
        self.readonly_paths: tuple[bytes, ...] = ()
        self.no_pivot = False
        self.own_mounts = True
        """False when the mount namespace is joined: nothing is built then."""
        self.cgroup_mounts: list[tuple[bytes, int]] = []
        """(name below /sys/fs/cgroup, detached copy of the container's cgroup) on v1."""
        self.cgroup_links: list[tuple[bytes, bytes]] = []
        self.cgroup_v2 = -1
        """Detached copy of the container's unified cgroup; -1 where a fresh mount is made."""

    def fds(self) -> list[int]:
        """Return the fds that the child needs."""
        found = [m.tree_fd for m in self.mounts if m.tree_fd >= 0]
        found += [fd for _, fd in self.cgroup_mounts]
        return found + [fd for fd in (self.cgroup_v2,) if fd >= 0]

    def close(self) -> None:
        for fd in self.fds():
            os.close(fd)
        for mount in self.mounts:
            mount.tree_fd = -1
        self.cgroup_mounts, self.cgroup_v2 = [], -1


def plan_rootfs(spec: Spec, bundle: str, *, in_user_ns: bool, no_pivot: bool) -> RootfsPlan:
    """Check the root and the mounts, and open the sources of binds.

    Raises:
      InvalidArgument: an option, path or device makes no sense; a bind's source is missing.
    """
    plan = RootfsPlan()
    linux = spec.linux
    if spec.root is None or linux is None:
        raise InvalidArgument("config.json has no root, or no linux section")
    path = os.path.realpath(os.path.join(bundle, spec.root.path))
    if not os.path.isdir(path):
        raise InvalidArgument(f"invalid rootfs: {path} is no folder")
    plan.path = os.fsencode(path)
    plan.readonly = spec.root.readonly
    if linux.rootfs_propagation not in _PROPAGATIONS:
        raise InvalidArgument(f"rootfsPropagation={linux.rootfs_propagation} is not supported")
    plan.propagation = _PROPAGATIONS[linux.rootfs_propagation]
    plan.no_pivot = no_pivot
    plan.bind_nodes = in_user_ns
    plan.masked = tuple(os.fsencode(p) for p in linux.masked_paths)
    plan.readonly_paths = tuple(os.fsencode(p) for p in linux.readonly_paths)
    label = _mount_label(linux.mount_label)
    try:
        for index, mount in enumerate(spec.mounts):
            planned = _plan_mount(mount, f"$.mounts[{index}]", bundle, path)
            plan.mounts.append(planned)
            if label and planned.fstype in _LABELLED:
                data = planned.options.data
                planned.options.data = f"{data},{label}" if data else label
            _map_ids(planned, mount, linux, f"$.mounts[{index}]")
        plan.make_dev = not any(
            m.options.is_bind and m.destination.rstrip(b"/") == b"/dev" for m in plan.mounts
        )
        plan.nodes = _plan_nodes(linux)
    except BaseException:
        plan.close()
        raise
    return plan


def _mount_label(label: str) -> str:
    """Return the mount option for `linux.mountLabel`.

    Raises:
      InvalidArgument: SELinux is off here, or the label would be more than one option.
    """
    if not label:
        return ""
    if not os.path.exists("/sys/fs/selinux/enforce"):
        raise InvalidArgument(
            f"linux.mountLabel {label!r} is given, but SELinux is disabled or not supported here"
        )
    if '"' in label or "\n" in label:
        raise InvalidArgument(f"linux.mountLabel {label!r} is no label")
    return f'context="{label}"'


def _plan_mount(mount: Mount, path: str, bundle: str, root: str) -> MountPlan:
    if not mount.destination.startswith("/"):
        mount = mount.replace(destination="/" + mount.destination)
    parsed = opt.parse_options(mount.options)
    if mount.type == "bind" and not parsed.is_bind:
        parsed.flags |= opt.MS_BIND
    planned = MountPlan(mount, parsed)
    if parsed.is_bind:
        source = os.path.join(bundle, mount.source)
        flags = mnt.OPEN_TREE_CLONE
        if parsed.flags & opt.MS_REC:
            flags |= mnt.AT_RECURSIVE
        idmapped = mount.uid_mappings or parsed.extensions & {"idmap", "ridmap"}
        if os.path.normpath(source).startswith(root + "/") and not idmapped:
            # What an earlier mount puts there is what is meant.
            planned.inner_source = os.fsencode(os.path.normpath(source)[len(root) :])
            return planned
        try:
            planned.tree_fd = mnt.open_tree(mnt.AT_FDCWD, source, flags)
        except PermissionError:
            if os.geteuid() == 0 or idmapped:
                raise
            planned.late, planned.source = True, os.fsencode(source)
        except OSError as err:
            raise InvalidArgument(f"bind source {source}: {os.strerror(err.errno or 0)}") from err
        if planned.late:
            return planned
        planned.source_is_folder = os.fstat(planned.tree_fd).st_mode & 0o170000 == 0o040000
    return planned


def _map_ids(planned: MountPlan, mount: Mount, linux: Linux, path: str) -> None:
    """Give a bind the ids of its own mappings, or of the container's user namespace.

    Source: config.md#posix-platform-mounts; `ridmap` maps what is mounted below as well.
    """
    wanted = planned.options.extensions & {"idmap", "ridmap"}
    own = bool(mount.uid_mappings or mount.gid_mappings)
    if not wanted and not own:
        return
    if planned.tree_fd < 0:
        raise InvalidArgument(f"only binds can be idmapped - at `{path}`")
    if own and not (mount.uid_mappings and mount.gid_mappings):
        raise InvalidArgument(f"both uidMappings and gidMappings are needed - at `{path}`")
    joined = next((one.path for one in linux.namespaces if one.type == "user"), None)
    uids, gids = mount.uid_mappings or linux.uid_mappings, mount.gid_mappings or linux.gid_mappings
    try:
        if uids and gids:
            userns = idmap.mapped_userns(
                [(m.container_id, m.host_id, m.size) for m in uids],
                [(m.container_id, m.host_id, m.size) for m in gids],
            )
        elif joined:
            userns = os.open(joined, os.O_RDONLY | os.O_CLOEXEC)
        else:
            raise InvalidArgument(f"idmap needs mappings or a user namespace - at `{path}`")
        try:
            idmap.map_tree(planned.tree_fd, userns, recursive="ridmap" in wanted)
        finally:
            os.close(userns)
    except OSError as err:
        source = os.fsdecode(planned.source)
        raise InvalidArgument(
            f"map the ids of {source}: {err.strerror}; does its file system allow it? - at `{path}`"
        ) from err


def _plan_nodes(linux: Linux) -> list[NodePlan]:
    nodes: dict[bytes, NodePlan] = {}
    for path, major, minor in _DEFAULT_NODES:
        nodes[path] = NodePlan(path, _S_IFCHR | 0o666, os.makedev(major, minor), 0, 0)
    for device in linux.devices:
        node = _plan_node(device)
        # ptmx is a link to the container's own pts, whatever the list says.
        if node.path not in (b"/dev/ptmx", b"/dev/console"):
            nodes[node.path] = node
    return list(nodes.values())


def _plan_node(device: Device) -> NodePlan:
    kind = _NODE_TYPES.get(device.type)
    if kind is None:
        raise InvalidArgument(f"device {device.path} has unknown type {device.type!r}")
    if not device.path.startswith("/"):
        raise InvalidArgument(f"device path {device.path} is not absolute")
    mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
    number = 0 if kind == _S_IFIFO else os.makedev(device.major, device.minor)
    return NodePlan(
        os.path.normpath(os.fsencode(device.path)),
        kind | mode,
        number,
        device.uid or 0,
        device.gid or 0,
    )


def names(mounts: Sequence[MountPlan]) -> list[bytes]:
    """Return the destinations in order, for messages."""
    return [m.destination for m in mounts]
