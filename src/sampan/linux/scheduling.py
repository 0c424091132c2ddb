"""Who runs when, and where memory comes from: sched_setattr, ioprio_set, set_mempolicy by number.

Names are the headers', as config.json has them. All of it survives execve.
"""

from __future__ import annotations

import ctypes
import struct

from sampan.linux._libc import by_number, check

__all__ = [
    "IOPRIO_CLASSES",
    "MPOL_FLAGS",
    "MPOL_MODES",
    "SCHED_FLAGS",
    "SCHED_POLICIES",
    "get_mempolicy",
    "ioprio_get",
    "ioprio_set",
    "sched_getattr",
    "sched_setattr",
    "set_mempolicy",
]

SCHED_POLICIES: dict[str, int] = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHED_FLAGS: dict[str, int] = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IOPRIO_CLASSES: dict[str, int] = {
    "IOPRIO_CLASS_RT": 1,
    "IOPRIO_CLASS_BE": 2,
    "IOPRIO_CLASS_IDLE": 3,
}
MPOL_MODES: dict[str, int] = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MPOL_FLAGS: dict[str, int] = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}

_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
_IOPRIO_WHO_PROCESS = 1
_MASK_BITS = 1024
"""MAX_NUMNODES of the usual kernels; the call takes one bit more than it reads."""

_sched_setattr = by_number("sched_setattr", 3)
_sched_getattr = by_number("sched_getattr", 4)
_ioprio_set = by_number("ioprio_set", 3)
_ioprio_get = by_number("ioprio_get", 2)
_set_mempolicy = by_number("set_mempolicy", 3)
_get_mempolicy = by_number("get_mempolicy", 5)


def sched_setattr(
    pid: int,
    policy: int,
    *,
    flags: int = 0,
    nice: int = 0,
    priority: int = 0,
    runtime_ns: int = 0,
    deadline_ns: int = 0,
    period_ns: int = 0,
) -> None:
    """Set the scheduling of thread `pid` (0: the caller's).

    Raises:
      OSError: EPERM, not privileged, or a deadline task would be tied to some CPUs only; EBUSY,
        the deadline tasks of this machine leave no room; EINVAL, values that make no sense.

    Source: sched_setattr(2).
    """
    attributes = _ATTRIBUTES.pack(
        _ATTRIBUTES.size, policy, flags, nice, priority, runtime_ns, deadline_ns, period_ns
    )
    check(_sched_setattr(pid, attributes, 0), "sched_setattr")


def sched_getattr(pid: int) -> tuple[int, int, int, int]:
    """Return `(policy, flags, nice, priority)` of thread `pid`."""
    slot = bytearray(_ATTRIBUTES.size)
    buffer = (ctypes.c_char * len(slot)).from_buffer(slot)
    check(_sched_getattr(pid, buffer, len(slot), 0), "sched_getattr")
    _, policy, flags, nice, priority, *_ = _ATTRIBUTES.unpack(slot)
    return policy, flags, nice, priority


def ioprio_set(pid: int, class_: int, priority: int) -> None:
    """Set the I/O class and, within it, the priority (0 high, 7 low) of thread `pid`.

    Raises:
      OSError: EPERM, the real-time class needs CAP_SYS_ADMIN or CAP_SYS_NICE.

    Source: ioprio_set(2).
    """
    check(_ioprio_set(_IOPRIO_WHO_PROCESS, pid, class_ << 13 | priority), "ioprio_set")


def ioprio_get(pid: int) -> tuple[int, int]:
    """Return `(class, priority)` of thread `pid`."""
    value = check(_ioprio_get(_IOPRIO_WHO_PROCESS, pid), "ioprio_get")
    return value >> 13, value & 0x1FFF


def set_mempolicy(mode: int, nodes: int) -> None:
    """Set where the calling thread's memory comes from.

    Args:
      mode: A value of `MPOL_MODES` with those of `MPOL_FLAGS` or'ed in.
      nodes: A bit for each node; 0 where the mode takes none.

    Raises:
      OSError: EINVAL, mode and nodes do not go together, or no such node has memory.

    Source: set_mempolicy(2).
    """
    mask = nodes.to_bytes(_MASK_BITS // 8, "little") if nodes else None
    check(_set_mempolicy(mode, mask, _MASK_BITS + 1 if nodes else 0), "set_mempolicy")


def get_mempolicy() -> tuple[int, int]:
    """Return `(mode with flags, nodes as bits)` of the calling thread."""
    mode = ctypes.c_int()
    mask = ctypes.create_string_buffer(_MASK_BITS // 8)
    result = _get_mempolicy(ctypes.byref(mode), mask, _MASK_BITS + 1, None, 0)
    check(result, "get_mempolicy")
    return mode.value, int.from_bytes(mask.raw, "little")
