"""config.json, `linux.seccomp`. Source: config-linux.md#seccomp."""

from __future__ import annotations

from sampan.model.runtime.struct import Struct

Uint32 = int

__all__ = ["Seccomp", "SeccompArg", "Syscall"]


class SeccompArg(Struct):
    """One comparison of an argument of a system call."""

    index: Uint32
    value: int
    value_two: int = 0
    op: str
    """SCMP_CMP_NE, LT, LE, EQ, GE, GT or MASKED_EQ."""


class Syscall(Struct):
    """What to do on some system calls, when all of `args` hold."""

    names: tuple[str, ...]
    action: str
    errno_ret: Uint32 | None = None
    args: tuple[SeccompArg, ...] = ()


class Seccomp(Struct):
    default_action: str
    default_errno_ret: Uint32 | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[Syscall, ...] = ()
