"""The child's part of the root: it is inside its namespaces, all is planned, only calls remain."""

# ruff: noqa: SIM105  contextlib is slow to import

from __future__ import annotations

import errno
import os
import stat

from sampan.linux import mounts as mnt
from sampan.linux import paths
from sampan.linux.paths import fd_path
from sampan.oci.rootfs import options as opt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.rootfs.plan import MountPlan, NodePlan, RootfsPlan

__all__ = ["BuildError", "enter_root", "finish_root", "prepare_root"]

_MNT_DETACH = 2
_FRESH = mnt.MOVE_MOUNT_F_EMPTY_PATH | mnt.MOVE_MOUNT_T_EMPTY_PATH
# What may be mounted over inside /proc. Everything else there would let a container lie to the
# runtime or to its own monitors. Source: runtime-spec config.md#mounts; CVE-2019-16884.
_PROC_ALLOWED = {
    b"/proc/" + name
    for name in (
        b"cpuinfo", b"diskstats", b"meminfo", b"stat", b"swaps", b"uptime", b"loadavg",
        b"slabinfo", b"net/dev", b"sys/kernel/ns_last_pid", b"sys/crypto/fips_enabled",
    )
}  # fmt: skip
_LINKS = (
    (b"/proc/self/fd", b"fd"), (b"/proc/self/fd/0", b"stdin"), (b"/proc/self/fd/1", b"stdout"),
    (b"/proc/self/fd/2", b"stderr"),
)  # fmt: skip


class BuildError(Exception):
    """A step failed; the text says which, on what, and why."""


