"""Options of the runc family of shims.

Source: the .proto files of containerd's API, field by field.
"""

from __future__ import annotations

from sampan.rpc.wire import Message, boolean, repeated, string, uint32


class Options(Message, name="containerd.runc.v1.Options"):
    """`containerd.runc.v1.Options`."""

    no_pivot_root: bool = boolean(1)
    no_new_keyring: bool = boolean(2)
    shim_cgroup: str = string(3)
    io_uid: int = uint32(4)
    io_gid: int = uint32(5)
    binary_name: str = string(6)
    root: str = string(7)
    systemd_cgroup: bool = boolean(9)
    criu_image_path: str = string(10)
    criu_work_path: str = string(11)
    task_api_address: str = string(12)
    task_api_version: int = uint32(13)


class CheckpointOptions(Message, name="containerd.runc.v1.CheckpointOptions"):
    """`containerd.runc.v1.CheckpointOptions`."""

    exit: bool = boolean(1)
    open_tcp: bool = boolean(2)
    external_unix_sockets: bool = boolean(3)
    terminal: bool = boolean(4)
    file_locks: bool = boolean(5)
    empty_namespaces: list[str] = repeated(string(6))
    cgroups_mode: str = string(7)
    image_path: str = string(8)
    work_path: str = string(9)
    parent_path: str = string(10)


class ProcessDetails(Message, name="containerd.runc.v1.ProcessDetails"):
    """`containerd.runc.v1.ProcessDetails`."""

    exec_id: str = string(1)
