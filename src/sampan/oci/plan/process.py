"""`process` of config.json, worked out: what the child sets on itself and executes."""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument
from sampan.linux import capabilities
from sampan.linux.process import RLIM_INFINITY, RLIMITS
from sampan.linux.scheduling import SCHED_POLICIES
from sampan.oci import log
from sampan.oci.plan import scheduling as sched
from sampan.oci.seccomp import Filter, compile_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.model.runtime.linux import Linux
    from sampan.model.runtime.process import Capabilities, Process
    from sampan.oci.plan.scheduling import SchedulerPlan

__all__ = ["ProcessPlan", "plan_process"]

_NO_ID = (1 << 32) - 1


class CapabilityPlan:
    """Five sets as bit masks."""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted")

    def __init__(self, wanted: Capabilities) -> None:
        self.bounding = _capability_set(wanted.bounding)
        self.effective = _capability_set(wanted.effective)
        self.inheritable = _capability_set(wanted.inheritable)
        self.permitted = _capability_set(wanted.permitted)
        self.ambient = _capability_set(wanted.ambient)


class ProcessPlan:
    __slots__ = (
        "affinity_final", "affinity_initial", "apparmor", "args", "capabilities", "console_size",
        "cwd", "env", "gid", "groups", "io_priority", "memory_policy", "no_new_privileges",
        "oom_score_adj", "path", "personality", "rlimits", "scheduler", "seccomp", "selinux",
        "terminal", "uid", "umask",
    )  # fmt: skip

    @property
    def resets_affinity(self) -> bool:
        """Whether it may run on every CPU of its cpuset; SCHED_DEADLINE allows no choice."""
        if self.affinity_initial is not None or self.affinity_final is not None:
            return False
        return self.scheduler is None or self.scheduler.policy != SCHED_POLICIES["SCHED_DEADLINE"]

    def __init__(self) -> None:
        self.args: list[bytes] = []
        self.env: dict[bytes, bytes] = {}
        self.path = b""
        """PATH of the environment, where the executable is searched."""
        self.cwd = b"/"
        self.uid = self.gid = 0
        self.groups: list[int] = []
        self.umask = 0o022
        self.capabilities: CapabilityPlan | None = None
        self.rlimits: list[tuple[int, int, int]] = []
        """(number, soft, hard)"""
        self.no_new_privileges = False
        self.oom_score_adj: int | None = None
        self.apparmor = b""
        self.selinux = b""
        self.scheduler: SchedulerPlan | None = None
        self.io_priority: tuple[int, int] | None = None
        """(class, priority)"""
        self.memory_policy: tuple[int, int] | None = None
        """(mode and flags, nodes as bits)"""
        self.personality: int | None = None
        self.affinity_initial: frozenset[int] | None = None
        self.affinity_final: frozenset[int] | None = None
        """CPUs before and after joining the cgroups; of an exec alone."""
        self.seccomp: Filter | None = None
        self.terminal = False
        self.console_size: tuple[int, int] | None = None
        """(rows, columns)"""


def plan_process(process: Process, linux: Linux | None, root: str) -> ProcessPlan:
    """Check `process` and encode it with what of `linux` every process of the container gets.

    Raises:
      InvalidArgument: it cannot be executed as it stands.
    """
    if not process.args:
        raise InvalidArgument("args must not be empty")
    if not process.cwd.startswith("/"):
        raise InvalidArgument("Cwd must be an absolute path")
    plan = ProcessPlan()
    plan.args = [os.fsencode(arg) for arg in process.args]
    plan.env = _environment(process.env)
    plan.path = plan.env.get(b"PATH", b"")
    plan.cwd = os.fsencode(process.cwd)
    _plan_ids(plan, process)
    if process.capabilities is not None:
        plan.capabilities = CapabilityPlan(process.capabilities)
    plan.rlimits = _rlimits(process)
    plan.no_new_privileges = process.no_new_privileges
    plan.oom_score_adj = process.oom_score_adj
    if plan.oom_score_adj is not None and not -1000 <= plan.oom_score_adj <= 1000:
        raise InvalidArgument(f"oomScoreAdj {plan.oom_score_adj} is not between -1000 and 1000")
    plan.apparmor = os.fsencode(process.apparmor_profile)
    plan.selinux = os.fsencode(process.selinux_label)
    plan.terminal = process.terminal
    if process.terminal and process.console_size is not None:
        plan.console_size = (process.console_size.height, process.console_size.width)
    plan.io_priority = sched.plan_io_priority(process.io_priority)
    plan.scheduler = sched.plan_scheduler(process.scheduler)
    if linux is not None:
        plan.personality = sched.plan_personality(linux.personality)
        plan.memory_policy = sched.plan_memory_policy(linux.memory_policy)
    seccomp = linux.seccomp if linux is not None else None
    if seccomp is not None:
        plan.seccomp = compile_filter(seccomp, root)
    return plan


def _environment(entries: Sequence[str]) -> dict[bytes, bytes]:
    environment = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"invalid environment variable: {entry!r}")
        environment[os.fsencode(name)] = os.fsencode(value)
    return environment


def _plan_ids(plan: ProcessPlan, process: Process) -> None:
    user = process.user
    for number in (user.uid, user.gid, *user.additional_gids):
        if not 0 <= number < _NO_ID:
            raise InvalidArgument(f"user or group id {number} is out of range")
    plan.uid, plan.gid = user.uid, user.gid
    plan.groups = list(user.additional_gids)
    if user.umask is not None:
        plan.umask = user.umask & 0o777


def _rlimits(process: Process) -> list[tuple[int, int, int]]:
    limits: dict[int, tuple[int, int, int]] = {}
    for limit in process.rlimits:
        number = RLIMITS.get(limit.type)
        if number is None:
            raise InvalidArgument(f"invalid rlimit type: {limit.type}")
        soft, hard = limit.soft & RLIM_INFINITY, limit.hard & RLIM_INFINITY
        if number in limits:
            raise InvalidArgument(f"rlimit {limit.type} is given twice")
        if soft > hard:
            raise InvalidArgument(f"rlimit {limit.type}: soft {soft} is above hard {hard}")
        limits[number] = (number, soft, hard)
    return list(limits.values())


def _capability_set(names: Sequence[str]) -> int:
    known = capabilities.NUMBERS
    unknown = [name for name in names if name not in known]
    if unknown:
        log.warning(f"ignoring unknown capabilities: {', '.join(unknown)}")
    return capabilities.set_of(name for name in names if name in known)