def prepare_root(plan: RootfsPlan) -> int:
    """Set propagation, bind the root onto itself and do all mounts; return the root's O_PATH fd."""
    mnt.mount(None, "/", None, plan.propagation)
    _make_parent_private(plan.path)
    mnt.mount(plan.path, plan.path, "bind", opt.MS_BIND | opt.MS_REC)
    root = os.open(plan.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for mount in plan.mounts:
        try:
            _mount(plan, root, mount)
        except (OSError, BuildError) as err:
            reason = err.strerror if isinstance(err, OSError) else str(err)
            what = f'"{os.fsdecode(mount.source)}" to rootfs at "{os.fsdecode(mount.destination)}"'
            raise BuildError(f"error mounting {what}: {reason}") from err
    if plan.make_dev:
        _make_nodes(plan, root)
        _make_links(root)
    return root


def enter_root(plan: RootfsPlan, root: int) -> None:
    """Make the root ours and drop the old one, so that no path and no mount leads back."""
    os.fchdir(root)
    if plan.no_pivot:
        _move_root()
    else:
        old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mnt.pivot_root(".", ".")
        os.fchdir(old)
        # The old root is detached as a slave, lest its unmounting reach the host.
        mnt.mount(None, ".", None, opt.MS_SLAVE | opt.MS_REC)
        mnt.umount2(".", _MNT_DETACH)
        os.close(old)
    os.chdir("/")


def finish_root(plan: RootfsPlan) -> None:
    """After the pivot: what is to be read-only becomes it, and masks are laid."""
    for mount in plan.mounts:
        late = mount.fstype == "tmpfs" or mount.destination.rstrip(b"/") == b"/dev"
        if late and not mount.options.is_bind and mount.options.flags & opt.MS_RDONLY:
            mnt.mount_setattr(mnt.AT_FDCWD, mount.destination, add=opt.ATTR_RDONLY)
    if plan.readonly:
        mnt.mount_setattr(mnt.AT_FDCWD, "/", add=opt.ATTR_RDONLY)
    for path in plan.readonly_paths:
        _make_readonly(path)
    if plan.masked:
        _mask(plan)


def _make_parent_private(path: bytes) -> None:
    """pivot_root refuses a shared parent, and a bind on it would show on the host."""
    best = None
    for info in mnt.mountinfo():
        point = info.mount_point
        inside = path == point or path.startswith(point.rstrip(b"/") + b"/")
        if inside and (best is None or len(point) >= len(best.mount_point)):
            best = info
    if best is not None and any(field.startswith(b"shared:") for field in best.optional):
        mnt.mount(None, best.mount_point, None, opt.MS_PRIVATE)


def _mount(plan: RootfsPlan, root: int, mount: MountPlan) -> None:
    options = mount.options
    destination = os.path.normpath(mount.destination)
    if options.is_bind:
        if mount.inner_source or mount.late:
            _open_source(root, mount)
        _refuse_in_proc(mount, destination)
        target = _open_target(root, mount)
        _bind(plan, mount, target)
    elif mount.fstype in ("proc", "sysfs"):
        target = _open_plain_folder(root, destination)
        mnt.mount(mount.source, fd_path(target), mount.fstype, options.flags, options.data)
    elif mount.fstype in ("cgroup", "cgroup2"):
        _mount_cgroups(plan, root, mount, destination)
        return
    elif mount.fstype == "tmpfs":
        _refuse_in_proc(mount, destination)
        target = paths.mkdirs_in_root(root, destination)
        _mount_tmpfs(mount, target)
    else:
        _refuse_in_proc(mount, destination)
        target = paths.mkdirs_in_root(root, destination)
        flags = options.flags
        if destination == b"/dev":
            flags &= ~opt.MS_RDONLY  # nodes are to be made in it first
        mnt.mount(mount.source, fd_path(target), mount.fstype, flags, options.data)
    os.close(target)
    if options.propagation or options.rec_set or options.rec_clear:
        mounted = paths.open_in_root(root, destination, os.O_PATH)
        for propagation in options.propagation:
            mnt.mount(None, fd_path(mounted), None, propagation)
        if not options.is_bind and (options.rec_set or options.rec_clear):
            flags = mnt.AT_EMPTY_PATH | mnt.AT_RECURSIVE
            mnt.mount_setattr(mounted, "", flags, add=options.rec_set, clear=options.rec_clear)
        os.close(mounted)


def _open_source(root: int, mount: MountPlan) -> None:
    """Copy the tree of a source: inside the root as the mounts before it have left it."""
    flags = mnt.OPEN_TREE_CLONE | mnt.AT_EMPTY_PATH
    if mount.options.flags & opt.MS_REC:
        flags |= mnt.AT_RECURSIVE
    if mount.late:
        found = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
    else:
        found = paths.open_in_root(root, mount.inner_source, os.O_PATH)
    mount.source_is_folder = stat.S_ISDIR(os.fstat(found).st_mode)
    mount.tree_fd = mnt.open_tree(found, "", flags)
    os.close(found)


def _bind(plan: RootfsPlan, mount: MountPlan, target: int) -> None:
    options = mount.options
    tree = mount.tree_fd
    add, clear = options.attributes()
    if add or clear:
        mnt.mount_setattr(tree, "", mnt.AT_EMPTY_PATH, add=add, clear=clear)
    if options.rec_set or options.rec_clear:
        flags = mnt.AT_EMPTY_PATH | mnt.AT_RECURSIVE
        mnt.mount_setattr(tree, "", flags, add=options.rec_set, clear=options.rec_clear)
    whole = mnt.AT_EMPTY_PATH | mnt.AT_RECURSIVE
    if not options.propagation and not plan.propagation & opt.MS_SHARED:
        # The copy was made outside: it is still a peer of its source, and what the container mounts
        # in it would show on the host. It gets what a bind made inside would have had.
        mnt.mount_setattr(tree, "", whole, propagation=plan.propagation & ~opt.MS_REC)
    mnt.move_mount(tree, "", target, "", _FRESH)


def _mount_tmpfs(mount: MountPlan, target: int) -> None:
    options = mount.options
    data = options.data
    if "mode=" not in data:
        mode = stat.S_IMODE(os.fstat(target).st_mode)
        data = f"{data},mode={mode:o}".lstrip(",")
    flags = options.flags & ~opt.MS_RDONLY
    if "tmpcopyup" not in options.extensions:
        mnt.mount(mount.source, fd_path(target), "tmpfs", flags, data)
        return
    words = dict(word.partition("=")[::2] for word in data.split(",") if word)
    add, _ = options.attributes()
    tree = mnt.mount_new("tmpfs", {k: v or None for k, v in words.items()}, add & ~opt.ATTR_RDONLY)
    old = paths.reopen(target, os.O_RDONLY | os.O_DIRECTORY)
    new = paths.reopen(tree, os.O_RDONLY | os.O_DIRECTORY)
    _copy_tree(old, new)
    mnt.move_mount(tree, "", target, "", _FRESH)
    for fd in (old, new, tree):
        os.close(fd)


def _copy_tree(old: int, new: int) -> None:
    for name in os.listdir(old):
        info = os.stat(name, dir_fd=old, follow_symlinks=False)
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=new)
            below = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            source = os.open(name, below, dir_fd=old)
            copy = os.open(name, below, dir_fd=new)
            _copy_tree(source, copy)
            os.fchown(copy, info.st_uid, info.st_gid)
            os.fchmod(copy, stat.S_IMODE(info.st_mode))
            os.close(source)
            os.close(copy)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=old), name, dir_fd=new)
            os.chown(name, info.st_uid, info.st_gid, dir_fd=new, follow_symlinks=False)
        elif kind == stat.S_IFREG:
            source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=old)
            create = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            copy = os.open(name, create, 0o600, dir_fd=new)
            while chunk := os.read(source, 1 << 16):
                os.write(copy, chunk)
            os.fchown(copy, info.st_uid, info.st_gid)
            os.fchmod(copy, stat.S_IMODE(info.st_mode))
            os.close(source)
            os.close(copy)


