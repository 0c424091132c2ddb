"""config.json: each topic's module, and the whole, from requests alone; no kernel is asked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.containers.signals import number_of, signal_enum, stop_signal_of
from sampan.cri.sandboxes.files import hostname_of
from sampan.cri.sandboxes.holder import program
from sampan.cri.sandboxes.namespaces import check, id_maps
from sampan.cri.sandboxes.network import _rate
from sampan.cri.spec import capabilities, cdi, devices, mounts, process, resources, seccomp, users
from sampan.cri.spec.annotations import annotations_of
from sampan.cri.spec.build import Parts, build, exec_process
from sampan.cri.spec.oom import oom_score
from sampan.cri.store.records import Pod
from sampan.engine.cri import RuntimeConfig, RuntimeHandler
from sampan.errors import FailedPrecondition, InvalidArgument, Unimplemented
from sampan.model.image import ContainerConfig
from sampan.model.runtime.linux import Namespace
from sampan.model.runtime.process import Process
from sampan.model.runtime.spec import Mount, Spec

Security = pb.LinuxContainerSecurityContext


def test_command_line() -> None:
    image = ContainerConfig(entrypoint=("entry",), cmd=("cmd", "arg"))

    def argv(command: tuple[str, ...] = (), args: tuple[str, ...] = ()) -> tuple[str, ...]:
        return process.arguments_of(pb.ContainerConfig(command=command, args=args), image)

    assert argv() == ("entry", "cmd", "arg")
    assert argv(args=("x",)) == ("entry", "x")
    assert argv(command=("c",)) == ("c",)
    assert argv(command=("c",), args=("x",)) == ("c", "x")
    with pytest.raises(InvalidArgument, match="no command"):
        process.arguments_of(pb.ContainerConfig(), ContainerConfig())


def test_environment() -> None:
    config = pb.ContainerConfig(tty=True, envs=[pb.KeyValue(key="A", value=b"\xff=b")])
    image = ContainerConfig(env=("A=image", "B=b=c"))
    found = process.environment_of(config, image, "host")
    assert "HOSTNAME=host" in found
    assert "TERM=xterm" in found
    assert "B=b=c" in found
    assert os.fsencode(next(one for one in found if one.startswith("A="))) == b"A=\xff=b"
    for key, value in (("", b""), ("a=b", b""), ("a", b"\0")):
        wrong = pb.ContainerConfig(envs=[pb.KeyValue(key=key, value=value)])
        with pytest.raises(InvalidArgument):
            process.environment_of(wrong, image, "h")


@pytest.mark.parametrize(
    ("request_", "image", "result"),
    [("", "", "/"), ("/a", "/b", "/a"), ("", "/b/../c", "/c"), ("rel", "", "/rel")],
)
def test_folder(request_: str, image: str, result: str) -> None:
    config = pb.ContainerConfig(working_dir=request_)
    assert process.folder_of(config, ContainerConfig(working_dir=image)) == result


def test_capabilities() -> None:
    def names(**wanted: list[str]) -> tuple[str, ...]:
        return capabilities.names_of(Security(capabilities=pb.Capability(**wanted)))

    assert "CAP_CHOWN" in names()
    assert "CAP_SYS_ADMIN" not in names()
    assert names(drop_capabilities=["ALL"]) == ()
    assert names(drop_capabilities=["all"], add_capabilities=["net_admin"]) == ("CAP_NET_ADMIN",)
    everything = names(add_capabilities=["ALL"], drop_capabilities=["CAP_CHOWN"])
    assert "CAP_NET_ADMIN" in everything
    assert "CAP_CHOWN" not in everything
    with pytest.raises(InvalidArgument, match="unknown capability"):
        names(add_capabilities=["CAP_FLY"])
    sets = capabilities.capabilities_of(
        Security(capabilities=pb.Capability(add_ambient_capabilities=["NET_ADMIN"]))
    )
    assert sets.ambient == sets.inheritable == ("CAP_NET_ADMIN",)
    assert "CAP_NET_ADMIN" in sets.bounding


def test_seccomp(tmp_path: Path) -> None:
    def filter_of(security: Security, unset: str = "") -> Any:
        return seccomp.seccomp_of(security, (), unset)

    assert filter_of(Security()) is None
    assert filter_of(Security(), "runtime/default") is not None
    assert filter_of(Security(privileged=True), "runtime/default") is None
    assert filter_of(Security(seccomp=pb.SecurityProfile())) is not None
    assert filter_of(Security(seccomp_profile_path="unconfined")) is None
    profile = tmp_path / "p.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}')
    local = pb.SecurityProfile.Localhost
    for security in (
        Security(seccomp=pb.SecurityProfile(profile_type=local, localhost_ref=str(profile))),
        Security(seccomp_profile_path=f"localhost/{profile}"),
    ):
        assert filter_of(security).default_action == "SCMP_ACT_ALLOW"
    for security in (
        Security(seccomp=pb.SecurityProfile(profile_type=local)),
        Security(seccomp=pb.SecurityProfile(profile_type=local, localhost_ref="relative")),
        Security(seccomp=pb.SecurityProfile(profile_type=local, localhost_ref="/none")),
        Security(seccomp=pb.SecurityProfile(localhost_ref="/x")),
        Security(seccomp_profile_path="strange"),
    ):
        with pytest.raises(InvalidArgument):
            filter_of(security)


def test_users(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:\nalice:x:1000:100::/:\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nusers:x:100:\nwheel:x:50:alice\n")
    fd = os.open(tmp_path, os.O_RDONLY)

    def ids(image: str = "", **more: Any) -> tuple[int, int, tuple[int, ...]]:
        user = users.user_of(Security(**more), image, fd)
        return user.uid, user.gid, user.additional_gids

    number = pb.Int64Value
    try:
        assert ids() == (0, 0, (0,))
        assert ids("alice") == (1000, 100, (100, 50))
        assert ids("alice:root") == (1000, 0, (0, 50))
        assert ids("alice", supplemental_groups=[7, 7]) == (1000, 100, (100, 50, 7))
        assert ids("alice", supplemental_groups_policy=pb.Strict) == (1000, 100, (100,))
        assert ids(run_as_user=number(value=1000)) == (1000, 100, (100, 50))
        assert ids(run_as_user=number(value=5), run_as_group=number(value=6)) == (5, 6, (6,))
        assert ids(run_as_username="alice", run_as_group=number(value=6)) == (1000, 6, (6, 50))
        for wrong in (
            {"run_as_group": number(value=1)},
            {"run_as_user": number(value=-1)},
            {"run_as_user": number(value=1 << 31)},
            {"run_as_username": "bob"},
            {"supplemental_groups": [-1]},
        ):
            with pytest.raises(InvalidArgument):
                ids(**wrong)
    finally:
        os.close(fd)


def test_resources() -> None:
    wanted = pb.LinuxContainerResources(
        cpu_shares=2, cpu_quota=-1, memory_limit_in_bytes=10, cpuset_cpus="0", unified={"a": "b"}
    )
    wanted.hugepage_limits.add(page_size="2MB", limit=5)
    made = resources.resources_of(wanted, hugepages=True)
    assert made.cpu is not None
    assert (made.cpu.shares, made.cpu.quota, made.cpu.period, made.cpu.cpus) == (2, -1, None, "0")
    assert made.memory is not None
    assert made.memory.limit == 10
    assert made.hugepage_limits[0].limit == 5
    assert made.unified == {"a": "b"}
    empty = resources.resources_of(pb.LinuxContainerResources(), hugepages=False)
    assert (empty.cpu, empty.memory, empty.unified) == (None, None, None)
    with pytest.raises(InvalidArgument):
        resources.resources_of(
            pb.LinuxContainerResources(memory_limit_in_bytes=9, memory_swap_limit_in_bytes=8),
            hugepages=False,
        )
    with pytest.raises(InvalidArgument):
        resources.resources_of(pb.LinuxContainerResources(cpu_shares=-1), hugepages=False)
    both = resources.merged(wanted, pb.LinuxContainerResources(cpu_shares=9, unified={"c": "d"}))
    assert (both.cpu_shares, both.memory_limit_in_bytes) == (9, 10)
    assert dict(both.unified) == {"a": "b", "c": "d"}
    assert len(both.hugepage_limits) == 1


def test_devices() -> None:
    config = pb.ContainerConfig()
    nodes, rules = devices.devices_of(config, all_host=False, all_allowed=False)
    assert nodes == ()
    assert [rule.allow for rule in rules] == [False]
    config.devices.add(host_path="/dev/null", container_path="/dev/nothing", permissions="r")
    nodes, rules = devices.devices_of(config, all_host=False, all_allowed=False)
    assert (nodes[0].path, nodes[0].major, nodes[0].minor) == ("/dev/nothing", 1, 3)
    assert (rules[1].allow, rules[1].access, rules[1].major) == (True, "r", 1)
    config.linux.security_context.run_as_user.value = 7
    nodes, _ = devices.devices_of(config, all_host=False, all_allowed=False, owned=True)
    assert (nodes[0].uid, nodes[0].gid) == (7, 0)
    for path, access in (("/dev/none-there", "r"), ("/dev/null", "rx"), ("/etc/passwd", "r")):
        wrong = pb.ContainerConfig(devices=[pb.Device(host_path=path, permissions=access)])
        with pytest.raises(InvalidArgument):
            devices.devices_of(wrong, all_host=False, all_allowed=False)


CDI = {
    "cdiVersion": "0.6.0",
    "kind": "vendor.example/gpu",
    "containerEdits": {"env": ["COMMON=1"], "hooks": [
        {"hookName": "createContainer", "path": "/bin/true", "args": ["true"]}
    ]},
    "devices": [
        {"name": "0", "containerEdits": {
            "env": ["GPU=zero", "PATH=/gpu"],
            "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null"}],
            "mounts": [{"hostPath": "/usr", "containerPath": "/gpu", "options": ["ro", "bind"]}],
            "additionalGids": [44],
        }},
        {"name": "1", "containerEdits": {}},
    ],
}  # fmt: skip


def test_cdi(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/gpu.json").write_text(json.dumps(CDI))
    bare = Spec(process=Process(args=("x",), env=("PATH=/bin",)), linux=_linux(), mounts=())
    folders = (str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "none"))
    made = cdi.injected(bare, ["vendor.example/gpu=0", "vendor.example/gpu=1"], folders)
    assert made.process is not None
    assert made.linux is not None
    assert made.process.env == ("PATH=/gpu", "COMMON=1", "GPU=zero")
    assert made.process.user.additional_gids == (44,)
    assert (made.linux.devices[0].path, made.linux.devices[0].minor) == ("/dev/gpu0", 3)
    assert made.linux.resources is not None
    assert made.linux.resources.devices[-1].allow
    assert made.mounts == (
        Mount(destination="/gpu", type="bind", source="/usr", options=("ro", "bind")),
    )
    assert made.hooks is not None
    assert len(made.hooks.create_container) == 1
    assert cdi.injected(bare, [], folders) is bare
    # A later folder wins; the same folder twice is an error.
    other = {**CDI, "devices": [{"name": "0", "containerEdits": {"env": ["GPU=b"]}}]}
    (tmp_path / "b/gpu.json").write_text(json.dumps(other))
    made = cdi.injected(bare, ["vendor.example/gpu=0"], folders)
    assert made.process is not None
    assert "GPU=b" in made.process.env
    (tmp_path / "b/twice.json").write_text(json.dumps(other))
    with pytest.raises(FailedPrecondition, match="remove one"):
        cdi.injected(bare, ["vendor.example/gpu=0"], folders)
    (tmp_path / "b/twice.json").write_text("{")
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        cdi.injected(bare, ["vendor.example/gpu=0"], folders)
    with pytest.raises(FailedPrecondition, match="unresolvable"):
        cdi.injected(bare, ["vendor.example/gpu=9"], folders[:1])
    with pytest.raises(InvalidArgument):
        cdi.injected(bare, ["gpu0"], folders[:1])
    assert cdi.names_in(["a/b=1"], {"cdi.k8s.io/x": "a/b=1, a/b=2"}) == ["a/b=1", "a/b=2"]


def _linux() -> Any:
    from sampan.model.runtime.linux import Linux

    return Linux()


def test_mounts() -> None:
    assert [one.destination for one in _system()] == [
        "/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup",
    ]  # fmt: skip
    assert "ro" in next(one for one in _system() if one.destination == "/sys").options
    assert (
        "ro"
        not in next(one for one in _system(privileged=True) if one.destination == "/sys").options
    )
    assert _system(taken=frozenset({"/proc"}))[0].destination == "/dev"
    bound = next(one for one in _system(bind_sys=True) if one.destination == "/sys")
    assert bound.type == "bind"
    deep = (Mount(destination="/a/b"), Mount(destination="/a"), Mount(destination="/c/d/e"))
    assert [one.destination for one in mounts.sorted_mounts(list(deep))] == ["/a", "/a/b", "/c/d/e"]
    assert mounts.root_propagation([pb.Mount()]) == ""
    assert (
        mounts.root_propagation(
            [pb.Mount(propagation=pb.PROPAGATION_HOST_TO_CONTAINER), pb.Mount()]
        )
        == "rslave"
    )
    assert (
        mounts.root_propagation([pb.Mount(propagation=pb.PROPAGATION_BIDIRECTIONAL)]) == "rshared"
    )


def _system(**more: Any) -> list[Mount]:
    values = {"privileged": False, "cgroup_writable": False, "bind_sys": False, **more}
    return mounts.system(**{"taken": frozenset(), **values})


def test_annotations() -> None:
    config = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="n", uid="u"))
    config.annotations.update({"x.io/a": "1", "y": "2"})
    pod = Pod(id="p", config=config, handler="", created_ns=0)
    handler = RuntimeHandler(pod_annotations=("x.io/*",))
    wanted = pb.ContainerConfig(metadata=pb.ContainerMetadata(name="c"))
    found = annotations_of(pod, wanted, "image", handler)
    assert found["x.io/a"] == "1"
    assert "y" not in found
    assert found["io.kubernetes.cri.sandbox-id"] == "p"
    assert found["io.kubernetes.cri.container-type"] == "container"


def test_whole() -> None:
    config = pb.ContainerConfig(command=["x"], tty=True)
    config.linux.security_context.masked_paths.append("/m")
    config.linux.security_context.readonly_rootfs = True
    pod = Pod(id="p", config=pb.PodSandboxConfig(hostname="h"), handler="", created_ns=0)
    parts = Parts(
        pod=pod,
        image=ContainerConfig(),
        settings=RuntimeConfig(),
        handler=RuntimeHandler(),
        root_fd=-1,
        folder=Path("/state/pod"),
        namespaces=(Namespace(type="mount"), Namespace(type="ipc", path="/ipc")),
        mappings=((), ()),
        cgroups_path="/k/c",
        annotations={"a": "b"},
        image_mounts={},
        volumes=(),
    )
    spec = build(config, parts)
    assert spec.process is not None
    assert spec.linux is not None
    assert spec.root is not None
    assert (spec.process.terminal, spec.root.readonly, spec.linux.masked_paths) == (
        True, True, ("/m",),
    )  # fmt: skip
    by_place = {one.destination: one for one in spec.mounts}
    assert by_place["/etc/hosts"].source == "/state/pod/hosts"
    assert "ro" in by_place["/etc/hosts"].options
    assert by_place["/dev/shm"].source == "/state/pod/shm"
    whole = json.dumps(spec.to_json()).encode()
    more = json.loads(exec_process(whole, ("y", "z"), tty=False))
    assert (more["args"], more["terminal"], more["cwd"]) == (["y", "z"], False, "/")
    bare = build(pb.ContainerConfig(command=["x"]), parts)
    assert bare.linux is not None
    assert "/proc/kcore" in bare.linux.masked_paths


def test_signals() -> None:
    for text, number in (
        ("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN", 34), ("RTMIN+3", 37),
        ("SIGRTMAX-1", 63), ("SIGCLD", 17), ("IOT", 6),
    ):  # fmt: skip
        assert number_of(text) == number
    for text in ("", "SIG", "NONE", "0", "65", "RTMIN-1", "RTMAX+1", "RTMIN+x"):
        with pytest.raises(InvalidArgument):
            number_of(text)
    assert signal_enum(15) == pb.SIGNAL_SIGTERM
    assert signal_enum(63) == pb.SIGNAL_SIGRTMAXMINUS1
    image = ContainerConfig(stop_signal="SIGQUIT")
    assert stop_signal_of(pb.ContainerConfig(), image) == 3
    assert stop_signal_of(pb.ContainerConfig(stop_signal=pb.SIGNAL_SIGHUP), image) == 1
    assert stop_signal_of(pb.ContainerConfig(), ContainerConfig(stop_signal="rubbish")) == 0
    for value in range(1, 66):
        assert signal_enum(number_of(str(_number(value))))


def _number(value: int) -> int:
    return stop_signal_of(pb.ContainerConfig(stop_signal=pb.Signal.Name(value)), ContainerConfig())


def test_maps_and_checks() -> None:
    def options(**more: Any) -> pb.NamespaceOption:
        return pb.NamespaceOption(userns_options=pb.UserNamespace(**more))

    one = pb.IDMapping(host_id=100, container_id=0, length=10)
    assert id_maps(pb.NamespaceOption()) == ([], [])
    assert id_maps(options(mode=pb.NODE)) == ([], [])
    assert id_maps(options(uids=[one], gids=[one])) == ([(0, 100, 10)], [(0, 100, 10)])
    shifted = pb.IDMapping(host_id=100, container_id=5, length=10)
    for wrong in (
        options(mode=pb.NODE, uids=[one]),
        options(mode=pb.CONTAINER),
        options(uids=[one, one], gids=[one]),
        options(uids=[shifted], gids=[shifted]),
        options(uids=[one], gids=[pb.IDMapping(host_id=7, length=10)]),
        options(uids=[pb.IDMapping()], gids=[pb.IDMapping()]),
    ):
        with pytest.raises(InvalidArgument):
            id_maps(wrong)
    config = pb.PodSandboxConfig()
    config.linux.security_context.namespace_options.network = pb.CONTAINER
    with pytest.raises(InvalidArgument):
        check(config)
    assert hostname_of(pb.PodSandboxConfig(hostname="h")) == "h"
    assert hostname_of(pb.PodSandboxConfig()) == os.uname().nodename


def test_quantities() -> None:
    assert [_rate(text) for text in ("", "5", "1k", "1.5M", "1Ki")] == [0, 5, 1000, 1500000, 1024]
    for text in ("M", "1Z", "-1M", "1e"):
        with pytest.raises(InvalidArgument):
            _rate(text)


def test_scores_and_holders() -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert oom_score(own + 1, restricted=True) == own + 1
    assert oom_score(own - 1, restricted=True) == own
    for machine, number in (("x86_64", 62), ("aarch64", 183)):
        elf = program(machine)
        assert elf[:4] == b"\x7fELF"
        assert int.from_bytes(elf[18:20], "little") == number
        assert len(elf) < 300
    with pytest.raises(Unimplemented):
        program("vax")
