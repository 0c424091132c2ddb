"""What the plans refuse before anything is made."""

from __future__ import annotations

import pytest

from sampan.errors import InvalidArgument
from sampan.model.runtime.linux import Linux, MemoryPolicy, Namespace, Personality, TimeOffset
from sampan.model.runtime.process import ExecCPUAffinity, IOPriority, Process, Scheduler
from sampan.oci.plan import scheduling as plan
from sampan.oci.plan.namespaces import plan_namespaces
from sampan.oci.plan.process import plan_process


def test_affinity() -> None:
    wanted = ExecCPUAffinity(initial="0-2,5", final="1")
    assert plan.plan_affinity(wanted) == (frozenset({0, 1, 2, 5}), frozenset({1}))
    for bad in ("a", "1-", "3-1", "-1", "9999", "1,", "\uff11"):
        with pytest.raises(InvalidArgument):
            plan.plan_affinity(ExecCPUAffinity(initial=bad))


@pytest.mark.parametrize(
    "wanted",
    [
        Scheduler(policy="SCHED_NONE"),
        Scheduler(policy="SCHED_FIFO", nice=1),
        Scheduler(policy="SCHED_OTHER", priority=1),
        Scheduler(policy="SCHED_OTHER", runtime=1),
        Scheduler(policy="SCHED_OTHER", nice=20),
        Scheduler(policy="SCHED_OTHER", flags=("NO",)),
    ],
)
def test_schedulers(wanted: Scheduler) -> None:
    with pytest.raises(InvalidArgument):
        plan.plan_scheduler(wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        MemoryPolicy(mode="MPOL_NONE"),
        MemoryPolicy(mode="MPOL_BIND"),
        MemoryPolicy(mode="MPOL_LOCAL", nodes="0"),
        MemoryPolicy(mode="MPOL_DEFAULT", flags=("MPOL_F_STATIC_NODES",)),
        MemoryPolicy(mode="MPOL_INTERLEAVE", nodes="0", flags=("MPOL_F_NUMA_BALANCING",)),
        MemoryPolicy(
            mode="MPOL_BIND", nodes="0", flags=("MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES")
        ),
        MemoryPolicy(mode="MPOL_BIND", nodes="x"),
    ],
)
def test_memory_policies(wanted: MemoryPolicy) -> None:
    with pytest.raises(InvalidArgument):
        plan.plan_memory_policy(wanted)


def test_what_is_accepted() -> None:
    assert plan.plan_memory_policy(MemoryPolicy(mode="MPOL_BIND", nodes="0,2")) == (2, 5)
    assert plan.plan_io_priority(IOPriority(class_="IOPRIO_CLASS_IDLE")) == (3, 0)
    assert plan.plan_personality(Personality(domain="LINUX32")) == 8
    with pytest.raises(InvalidArgument):
        plan.plan_personality(Personality(domain="LINUX", flags=("X",)))


def test_ids_out_of_range() -> None:
    """Row 12 of the vulnerabilities: 4294967295 is -1, which leaves the id as it is."""
    base = Process(args=("true",))
    for uid in (4294967295, -1):
        with pytest.raises(InvalidArgument):
            plan_process(base.replace(user=base.user.replace(uid=uid)), None, "/")


def test_offsets_need_a_time_namespace() -> None:
    with pytest.raises(InvalidArgument, match="time offsets"):
        plan_namespaces(Linux(time_offsets={"boottime": TimeOffset(secs=1)}))
    pid = Namespace(type="pid")
    with pytest.raises(InvalidArgument, match="duplicated ns pid"):
        plan_namespaces(Linux(namespaces=(pid, pid)))