def _mount_cgroups(plan: RootfsPlan, root: int, mount: MountPlan, destination: bytes) -> None:
    options = mount.options
    target = paths.mkdirs_in_root(root, destination)
    if not plan.cgroup_mounts:
        if plan.cgroup_v2 >= 0:
            add, clear = options.attributes()
            mnt.mount_setattr(plan.cgroup_v2, "", mnt.AT_EMPTY_PATH, add=add, clear=clear)
            mnt.move_mount(plan.cgroup_v2, "", target, "", _FRESH)
        else:
            mnt.mount("cgroup", fd_path(target), "cgroup2", options.flags, options.data)
        os.close(target)
        return
    base = opt.MS_NOSUID | opt.MS_NODEV | opt.MS_NOEXEC
    mnt.mount("tmpfs", fd_path(target), "tmpfs", base, "mode=755")
    os.close(target)
    folder = paths.open_in_root(root, destination, os.O_PATH | os.O_DIRECTORY)
    attributes = opt.ATTR_NOSUID | opt.ATTR_NODEV | opt.ATTR_NOEXEC
    if options.flags & opt.MS_RDONLY:
        attributes |= opt.ATTR_RDONLY
    for name, tree in plan.cgroup_mounts:
        os.mkdir(name, 0o755, dir_fd=folder)
        point = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        mnt.mount_setattr(tree, "", mnt.AT_EMPTY_PATH, add=attributes)
        mnt.move_mount(tree, "", point, "", _FRESH)
        os.close(point)
    for link, name in plan.cgroup_links:
        os.symlink(name, link, dir_fd=folder)
    if options.flags & opt.MS_RDONLY:
        mnt.mount_setattr(folder, "", mnt.AT_EMPTY_PATH, add=opt.ATTR_RDONLY)
    os.close(folder)


def _open_plain_folder(root: int, destination: bytes) -> int:
    """/proc and /sys must not be reached through a link, or our own later look-ups lie."""
    try:
        fd = paths.open_in_root(
            root, destination, os.O_PATH | os.O_NOFOLLOW, resolve=paths.RESOLVE_NO_SYMLINKS
        )
    except FileNotFoundError:
        return paths.mkdirs_in_root(root, destination)
    except OSError as err:
        if err.errno == errno.ELOOP:
            raise BuildError("filesystem must be mounted on ordinary directory") from err
        raise
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        raise BuildError("filesystem must be mounted on ordinary directory")
    return fd


def _open_target(root: int, mount: MountPlan) -> int:
    destination = os.path.normpath(mount.destination)
    if mount.source_is_folder:
        return paths.mkdirs_in_root(root, destination)
    try:
        return paths.open_in_root(root, destination, os.O_PATH)
    except FileNotFoundError:
        pass
    folder, name = os.path.split(destination)
    parent = paths.mkdirs_in_root(root, folder)
    try:
        return paths.open_in_root(parent, name, os.O_PATH)
    except FileNotFoundError:
        create = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(name, create, 0o755, dir_fd=parent)
        os.close(made)
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)


def _refuse_in_proc(mount: MountPlan, destination: bytes) -> None:
    if destination != b"/proc" and not destination.startswith(b"/proc/"):
        return
    if destination in _PROC_ALLOWED:
        return
    if destination == b"/proc" and mount.tree_fd >= 0:
        if mnt.statfs_type(mount.tree_fd) == 0x9FA0:
            return
        raise BuildError('"/proc" cannot be mounted because it is not of type proc')
    shown = os.fsdecode(destination)
    raise BuildError(f'"{shown}" cannot be mounted because it is inside /proc')


