"""From what the kernel says, in either version's words, to one form."""

from __future__ import annotations

import pytest

from sampan.cri.stats.collect import (
    Figures,
    Pressure,
    Stall,
    cgroup_folder,
    descriptors,
    figures,
    file_system,
    parse_pressure,
    soft_limits,
    total,
)

V1 = {
    "cpu": {"usage_ns": 5, "user_ns": 3, "system_ns": 2, "periods": 7, "throttled_time_ns": 9},
    "memory": {
        "usage": 1000,
        "max_usage": 1500,
        "limit": 4096,
        "failcnt": 2,
        "oom_kill": 1,
    },
    "memory_stat": {
        "total_rss": 400,
        "rss": 1,
        "total_cache": 500,
        "total_inactive_file": 300,
        "total_active_file": 200,
        "total_mapped_file": 50,
        "total_pgfault": 11,
        "total_pgmajfault": 4,
        "total_swap": 64,
    },
    "swap": {"usage": 1064, "limit": 6144},
    "kernel": {"usage": 77},
    "pids": {"current": 6, "limit": -1},
}
V2 = {
    "cpu": V1["cpu"],
    "memory": V1["memory"],
    "memory_stat": {
        "anon": 400,
        "file": 500,
        "inactive_file": 300,
        "active_file": 200,
        "file_mapped": 50,
        "pgfault": 11,
        "pgmajfault": 4,
        "kernel": 77,
    },
    "swap": {"usage": 64, "limit": 2048},
    "pids": {"current": 6, "limit": -1},
}
EXPECTED = Figures(
    1,
    cpu_ns=5,
    cpu_user_ns=3,
    cpu_system_ns=2,
    cpu_periods=7,
    cpu_throttled_ns=9,
    memory_bytes=1000,
    memory_limit=4096,
    memory_peak=1500,
    memory_failures=2,
    working_set_bytes=700,
    rss_bytes=400,
    cache_bytes=500,
    kernel_bytes=77,
    mapped_file_bytes=50,
    active_file_bytes=200,
    inactive_file_bytes=300,
    page_faults=11,
    major_page_faults=4,
    oom_kills=1,
    swap_bytes=64,
    swap_limit=2048,
    threads=6,
    threads_limit=None,
    pids=(9,),
)


def test_both_versions_come_to_the_same() -> None:
    assert figures(V1, 1, unified_memory=False, pids=(9,)) == EXPECTED
    assert figures(V2, 1, unified_memory=True, pids=(9,)) == EXPECTED


def test_unlimited_is_none() -> None:
    v1 = {"memory": {"usage": 5, "limit": 9223372036854771712}, "swap": {"limit": 2**63 - 4096}}
    made = figures(v1, 1, unified_memory=False)
    assert (made.memory_limit, made.swap_limit, made.working_set_bytes) == (None, None, 5)
    v2 = {"memory": {"usage": 5, "limit": -1}, "memory_stat": {"kernel_stack": 3, "slab": 4}}
    made = figures(v2, 1, unified_memory=True)
    assert (made.memory_limit, made.swap_bytes, made.kernel_bytes) == (None, None, 7)


def test_what_is_not_known_is_none() -> None:
    made = figures({}, 1, unified_memory=False)
    assert (made.cpu_ns, made.memory_bytes, made.threads) == (None, None, None)


def test_pressure() -> None:
    text = (
        "some avg10=4.17 avg60=6.71 avg300=6.27 total=996077064\n"
        "full avg10=0.00 avg60=0.00 avg300=0.01 total=12\n"
    )
    assert parse_pressure(text) == Pressure(
        Stall(4.17, 6.71, 6.27, 996077064000), Stall(0.0, 0.0, 0.01, 12000)
    )
    assert parse_pressure("") == Pressure(None, None)


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("/kubepods/pod1/c1", "/kubepods/pod1/c1"),
        ("kubepods-pod1.slice:cri:c1", "/kubepods.slice/kubepods-pod1.slice/cri-c1.scope"),
        ("-.slice:cri:c1", "/cri-c1.scope"),
        ("a.slice:cri:b-c.slice", "/a.slice/b-c.slice"),
        ("system.slice::c1", "/system.slice/c1"),
    ],
)
def test_folders_of_both_drivers(path: str, folder: str) -> None:
    assert cgroup_folder(path) == folder


def test_totals_of_a_pod() -> None:
    one = Figures(1, cpu_ns=5, memory_bytes=10, io_bytes={"8:0 Read": 3}, pids=(1, 2))
    two = Figures(2, cpu_ns=7, threads=4, memory_limit=99, pids=(3,))
    made = total([one, two], 3)
    assert (made.timestamp_ns, made.cpu_ns, made.memory_bytes, made.threads) == (3, 12, 10, 4)
    assert (made.memory_limit, made.pids, made.swap_bytes) == (None, (1, 2, 3), None)


def test_what_has_gone_counts_nothing() -> None:
    assert file_system("/no/such/path") is None
    assert descriptors((2**22 + 1,)) == (0, 0)
    assert soft_limits(2**22 + 1) == {}
