"""Adjustments in config.json: each field, where it goes, and what is already there."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri.nri import adjusted, updated
from sampan.errors import InvalidArgument


def test_nothing_changes_nothing() -> None:
    spec = {"ociVersion": "1.2.0", "process": {"args": ["sh"]}, "mounts": [], "linux": {"x": 1}}
    assert adjusted(spec, pb.ContainerAdjustment()) == spec
    assert adjusted({}, pb.ContainerAdjustment()) == {}


def test_the_original_stays() -> None:
    spec: dict[str, Any] = {"process": {"env": ["A=1"]}, "linux": {"devices": []}}
    change = pb.ContainerAdjustment()
    change.env.add(key="A", value="2")
    change.linux.devices.add(path="/dev/x", type="b", major=1, minor=2)
    adjusted(spec, change)
    assert spec == {"process": {"env": ["A=1"]}, "linux": {"devices": []}}


def test_process() -> None:
    change = pb.ContainerAdjustment(args=["new"])
    change.env.add(key="B", value="x=y")
    change.env.add(key="-A")
    change.env.add(key="C", value="")
    change.rlimits.add(type="RLIMIT_CORE", hard=2, soft=1)
    change.linux.oom_score_adj.value = -5
    change.linux.io_priority.CopyFrom(
        pb.LinuxIOPriority(**{"class": pb.IOPRIO_CLASS_BE, "priority": 3})
    )
    change.linux.scheduler.CopyFrom(
        pb.LinuxScheduler(
            policy=pb.SCHED_BATCH, nice=4, flags=[pb.SCHED_FLAG_RESET_ON_FORK], runtime=7
        )
    )
    spec = {
        "process": {
            "args": ["old"],
            "env": ["A=1", "B=2", "D=4"],
            "rlimits": [{"type": "RLIMIT_CORE", "hard": 9, "soft": 9}],
        }
    }
    assert adjusted(spec, change)["process"] == {
        "args": ["new"],
        "env": ["B=x=y", "D=4", "C="],
        "rlimits": [{"type": "RLIMIT_CORE", "hard": 2, "soft": 1}],
        "oomScoreAdj": -5,
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 3},
        "scheduler": {
            "policy": "SCHED_BATCH",
            "nice": 4,
            "runtime": 7,
            "flags": ["SCHED_FLAG_RESET_ON_FORK"],
        },
    }


def test_mounts_are_ordered_by_depth_and_share_the_root() -> None:
    change = pb.ContainerAdjustment()
    change.mounts.add(destination="/a/b", source="/s", type="bind", options=["rbind", "rslave"])
    change.mounts.add(destination="-/gone")
    spec = {
        "mounts": [
            {"destination": "/a/b/c", "source": "x"},
            {"destination": "/gone", "source": "x"},
            {"destination": "/proc", "source": "proc"},
            {"destination": "/a/b", "source": "old"},
        ]
    }
    made = adjusted(spec, change)
    assert [one["destination"] for one in made["mounts"]] == ["/proc", "/a/b", "/a/b/c"]
    assert made["mounts"][1] == {
        "destination": "/a/b",
        "source": "/s",
        "type": "bind",
        "options": ["rbind", "rslave"],
    }
    assert made["linux"]["rootfsPropagation"] == "rslave"
    change.mounts.add(destination="/s", source="/s", options=["rshared"])
    assert adjusted(spec, change)["linux"]["rootfsPropagation"] == "rshared"


def test_hooks() -> None:
    change = pb.ContainerAdjustment()
    change.hooks.poststop.add(path="/p", args=["p", "x"], env=["A=1"])
    change.hooks.create_runtime.add(path="/c").timeout.value = 5
    made = adjusted({"hooks": {"poststop": [{"path": "/old"}]}}, change)
    assert made["hooks"] == {
        "poststop": [{"path": "/old"}, {"path": "/p", "args": ["p", "x"], "env": ["A=1"]}],
        "createRuntime": [{"path": "/c", "timeout": 5}],
    }


def test_devices_come_with_their_rule() -> None:
    change = pb.ContainerAdjustment()
    device = change.linux.devices.add(path="/dev/a", type="c", major=1, minor=3)
    device.file_mode.value = 0o440
    device.uid.value = 0
    change.linux.devices.add(path="-/dev/b")
    spec = {"linux": {"devices": [{"path": "/dev/b", "type": "c", "major": 9, "minor": 9}]}}
    linux = adjusted(spec, change)["linux"]
    numbers = {"type": "c", "major": 1, "minor": 3}
    assert linux["devices"] == [{"path": "/dev/a", **numbers, "fileMode": 0o440, "uid": 0}]
    assert linux["resources"]["devices"] == [{"allow": True, **numbers, "access": "rm"}]


def test_the_rest_of_linux() -> None:
    change = pb.ContainerAdjustment(annotations={"a": "1", "-b": ""})
    linux = change.linux
    linux.cgroups_path = "/x/y"
    linux.namespaces.add(type="-ipc")
    linux.namespaces.add(type="network", path="/n")
    linux.sysctl["-s"] = ""
    linux.sysctl["t"] = "1"
    linux.net_devices["eth1"].name = "data"
    linux.net_devices["-eth2"].SetInParent()
    linux.memory_policy.CopyFrom(
        pb.LinuxMemoryPolicy(mode=pb.MPOL_BIND, nodes="0", flags=[pb.MPOL_F_STATIC_NODES])
    )
    linux.rdt.clos_id.value = "gold"
    linux.rdt.schemata.value.append("L3:0=f")
    linux.rdt.enable_monitoring.value = True
    linux.seccomp_policy.default_action = "SCMP_ACT_ERRNO"
    linux.seccomp_policy.default_errno.value = 38
    linux.seccomp_policy.architectures.append("SCMP_ARCH_X86_64")
    rule = linux.seccomp_policy.syscalls.add(names=["read"], action="SCMP_ACT_ALLOW")
    rule.args.add(index=1, value=2, value_two=3, op="SCMP_CMP_EQ")
    spec = {
        "annotations": {"b": "2", "c": "3"},
        "linux": {
            "namespaces": [{"type": "ipc"}, {"type": "network"}],
            "sysctl": {"s": "0"},
            "netDevices": {"eth2": {}},
            "intelRdt": {"closID": "old", "enableCMT": True},
        },
    }
    made = adjusted(spec, change)
    assert made["annotations"] == {"a": "1", "c": "3"}
    assert made["linux"] == {
        "cgroupsPath": "/x/y",
        "namespaces": [{"type": "network", "path": "/n"}],
        "sysctl": {"t": "1"},
        "netDevices": {"eth1": {"name": "data"}},
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        "intelRdt": {
            "closID": "gold",
            "enableCMT": True,
            "schemata": ["L3:0=f"],
            "enableMonitoring": True,
        },
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {
                    "names": ["read"],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_EQ"}],
                }
            ],
        },
    }
    linux.rdt.Clear()
    linux.rdt.remove = True
    assert "intelRdt" not in adjusted(spec, change)["linux"]


def test_resources() -> None:
    change = pb.LinuxResources(unified={"memory.high": "5"})
    change.memory.limit.value = 10
    change.memory.disable_oom_killer.value = False
    change.memory.swappiness.value = 0
    change.cpu.shares.value = 4
    change.cpu.cpus = "0-1"
    change.pids.limit = -1
    change.hugepage_limits.add(page_size="2MB", limit=3)
    rule = change.devices.add(allow=True, type="c", access="r")
    rule.major.value = 1
    before = {
        "memory": {"limit": 1, "reservation": 2},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 1}],
        "unified": {"cpu.max": "1 2"},
    }
    assert updated(before, change) == {
        "memory": {"limit": 10, "reservation": 2, "disableOOMKiller": False, "swappiness": 0},
        "cpu": {"shares": 4, "cpus": "0-1"},
        "pids": {"limit": -1},
        "hugepageLimits": [{"pageSize": "1GB", "limit": 1}, {"pageSize": "2MB", "limit": 3}],
        "unified": {"cpu.max": "1 2", "memory.high": "5"},
        "devices": [{"allow": True, "type": "c", "access": "r", "major": 1}],
    }
    assert before["memory"] == {"limit": 1, "reservation": 2}


def test_classes() -> None:
    change = pb.ContainerAdjustment()
    change.linux.resources.rdt_class.value = "silver"
    assert adjusted({}, change)["linux"]["intelRdt"] == {"closID": "silver"}
    change.linux.resources.blockio_class.value = "slow"
    with pytest.raises(InvalidArgument, match="'slow'"):
        adjusted({}, change)