def _make_nodes(plan: RootfsPlan, root: int) -> None:
    old = os.umask(0)
    try:
        for node in plan.nodes:
            folder, name = os.path.split(node.path)
            parent = paths.mkdirs_in_root(root, folder)
            try:
                _make_node(plan, parent, name, node)
            except OSError as err:
                what = os.fsdecode(node.path)
                raise BuildError(f"error creating device node {what}: {err.strerror}") from err
            finally:
                os.close(parent)
    finally:
        os.umask(old)


def _make_node(plan: RootfsPlan, parent: int, name: bytes, node: NodePlan) -> None:
    if not plan.bind_nodes:
        try:
            os.mknod(name, node.mode, node.device, dir_fd=parent)
        except FileExistsError:
            if _is_node(parent, name, node):
                return
            raise
        except PermissionError:
            _bind_node(parent, name, node)
            return
        os.chown(name, node.uid, node.gid, dir_fd=parent, follow_symlinks=False)
    else:
        _bind_node(parent, name, node)


def _is_node(parent: int, name: bytes, node: NodePlan) -> bool:
    there = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return stat.S_IFMT(there.st_mode) == stat.S_IFMT(node.mode) and there.st_rdev == node.device


def _bind_node(parent: int, name: bytes, node: NodePlan) -> None:
    tree = mnt.open_tree(mnt.AT_FDCWD, node.path, mnt.OPEN_TREE_CLONE)
    create = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(name, create, 0o666, dir_fd=parent))
    point = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    mnt.move_mount(tree, "", point, "", _FRESH)
    os.close(point)
    os.close(tree)


def _make_links(root: int) -> None:
    dev = paths.mkdirs_in_root(root, b"/dev")
    links = list(_LINKS)
    if os.path.exists("/proc/kcore"):
        links.append((b"/proc/kcore", b"core"))
    for target, name in links:
        try:
            os.symlink(target, name, dir_fd=dev)
        except FileExistsError:
            if os.readlink(name, dir_fd=dev) != target:
                raise
    try:
        os.unlink(b"ptmx", dir_fd=dev)
    except FileNotFoundError:
        pass
    os.symlink(b"pts/ptmx", b"ptmx", dir_fd=dev)
    os.close(dev)


def _move_root() -> None:
    # Without a pivot the host's mounts stay below ours, where nothing can reach them by path.
    mnt.mount(".", "/", None, opt.MS_MOVE)
    os.chroot(".")


def _make_readonly(path: bytes) -> None:
    try:
        tree = mnt.open_tree(
            mnt.AT_FDCWD, path, mnt.OPEN_TREE_CLONE | mnt.AT_RECURSIVE | mnt.AT_SYMLINK_NOFOLLOW
        )
    except FileNotFoundError:
        return
    mnt.mount_setattr(tree, "", mnt.AT_EMPTY_PATH, add=opt.ATTR_RDONLY)
    point = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    mnt.move_mount(tree, "", point, "", _FRESH)
    os.close(point)
    os.close(tree)


def _mask(plan: RootfsPlan) -> None:
    """Folders get one shared empty read-only tmpfs, files a /dev/null that is checked to be it."""
    null = empty = -1
    done = set()
    for path in plan.masked:
        path = os.path.normpath(path)  # noqa: PLW2901
        if path in done:
            continue
        done.add(path)
        try:
            point = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISDIR(os.fstat(point).st_mode):
            if empty < 0:
                empty = mnt.mount_new("tmpfs", {"ro": None}, opt.ATTR_RDONLY, source="tmpfs")
                mnt.mount_setattr(empty, "", mnt.AT_EMPTY_PATH, add=opt.ATTR_RDONLY)
                copy = empty
            else:
                copy = mnt.open_tree(empty, "", mnt.OPEN_TREE_CLONE | mnt.AT_EMPTY_PATH)
        else:
            if null < 0:
                null = _open_null()
            copy = mnt.open_tree(null, "", mnt.OPEN_TREE_CLONE | mnt.AT_EMPTY_PATH)
        mnt.move_mount(copy, "", point, "", _FRESH)
        os.close(point)
        if copy != empty:
            os.close(copy)
    for fd in (null, empty):
        if fd >= 0:
            os.close(fd)


def _open_null() -> int:
    """Open the container's /dev/null, made by us; refuse whatever an image put there instead."""
    fd = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    info = os.fstat(fd)
    if not stat.S_ISCHR(info.st_mode) or info.st_rdev != os.makedev(1, 3):
        raise BuildError("/dev/null in the container is not the null device")
    return fd
