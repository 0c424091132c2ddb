"""Scheduler, I/O priority, CPU affinity, personality and memory policy, checked and encoded."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.linux import scheduling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.linux import MemoryPolicy, Personality
    from sampan.model.runtime.process import ExecCPUAffinity, IOPriority, Scheduler

__all__ = [
    "SchedulerPlan",
    "plan_affinity",
    "plan_io_priority",
    "plan_memory_policy",
    "plan_personality",
    "plan_scheduler",
]

_MAX_NUMBER = 1023
_DOMAINS = {"LINUX": 0x0000, "LINUX32": 0x0008}
_WITHOUT_NODES = ("MPOL_DEFAULT", "MPOL_LOCAL")
_REAL_TIME = ("SCHED_FIFO", "SCHED_RR")
_NICE = ("SCHED_OTHER", "SCHED_BATCH")


class SchedulerPlan:
    """Arguments of sched_setattr(2)."""

    __slots__ = ("deadline_ns", "flags", "nice", "period_ns", "policy", "priority", "runtime_ns")

    def __init__(self, wanted: Scheduler) -> None:
        policy = scheduling.SCHED_POLICIES.get(wanted.policy)
        if policy is None:
            raise InvalidArgument(f"invalid scheduler policy: {wanted.policy}")
        self.policy = policy
        self.flags = 0
        for name in wanted.flags:
            if name not in scheduling.SCHED_FLAGS:
                raise InvalidArgument(f"invalid scheduler flag: {name}")
            self.flags |= scheduling.SCHED_FLAGS[name]
        self.nice = wanted.nice
        self.priority = wanted.priority
        self.runtime_ns = wanted.runtime
        self.deadline_ns = wanted.deadline
        self.period_ns = wanted.period

    def apply(self, pid: int) -> None:
        """Set it on thread `pid`."""
        scheduling.sched_setattr(
            pid,
            self.policy,
            flags=self.flags,
            nice=self.nice,
            priority=self.priority,
            runtime_ns=self.runtime_ns,
            deadline_ns=self.deadline_ns,
            period_ns=self.period_ns,
        )


def plan_scheduler(wanted: Scheduler | None) -> SchedulerPlan | None:
    """Check `process.scheduler`.

    Raises:
      InvalidArgument: a name is unknown, or a value does not belong to the policy.
    """
    if wanted is None:
        return None
    policy = wanted.policy
    if wanted.nice and (policy not in _NICE or not -20 <= wanted.nice <= 19):
        raise InvalidArgument(f"invalid scheduler.nice: {wanted.nice} with {policy}")
    if wanted.priority and policy not in _REAL_TIME:
        raise InvalidArgument("scheduler.priority can only be specified for SCHED_FIFO or SCHED_RR")
    if policy != "SCHED_DEADLINE" and (wanted.runtime or wanted.deadline or wanted.period):
        raise InvalidArgument(
            "scheduler runtime/deadline/period can only be specified for SCHED_DEADLINE"
        )
    return SchedulerPlan(wanted)


def plan_io_priority(wanted: IOPriority | None) -> tuple[int, int] | None:
    """Return (class, priority) of `process.ioPriority`."""
    if wanted is None:
        return None
    class_ = scheduling.IOPRIO_CLASSES.get(wanted.class_)
    if class_ is None or not 0 <= wanted.priority <= 7:
        raise InvalidArgument(f"invalid ioPriority: {wanted.class_} {wanted.priority}")
    return class_, wanted.priority


def plan_affinity(
    wanted: ExecCPUAffinity | None,
) -> tuple[frozenset[int] | None, frozenset[int] | None]:
    """Return the CPUs before and after an exec'd process joins its cgroup; None leaves them."""
    if wanted is None:
        return None, None
    initial = _numbers(wanted.initial, "execCPUAffinity.initial") if wanted.initial else None
    final = _numbers(wanted.final, "execCPUAffinity.final") if wanted.final else None
    return initial, final


def plan_personality(wanted: Personality | None) -> int | None:
    """Return the execution domain of `linux.personality`."""
    if wanted is None:
        return None
    if wanted.domain not in _DOMAINS:
        raise InvalidArgument(f"unknown personality domain {wanted.domain}")
    if wanted.flags:
        raise InvalidArgument(f"unsupported personality flag {wanted.flags[0]}")
    return _DOMAINS[wanted.domain]


def plan_memory_policy(wanted: MemoryPolicy | None) -> tuple[int, int] | None:
    """Return (mode and flags, nodes as bits) of `linux.memoryPolicy`.

    The kernel would say no more than EINVAL, so what it refuses is refused here by name.
    """
    if wanted is None:
        return None
    mode = scheduling.MPOL_MODES.get(wanted.mode)
    if mode is None:
        raise InvalidArgument(f"invalid memoryPolicy mode {wanted.mode!r}")
    for name in wanted.flags:
        if name not in scheduling.MPOL_FLAGS:
            raise InvalidArgument(f"invalid memoryPolicy flag {name!r}")
    flags = set(wanted.flags)
    nodes = 0
    for number in _numbers(wanted.nodes, "memoryPolicy.nodes") if wanted.nodes else ():
        nodes |= 1 << number
    if wanted.mode in _WITHOUT_NODES and (nodes or flags):
        raise InvalidArgument(f"memoryPolicy mode {wanted.mode} takes neither nodes nor flags")
    if not nodes and wanted.mode not in (*_WITHOUT_NODES, "MPOL_PREFERRED"):
        raise InvalidArgument(f"memoryPolicy mode {wanted.mode} requires nodes")
    if not nodes and flags:
        raise InvalidArgument("memoryPolicy flags require nodes")
    if {"MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"} <= flags:
        raise InvalidArgument("memoryPolicy flags for static and relative nodes exclude each other")
    if "MPOL_F_NUMA_BALANCING" in flags and wanted.mode not in ("MPOL_BIND", "MPOL_PREFERRED_MANY"):
        raise InvalidArgument(f"MPOL_F_NUMA_BALANCING does not go with {wanted.mode}")
    for name in flags:
        mode |= scheduling.MPOL_FLAGS[name]
    return mode, nodes


def _numbers(text: str, what: str) -> frozenset[int]:
    """Parse a list such as `0-2,5`."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        for end in ends:
            if not (end.isascii() and end.isdigit()) or int(end) > _MAX_NUMBER:
                raise InvalidArgument(f"invalid {what}: {text!r}")
        if int(ends[0]) > int(ends[1]):
            raise InvalidArgument(f"invalid {what}: {text!r}")
        found.update(range(int(ends[0]), int(ends[1]) + 1))
    return frozenset(found)
