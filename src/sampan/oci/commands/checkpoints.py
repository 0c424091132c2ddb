"""checkpoint and restore."""

# ruff: noqa: A001  globals is runc's word

from __future__ import annotations

import os

from sampan.errors import InvalidArgument
from sampan.linux import prctl
from sampan.oci import foreground
from sampan.oci.arguments import Flags, parse
from sampan.oci.commands import is_rootless, one_id, state_root
from sampan.oci.container import load
from sampan.oci.criu import CheckpointOptions
from sampan.oci.criu import checkpoint as checkpoint_container
from sampan.oci.criu import restore as restore_container

__all__ = ["checkpoint", "restore"]

_COMMON = (
    "image-path= work-path= tcp-established ext-unix-sk shell-job lazy-pages file-locks"
    " manage-cgroups-mode= empty-ns= auto-dedup link-remap"
)
_CHECKPOINT = " parent-path= leave-running status-fd= page-server= pre-dump tcp-skip-in-flight"
_RESTORE = (
    " bundle=|b console-socket= detach|d pid-file= no-subreaper no-pivot lsm-profile="
    " lsm-mount-context= tcp-close"
)


def checkpoint(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, _COMMON + _CHECKPOINT)
    container = load(state_root(globals), one_id(flags, "checkpoint"))
    options = _options(globals, flags)
    checkpoint_container(container, options)
    if not options.leave_running and not options.pre_dump:
        container.delete(force=True)
    return 0


def restore(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, _COMMON + _RESTORE)
    id = one_id(flags, "restore")
    for name in ("lsm-mount-context", "tcp-close"):
        if flags.has(name):
            raise InvalidArgument(f"restore --{name} is not supported")
    if not flags.has("no-subreaper") and not flags.has("detach"):
        prctl.set_child_subreaper(True)
    container = restore_container(
        root=state_root(globals),
        id=id,
        bundle=flags.get("bundle") or os.getcwd(),
        options=_options(globals, flags),
        console_socket=flags.get("console-socket") or None,
        pid_file=flags.get("pid-file") or None,
        systemd_cgroup=globals.has("systemd-cgroup"),
        rootless=is_rootless(globals),
    )
    if flags.has("detach"):
        return 0
    try:
        status = foreground.wait(container.pid, container.pidfd, container.detach_console())
    finally:
        container.delete(force=True)
    return status


def _options(globals: Flags, flags: Flags) -> CheckpointOptions:
    return CheckpointOptions(
        flags.get("image-path") or os.path.join(os.getcwd(), "checkpoint"),
        work_path=flags.get("work-path"),
        parent_path=flags.get("parent-path"),
        leave_running=flags.has("leave-running"),
        tcp_established=flags.has("tcp-established"),
        tcp_skip_in_flight=flags.has("tcp-skip-in-flight"),
        ext_unix_sk=flags.has("ext-unix-sk"),
        shell_job=flags.has("shell-job"),
        lazy_pages=flags.has("lazy-pages"),
        status_fd=_status_fd(flags),
        page_server=flags.get("page-server"),
        file_locks=flags.has("file-locks"),
        pre_dump=flags.has("pre-dump"),
        manage_cgroups_mode=flags.get("manage-cgroups-mode"),
        empty_ns=flags.all("empty-ns"),
        auto_dedup=flags.has("auto-dedup"),
        link_remap=flags.has("link-remap"),
        lsm_profile=flags.get("lsm-profile"),
        criu=globals.get("criu"),
    )


def _status_fd(flags: Flags) -> int:
    if not flags.get("status-fd"):
        return -1
    fd = flags.number("status-fd")
    try:
        os.fstat(fd)
    except OSError as err:
        raise InvalidArgument(f"--status-fd {fd} is no open file") from err
    return fd
