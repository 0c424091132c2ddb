"""The shape of statistics."""

from __future__ import annotations

from sampan.oci.statistics import statistics


def test_shape() -> None:
    counted = {
        "cpu": {"usage_ns": 5, "user_ns": 3, "system_ns": 2, "periods": 9},
        "percpu_ns": {"10": 1, "2": 4},
        "memory": {"usage": 7, "limit": 8, "max_usage": 9, "failcnt": 1},
        "memory_stat": {"cache": 6},
        "pids": {"current": 2, "limit": 0},
        "io_bytes": {"8:0 Read": 3, "Total": 4},
        "hugetlb.2MB": {"usage": 1},
    }
    found = statistics(counted)
    usage = {"total": 5, "percpu": [4, 1], "kernel": 2, "user": 3}
    assert found["cpu"]["usage"] == usage
    assert found["memory"]["usage"] == {"limit": 8, "usage": 7, "max": 9, "failcnt": 1}
    assert found["memory"]["cache"] == 6
    assert found["pids"] == {"current": 2}
    entry = {"major": 8, "minor": 0, "op": "Read", "value": 3}
    assert found["blkio"] == {"ioServiceBytesRecursive": [entry]}
    assert found["hugetlb"] == {"2MB": {"usage": 1, "max": 0, "failcnt": 0}}
    assert statistics({})["memory"]["raw"] == {}
