"""Metrics: each that is described is made, with as many label values as keys."""

from __future__ import annotations

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.stats import Layer
from sampan.cri.stats.collect import Descriptors, Figures, FileSystem
from sampan.cri.stats.interfaces import Interface
from sampan.cri.stats.metrics import (
    TABLE,
    Sample,
    container_metrics,
    descriptors_of,
    pod_metrics,
)

LABELS = ["pod", "ns", "c", "id", "image"]
SECOND = 1_000_000_000
SAMPLE = Sample(
    Figures(
        5 * SECOND,
        cpu_ns=3 * SECOND,
        memory_bytes=10,
        threads=4,
        threads_limit=None,
        io_bytes={"8:0 Read": 100, "8:0 Write": 200, "8:0 Discard": 1},
        io_operations={"8:0 Read": 1, "8:0 Write": 2},
        pids=(1, 2, 3),
    ),
    Descriptors(7, 2),
    {"RLIMIT_NOFILE": 1024, "RLIMIT_CORE": 2**64 - 1},
    2 * SECOND,
    Layer(1, 4096, 3, "/m"),
    FileSystem(1 << 30, 1 << 29, 1000, 900),
    {
        "process": {"rlimits": [{"type": "RLIMIT_CORE"}]},
        "linux": {
            "resources": {
                "cpu": {"period": 100000, "shares": 512},
                "memory": {"limit": 4096, "reservation": 2048, "swap": -1},
            }
        },
    },
)


def values(metrics: list[pb.Metric]) -> dict[tuple[str, ...], int]:
    """Return name and labels after the common ones to value."""
    return {(one.name, *one.label_values[5:]): one.value.value for one in metrics}


def test_everything_described_is_made_and_fits() -> None:
    network = [Interface("eth0", *range(8))]
    made = container_metrics(LABELS, SAMPLE) + pod_metrics(LABELS, network, 1)
    described = {one.name: list(one.label_keys) for one in descriptors_of()}
    assert {one.name for one in made} == described.keys() == TABLE.keys()
    for one in made:
        assert len(one.label_values) == len(described[one.name]), one.name
        assert one.metric_type == TABLE[one.name][1]
        assert list(one.label_values[:5]) == LABELS
    assert len(described) == 49


def test_values() -> None:
    made = values(container_metrics(LABELS, SAMPLE))
    assert made["container_cpu_usage_seconds_total",] == 3
    assert made["container_last_seen",] == 5
    assert made["container_start_time_seconds",] == 2
    assert made["container_processes",] == 3
    assert made["container_threads",] == 4
    assert made["container_threads_max",] == 0
    assert made["container_sockets",] == 2
    assert made["container_ulimits_soft", "RLIMIT_NOFILE"] == 1024
    assert made["container_ulimits_soft", "RLIMIT_CORE"] == 2**64 - 1
    assert made["container_spec_memory_swap_limit_bytes",] == 0
    assert made["container_fs_inodes_free", "/"] == 900
    assert made["container_memory_failures_total", "pgmajfault", "container"] == 0


def test_devices_have_names_where_there_are_any() -> None:
    made = values(container_metrics(LABELS, SAMPLE))
    keys = [key for key in made if key[0] == "container_blkio_device_usage_total"]
    assert [key[2:] for key in keys] == [
        ("8", "0", "Read"),
        ("8", "0", "Write"),
        ("8", "0", "Discard"),
    ]
    assert keys[0][1] in {"/dev/sda", "8:0"}


def test_what_is_not_known_makes_no_metric() -> None:
    bare = Sample(Figures(SECOND), Descriptors(0, 0), {}, 0)
    names = {one.name for one in container_metrics(LABELS, bare)}
    assert names == {
        "container_last_seen",
        "container_start_time_seconds",
        "container_processes",
        "container_file_descriptors",
        "container_sockets",
    }
