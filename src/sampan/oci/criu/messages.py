"""CRIU's RPC messages, as far as we use them. Source: criu's rpc.proto (names, numbers, types)."""

from __future__ import annotations

from sampan.rpc.wire import Message, boolean, enum, int32, message, optional, repeated, string
from sampan.rpc.wire import uint32 as uint32_field

__all__ = [
    "CHECK", "DUMP", "FEATURE_CHECK", "NOTIFY", "PRE_DUMP", "RESTORE", "VERSION", "CgroupRoot",
    "ExtMount", "Features", "InheritFd", "Notify", "Opts", "PageServer", "Request", "Response",
    "Restored", "VersionInfo",
]  # fmt: skip

DUMP, RESTORE, CHECK, PRE_DUMP = 1, 2, 3, 4
NOTIFY, FEATURE_CHECK, VERSION = 6, 9, 10
CGROUP_MODES = {"ignore": 0, "none": 1, "props": 2, "soft": 3, "full": 4, "strict": 5}


class PageServer(Message, name="criu_page_server_info"):
    address: str = string(1)
    port: int = int32(2)
    pid: int = int32(3)
    fd: int = int32(4)


class ExtMount(Message, name="ext_mount_map"):
    key: str = string(1)
    val: str = string(2)


class InheritFd(Message, name="inherit_fd"):
    key: str = string(1)
    fd: int = int32(2)


class CgroupRoot(Message, name="cgroup_root"):
    ctrl: str = string(1)
    path: str = string(2)


class Opts(Message, name="criu_opts"):
    images_dir_fd: int = int32(1)
    pid: int = int32(2)
    leave_running: bool = boolean(3)
    ext_unix_sk: bool = boolean(4)
    tcp_established: bool = boolean(5)
    evasive_devices: bool = boolean(6)
    shell_job: bool = boolean(7)
    file_locks: bool = boolean(8)
    log_level: int = int32(9)
    log_file: str = string(10)
    ps: PageServer | None = message(11, PageServer)
    notify_scripts: bool = boolean(12)
    root: str = string(13)
    parent_img: str = string(14)
    track_mem: bool = boolean(15)
    auto_dedup: bool = boolean(16)
    work_dir_fd: int = int32(17)
    link_remap: bool = boolean(18)
    force_irmap: bool = boolean(21)
    ext_mnt: list[ExtMount] = repeated(message(23, ExtMount))
    manage_cgroups: bool = boolean(24)
    cg_root: list[CgroupRoot] = repeated(message(25, CgroupRoot))
    rst_sibling: bool = boolean(26)
    inherit_fd: list[InheritFd] = repeated(message(27, InheritFd))
    manage_cgroups_mode: int | None = optional(enum(34))
    external: list[str] = repeated(string(37))
    empty_ns: int = uint32_field(38)
    freeze_cgroup: str = string(44)
    tcp_skip_in_flight: bool = boolean(46)
    lazy_pages: bool = boolean(48)
    status_fd: int = int32(49)
    orphan_pts_master: bool = boolean(50)
    lsm_profile: str = string(53)


class Restored(Message, name="criu_restore_resp"):
    pid: int = int32(1)


class Notify(Message, name="criu_notify"):
    script: str = string(1)
    pid: int = int32(2)


class Features(Message, name="criu_features"):
    mem_track: bool = boolean(1)
    lazy_pages: bool = boolean(2)


class VersionInfo(Message, name="criu_version"):
    major_number: int = int32(1)
    minor_number: int = int32(2)
    sublevel: int = int32(4)


class Request(Message, name="criu_req"):
    type: int = enum(1)
    opts: Opts | None = message(2, Opts)
    notify_success: bool = boolean(3)
    keep_open: bool = boolean(4)
    features: Features | None = message(5, Features)


class Response(Message, name="criu_resp"):
    type: int = enum(1)
    success: bool = boolean(2)
    restore: Restored | None = message(4, Restored)
    notify: Notify | None = message(5, Notify)
    cr_errno: int = int32(7)
    features: Features | None = message(8, Features)
    cr_errmsg: str = string(9)
    version: VersionInfo | None = message(10, VersionInfo)
