"""config.json, `process`: what is executed, as whom, with which rights.

Source: config.md#process.
"""

from __future__ import annotations

from sampan.model.runtime.struct import Struct

Uint32 = int

__all__ = [
    "Box",
    "Capabilities",
    "ExecCPUAffinity",
    "IOPriority",
    "Process",
    "Rlimit",
    "Scheduler",
    "User",
]


class Box(Struct):
    """Size of a terminal in characters."""

    height: Uint32 = 0
    width: Uint32 = 0


class User(Struct):
    """Ids, resolved by the caller: the runtime reads no passwd but for HOME."""

    ALWAYS = ("uid", "gid")

    uid: Uint32 = 0
    gid: Uint32 = 0
    umask: Uint32 | None = None
    additional_gids: tuple[Uint32, ...] = ()
    username: str = ""


class Capabilities(Struct):
    """Five sets of names such as CAP_KILL."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Struct):
    type: str
    """RLIMIT_NOFILE and its kin."""
    hard: int = 0
    soft: int = 0


class Scheduler(Struct):
    """sched_setattr(2); times in nanoseconds."""

    policy: str = ""
    nice: int = 0
    priority: int = 0
    flags: tuple[str, ...] = ()
    runtime: int = 0
    deadline: int = 0
    period: int = 0


class IOPriority(Struct):
    NAMES = {"class_": "class"}  # noqa: RUF012

    class_: str = ""
    """IOPRIO_CLASS_RT, _BE or _IDLE."""
    priority: int = 0


class ExecCPUAffinity(Struct):
    """CPUs of an exec'd process before and after it joins the container's cgroup."""

    initial: str = ""
    final: str = ""


class Process(Struct):
    ALWAYS = ("cwd", "user")
    NAMES = {  # noqa: RUF012
        "exec_cpu_affinity": "execCPUAffinity",
        "io_priority": "ioPriority",
    }

    terminal: bool = False
    console_size: Box | None = None
    user: User = User()
    args: tuple[str, ...] = ()
    command_line: str = ""
    """Windows only, ignored."""
    env: tuple[str, ...] = ()
    cwd: str = "/"
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    oom_score_adj: int | None = None
    scheduler: Scheduler | None = None
    selinux_label: str = ""
    io_priority: IOPriority | None = None
    exec_cpu_affinity: ExecCPUAffinity | None = None
