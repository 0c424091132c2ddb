"""What is asked of a container: policy, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["DeviceRate", "Limits", "Request", "Rlimit", "Volume"]


@dataclass(frozen=True, slots=True)
class Volume:
    """A folder or file of the host, or a tmpfs, inside the container."""

    source: str
    target: str
    options: tuple[str, ...] = ()
    type: str = "bind"


@dataclass(frozen=True, slots=True)
class Rlimit:
    """A limit of setrlimit(2), named without RLIMIT_ in small letters; -1 is no limit."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class DeviceRate:
    """A limit on a block device: `kind` is read-bps, write-bps, read-iops, write-iops, weight."""

    kind: str
    path: str
    rate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the cgroup holds the container to; 0 and empty leave the kernel's default."""

    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    """Memory and swap together, as docker counts; -1 is no limit on swap."""
    memory_reservation_bytes: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    cpus: float = 0
    cpu_shares: int = 0
    cpu_period_us: int = 0
    cpu_quota_us: int = 0
    cpu_rt_period_us: int = 0
    cpu_rt_runtime_us: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0
    """-1 is no limit."""
    blkio_weight: int = 0
    device_rates: tuple[DeviceRate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A container as its owner wants it; what is empty is the image's or the default."""

    args: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    """`NAME=value` each."""
    cwd: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    """Further groups of the process, by name or number."""
    tty: bool = False
    init: str = ""
    """A small static program on the host that becomes the container's init and reaps."""
    hostname: str = ""
    domainname: str = ""
    read_only: bool = False
    volumes: tuple[Volume, ...] = ()
    shm_bytes: int = 0
    limits: Limits = Limits()
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int | None = None
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    """`HOST[:CONTAINER[:rwm]]` each."""
    device_rules: tuple[str, ...] = ()
    """`c 1:3 rwm` each, as devices.allow takes them."""
    network: str = "none"
    """`none`, `host`, or the path of a network namespace."""
    namespaces: Mapping[str, str] = field(default_factory=dict)
    """Of pid, ipc, uts, cgroup: `host`, or the path of one to join; missing is a new one."""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    seccomp: str = "default"
    """`default`, `unconfined`, or a profile's JSON text (docker's or the runtime-spec's format)."""
    apparmor: str = ""
    selinux_label: str = ""
    no_new_privileges: bool = False
    mask_paths: bool = True
    """Off: /proc and /sys are shown whole and writable, where the kernel lets."""
    privileged: bool = False
    cgroup_parent: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
