"""checkpoint: have CRIU write a running container to files."""

from __future__ import annotations

import os

from sampan.errors import FailedPrecondition, InvalidArgument
from sampan.oci.criu import CheckpointOptions
from sampan.oci.criu import messages as msg
from sampan.oci.criu.conversation import Criu, failure
from sampan.oci.criu.image import EXTERNAL_NAMESPACES, external_mounts, write_descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.container import Container

__all__ = ["checkpoint", "common_options", "log_path"]

_LOG_LEVEL = 4
_EMPTY_NAMESPACES = {"network": 0x40000000}


def checkpoint(container: Container, options: CheckpointOptions) -> None:
    """Write the container to `options.image_path`; it ends, unless it is to be left running.

    Its state folder stays: who wants it gone calls `delete` afterwards.

    Raises:
      CheckpointFailed: CRIU or the kernel cannot; the container runs on.
      FailedPrecondition: it does not run. InvalidArgument: an option makes no sense.
      Unimplemented: criu is missing, or what pre-dumps and lazy pages need of the kernel.
    """
    if container.status() not in ("running", "paused"):
        raise FailedPrecondition(f"cannot checkpoint a {container.status()} container")
    image = _make_folder(options.image_path)
    kind = msg.PRE_DUMP if options.pre_dump else msg.DUMP
    opened = [os.open(image, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        if options.work_path:
            work = _make_folder(options.work_path)
            opened.append(os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        with Criu(options.criu) as criu:
            if options.pre_dump:
                criu.require(msg.Features(mem_track=True))
            if options.lazy_pages:
                criu.require(msg.Features(lazy_pages=True))
            opts = common_options(options, opened, "dump.log")
            _fill(opts, container, options)
            if kind == msg.DUMP:
                _describe(opts, container, image)
            answer = criu.request(kind, opts)
    finally:
        for fd in opened:
            os.close(fd)
    if not answer.success:
        log = log_path(options, "dump.log")
        raise failure(f"checkpoint {container.id}", log, answer.cr_errmsg, answer.cr_errno)


def _make_folder(path: str) -> str:
    path = os.path.abspath(path)
    if path == "/":
        raise InvalidArgument("images of a checkpoint cannot lie in /")
    os.makedirs(path, 0o700, exist_ok=True)
    return path


def log_path(options: CheckpointOptions, name: str) -> str:
    """Return where CRIU writes its log."""
    return os.path.join(os.path.abspath(options.work_path or options.image_path), name)


def common_options(options: CheckpointOptions, opened: list[int], log: str) -> msg.Opts:
    """Return what a checkpoint and a restore have in common.

    Args:
      options: The caller's.
      opened: Fds of the images, and of the work folder if there is one: CRIU takes them from us.
      log: Name of the log file.

    Raises:
      InvalidArgument: an unknown mode, kind of namespace, or a malformed address.
    """
    opts = msg.Opts(
        images_dir_fd=opened[0],
        log_level=_LOG_LEVEL,
        log_file=log,
        notify_scripts=True,
        shell_job=options.shell_job,
        ext_unix_sk=options.ext_unix_sk,
        tcp_established=options.tcp_established,
        file_locks=options.file_locks,
        evasive_devices=True,
        force_irmap=True,
        link_remap=options.link_remap,
        auto_dedup=options.auto_dedup,
        lazy_pages=options.lazy_pages,
        orphan_pts_master=True,
        manage_cgroups=True,
    )
    mode = options.manage_cgroups_mode or "soft"
    if mode not in ("soft", "full", "strict", "ignore"):
        raise InvalidArgument(f"manage-cgroups-mode is soft, full, strict or ignore, not {mode!r}")
    opts.manage_cgroups_mode = msg.CGROUP_MODES[mode]
    if len(opened) > 1:
        opts.work_dir_fd = opened[1]
    for name in options.empty_ns:
        if name not in _EMPTY_NAMESPACES:
            raise InvalidArgument(f"empty-ns takes network, not {name!r}")
        opts.empty_ns |= _EMPTY_NAMESPACES[name]
    return opts


def _fill(opts: msg.Opts, container: Container, options: CheckpointOptions) -> None:
    spec = container.spec
    opts.pid = container.pid
    opts.leave_running = options.leave_running
    opts.root = os.path.realpath(
        os.path.join(container.bundle, spec.root.path if spec.root else "rootfs")
    )
    opts.tcp_skip_in_flight = options.tcp_skip_in_flight
    cgroup = container.cgroup.paths
    opts.freeze_cgroup = cgroup.get("freezer") or cgroup.get("unified") or ""
    if options.parent_path:
        _take_parent(opts, options)
    opts.track_mem = options.pre_dump or bool(options.parent_path)
    if options.page_server:
        host, colon, port = options.page_server.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise InvalidArgument(f"page-server takes ADDRESS:PORT, not {options.page_server!r}")
        opts.ps = msg.PageServer(address=host, port=int(port))
    if options.status_fd >= 0:
        opts.status_fd = options.status_fd


def _take_parent(opts: msg.Opts, options: CheckpointOptions) -> None:
    parent = options.parent_path
    if os.path.isabs(parent):
        raise InvalidArgument(f"parent-path is relative to image-path: {parent!r} is absolute")
    if not os.path.isdir(os.path.join(options.image_path, parent)):
        raise InvalidArgument(f"parent-path {parent!r}: there is no such folder of a pre-dump")
    opts.parent_img = parent


def _describe(opts: msg.Opts, container: Container, image: str) -> None:
    """Declare what belongs to the host."""
    spec = container.spec
    opts.external = write_descriptors(image, container.pid)
    for namespace in spec.linux.namespaces if spec.linux is not None else ():
        if namespace.path and namespace.type in EXTERNAL_NAMESPACES:
            kind, key = EXTERNAL_NAMESPACES[namespace.type]
            inode = os.stat(f"/proc/{container.pid}/ns/{kind}").st_ino
            opts.external.append(f"{kind}[{inode}]:{key}")
    root = os.open(f"/proc/{container.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = external_mounts(spec, root, container.cgroup, container.bundle)
        opts.ext_mnt = [msg.ExtMount(key=each.place, val=each.name) for each in found]
    finally:
        os.close(root)
