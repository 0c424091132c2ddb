"""What plugins see of a config.json and of the CRI's resources."""

from __future__ import annotations

from sampan.api.cri.v1 import api_pb2 as cri
from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri.nri import container_message, cri_resources, kubelets_resources, updated
from sampan.cri.nri.convert import resources_message

RESOURCES = {
    "memory": {"limit": 5, "swap": -1, "kernelTCP": 3, "disableOOMKiller": True},
    "cpu": {"shares": 7, "quota": -1, "period": 100, "cpus": "0", "mems": "0"},
    "pids": {"limit": 0},
    "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
    "unified": {"a": "b"},
    "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1}],
}
SPEC = {
    "process": {
        "args": ["sh"],
        "env": ["A=1"],
        "user": {"uid": 1, "gid": 2, "additionalGids": [3]},
        "rlimits": [{"type": "RLIMIT_CORE", "hard": 2, "soft": 1}],
        "oomScoreAdj": 0,
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 1},
    },
    "hooks": {"prestart": [{"path": "/h", "args": ["h"], "timeout": 3}]},
    "mounts": [{"destination": "/m", "source": "s", "type": "bind", "options": ["ro"]}],
    "annotations": {"k": "v"},
    "linux": {
        "cgroupsPath": "/x",
        "namespaces": [{"type": "pid"}],
        "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 2, "fileMode": 0o600}],
        "resources": RESOURCES,
        "sysctl": {"a": "1"},
        "netDevices": {"eth1": {"name": "data"}},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "syscalls": [
                {
                    "names": ["read"],
                    "action": "SCMP_ACT_ALLOW",
                    "errnoRet": 2,
                    "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
                }
            ],
        },
    },
}


def test_a_container() -> None:
    made = container_message(
        SPEC,
        id="c",
        pod_id="p",
        name="n",
        state=pb.CONTAINER_RUNNING,
        labels={"l": "1"},
        pid=9,
        created_at_ns=1,
        image="busybox",
        seccomp=cri.SecurityProfile(
            profile_type=cri.SecurityProfile.Localhost, localhost_ref="mine.json"
        ),
    )
    assert (made.id, made.pod_sandbox_id, made.name, made.pid) == ("c", "p", "n", 9)
    assert made.state == pb.CONTAINER_RUNNING
    assert (list(made.args), list(made.env)) == (["sh"], ["A=1"])
    assert dict(made.annotations) == {"k": "v"}
    assert made.user == pb.User(uid=1, gid=2, additional_gids=[3])
    assert made.hooks.prestart[0].timeout.value == 3
    assert made.mounts[0].options == ["ro"]
    assert made.rlimits[0].hard == 2
    assert made.image.name == "busybox"
    linux = made.linux
    assert linux.HasField("oom_score_adj")
    assert linux.devices[0].file_mode.value == 0o600
    assert not linux.devices[0].HasField("uid")
    assert linux.net_devices["eth1"].name == "data"
    assert linux.seccomp_policy.syscalls[0].errno_ret.value == 2
    assert linux.seccomp_policy.syscalls[0].args[0].op == "SCMP_CMP_EQ"
    assert getattr(linux.io_priority, "class") == pb.IOPRIO_CLASS_IDLE
    assert linux.cgroups_path == "/x"
    assert linux.seccomp_profile.profile_type == pb.SecurityProfile.LOCALHOST
    assert linux.seccomp_profile.localhost_ref == "mine.json"


def test_an_empty_one() -> None:
    made = container_message({}, id="c", pod_id="p", name="n")
    assert not made.linux.HasField("oom_score_adj")
    assert not made.HasField("user")


def test_resources_there_and_back() -> None:
    message = resources_message(RESOURCES)
    assert message.memory.swap.value == -1
    assert not message.memory.HasField("reservation")
    assert message.HasField("pids")
    assert updated({}, message) == RESOURCES


def test_the_cris_resources() -> None:
    made = cri_resources(
        cri.LinuxContainerResources(
            cpu_shares=5,
            cpuset_cpus="1",
            memory_limit_in_bytes=7,
            memory_swap_limit_in_bytes=9,
            hugepage_limits=[cri.HugepageLimit(page_size="2MB", limit=3)],
            unified={"a": "b"},
        )
    )
    assert (made.cpu.shares.value, made.cpu.cpus, made.memory.swap.value) == (5, "1", 9)
    assert not made.cpu.HasField("quota")
    assert made.hugepage_limits[0].limit == 3
    assert dict(made.unified) == {"a": "b"}
    back = kubelets_resources(made)
    assert (back.cpu_shares, back.cpuset_cpus, back.memory_limit_in_bytes) == (5, "1", 7)
    assert (back.hugepage_limits[0].limit, dict(back.unified)) == (3, {"a": "b"})
