"""What plugins want together: order, removal, conflicts; and that apply says the same as merge."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri.nri import adjusted, container_message
from sampan.cri.nri.merge import Merge
from sampan.cri.nri.owners import Owners, removal
from sampan.errors import InvalidArgument


def container() -> pb.Container:
    made = pb.Container(id="c", env=["A=1", "B=2"], annotations={"k": "v"}, args=["sh"])
    made.mounts.add(destination="/data", type="bind", source="/old")
    made.linux.devices.add(path="/dev/x", type="c", major=1, minor=2)
    made.linux.namespaces.add(type="pid")
    made.linux.sysctl["net.a"] = "0"
    return made


def creating() -> Merge:
    return Merge(container(), creating=True)


def env(*pairs: str) -> pb.ContainerAdjustment:
    made = pb.ContainerAdjustment()
    for pair in pairs:
        key, _, value = pair.partition("=")
        made.env.add(key=key, value=value)
    return made


def test_later_plugins_see_what_earlier_ones_did() -> None:
    merge = creating()
    merge.add_adjustment(env("A=x", "C=3"), "10-a")
    assert list(merge.container.env) == ["B=2", "A=x", "C=3"]
    merge.add_adjustment(env("-B"), "20-b")
    assert list(merge.container.env) == ["A=x", "C=3"]
    assert [(one.key, one.value) for one in merge.adjust.env] == [
        ("A", "x"),
        ("C", "3"),
        ("-B", ""),
    ]


def test_two_cannot_set_the_same() -> None:
    merge = creating()
    merge.add_adjustment(env("A=x"), "10-a")
    with pytest.raises(InvalidArgument, match="'20-b' and '10-a' both tried to set Env 'A'"):
        merge.add_adjustment(env("A=y"), "20-b")


def test_removing_first_takes_over() -> None:
    merge = creating()
    merge.add_adjustment(env("A=x"), "10-a")
    merge.add_adjustment(env("-A", "A=y"), "20-b")
    assert [(one.key, one.value) for one in merge.adjust.env] == [("A", "y")]
    with pytest.raises(InvalidArgument, match="'30-c' and '20-b'"):
        merge.add_adjustment(env("A=z"), "30-c")
    # One that was removed stays with who removed it.
    merge.add_adjustment(env("-D"), "20-b")
    with pytest.raises(InvalidArgument, match="'30-c' and '20-b'"):
        merge.add_adjustment(env("D=z"), "30-c")


def test_mounts_devices_maps() -> None:
    merge = creating()
    change = pb.ContainerAdjustment(annotations={"-k": "", "n": "1"})
    change.mounts.add(destination="/data", type="tmpfs", source="tmpfs")
    change.mounts.add(destination="-/other")
    change.linux.devices.add(path="-/dev/x")
    change.linux.sysctl["-net.a"] = ""
    change.linux.sysctl["net.a"] = "1"
    change.linux.namespaces.add(type="-pid")
    change.linux.namespaces.add(type="network", path="/n")
    merge.add_adjustment(change, "10-a")
    seen = merge.container
    assert dict(seen.annotations) == {"n": "1"}
    assert [one.type for one in seen.mounts] == ["tmpfs"]
    assert list(seen.linux.devices) == []
    assert dict(seen.linux.sysctl) == {"net.a": "1"}
    assert [one.type for one in seen.linux.namespaces] == ["network"]
    assert {one.destination for one in merge.adjust.mounts} == {"/data", "-/other"}


def test_arguments_are_overridden_by_an_empty_first_one() -> None:
    merge = creating()
    merge.add_adjustment(pb.ContainerAdjustment(args=["one"]), "10-a")
    with pytest.raises(InvalidArgument, match="set Args"):
        merge.add_adjustment(pb.ContainerAdjustment(args=["two"]), "20-b")
    merge.add_adjustment(pb.ContainerAdjustment(args=["", "two"]), "20-b")
    assert list(merge.adjust.args) == list(merge.container.args) == ["two"]


def test_hooks_add_up() -> None:
    merge = creating()
    for plugin in ("10-a", "20-b"):
        change = pb.ContainerAdjustment()
        change.hooks.create_runtime.add(path=f"/{plugin}")
        merge.add_adjustment(change, plugin)
    assert [one.path for one in merge.adjust.hooks.create_runtime] == ["/10-a", "/20-b"]
    assert merge.owners.owner("c", pb.Field.OciHooks) == "10-a,20-b"


def resources(**cpu: int) -> pb.LinuxResources:
    made = pb.LinuxResources()
    for name, value in cpu.items():
        getattr(made.cpu, name).value = value
    return made


def test_resources_conflict_field_by_field() -> None:
    merge = creating()
    one = pb.ContainerAdjustment()
    one.linux.resources.CopyFrom(resources(shares=1))
    one.linux.resources.unified["memory.high"] = "1"
    one.linux.resources.hugepage_limits.add(page_size="2MB", limit=4)
    merge.add_adjustment(one, "10-a")
    two = pb.ContainerAdjustment()
    two.linux.resources.CopyFrom(resources(quota=2))
    two.linux.resources.pids.limit = 9
    merge.add_adjustment(two, "20-b")
    assert merge.adjust.linux.resources.cpu.shares.value == 1
    assert merge.container.linux.resources.cpu.quota.value == 2
    assert merge.adjust.linux.resources.pids.limit == 9
    for again, what in (
        (resources(shares=3), "CPUShares"),
        (pb.LinuxResources(unified={"memory.high": "2"}), "CgroupsUnified 'memory.high'"),
        (
            pb.LinuxResources(hugepage_limits=[pb.HugepageLimit(page_size="2MB")]),
            "HugepageLimits '2MB'",
        ),
    ):
        change = pb.ContainerAdjustment()
        change.linux.resources.CopyFrom(again)
        with pytest.raises(InvalidArgument, match=what):
            merge.add_adjustment(change, "30-c")


def test_whole_fields_and_rdt() -> None:
    merge = creating()
    change = pb.ContainerAdjustment()
    change.linux.oom_score_adj.value = 5
    change.linux.seccomp_policy.default_action = "SCMP_ACT_ALLOW"
    change.linux.rdt.clos_id.value = "gold"
    change.linux.memory_policy.mode = pb.MPOL_BIND
    change.linux.cgroups_path = "/x"
    change.linux.net_devices["eth9"].name = "data0"
    change.rlimits.add(type="RLIMIT_CORE", hard=1, soft=1)
    change.CDI_devices.add(name="vendor.com/gpu=0")
    merge.add_adjustment(change, "10-a")
    assert merge.container.linux.oom_score_adj.value == 5
    assert merge.adjust.linux.memory_policy.mode == pb.MPOL_BIND
    assert merge.container.linux.net_devices["eth9"].name == "data0"
    with pytest.raises(InvalidArgument, match="SeccompPolicy"):
        merge.add_adjustment(change_of("seccomp_policy"), "20-b")
    remove = pb.ContainerAdjustment()
    remove.linux.rdt.remove = True
    remove.linux.rdt.enable_monitoring.value = True
    merge.add_adjustment(remove, "20-b")
    assert merge.adjust.linux.rdt.remove
    assert not merge.adjust.linux.rdt.HasField("clos_id")


def change_of(name: str) -> pb.ContainerAdjustment:
    made = pb.ContainerAdjustment()
    getattr(made.linux, name).SetInParent()
    return made


def update(id: str, *, ignore: bool = False, **cpu: int) -> pb.ContainerUpdate:
    made = pb.ContainerUpdate(container_id=id, ignore_failure=ignore)
    made.linux.resources.CopyFrom(resources(**cpu))
    return made


def test_updates_of_others_join() -> None:
    merge = creating()
    merge.add_updates([update("x", ignore=True, shares=1)], "10-a")
    merge.add_updates([update("x", quota=2), update("y", shares=3)], "20-b")
    assert list(merge.updates) == ["x", "y"]
    one = merge.updates["x"]
    assert (one.linux.resources.cpu.shares.value, one.linux.resources.cpu.quota.value) == (1, 2)
    assert not one.ignore_failure
    with pytest.raises(InvalidArgument, match="CPUShares"):
        merge.add_updates([update("x", shares=4)], "30-c")
    merge.add_updates([update("x", ignore=True, shares=4)], "30-c")
    assert merge.updates["x"].linux.resources.cpu.shares.value == 1
    with pytest.raises(InvalidArgument, match="during its creation"):
        merge.add_updates([update("c", shares=1)], "10-a")


def test_an_update_of_the_container_itself_changes_the_request() -> None:
    merge = Merge(container(), resources(shares=1, quota=2))
    merge.add_updates([update("c", shares=9)], "10-a")
    assert merge.resources == resources(shares=9, quota=2)
    assert merge.updates == {}


def test_owners_are_shown_to_validators() -> None:
    owners = Owners()
    owners.claim("c", pb.Field.Env, "10-a", "A")
    owners.claim("c", pb.Field.Args, "20-b")
    message = owners.message.owners["c"]
    assert dict(message.compound[pb.Field.Env].owners) == {"A": "10-a"}
    assert message.simple[pb.Field.Args] == "20-b"
    assert owners.entries("c", pb.Field.Mounts) == {}
    assert (removal("-a"), removal("a"), removal("")) == (("a", True), ("a", False), ("", False))


SPEC: dict[str, Any] = {
    "process": {"args": ["sh"], "env": ["A=1", "B=2"], "rlimits": []},
    "annotations": {"k": "v"},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/a", "type": "bind", "source": "/s", "options": ["ro"]},
    ],
    "linux": {
        "namespaces": [{"type": "pid"}, {"type": "network", "path": "/n"}],
        "sysctl": {"x": "1"},
        "resources": {"cpu": {"shares": 2}, "memory": {"limit": 5}},
        "devices": [{"path": "/dev/a", "type": "c", "major": 1, "minor": 3}],
    },
}
keys = st.sampled_from(["A", "B", "C", "-A", "-B", "-C"])
paths = st.sampled_from(["/a", "/b/c", "/b", "-/a", "-/b", "-/proc"])
kinds = st.sampled_from(["pid", "ipc", "-pid", "-network"])
devices = st.sampled_from(["/dev/a", "/dev/b", "-/dev/a"])
texts = st.sampled_from(["1", "2"])


@st.composite
def adjustments(draw: st.DrawFn) -> pb.ContainerAdjustment:
    made = pb.ContainerAdjustment(
        annotations=draw(st.dictionaries(keys, texts, max_size=3)),
        args=draw(st.sampled_from([[], ["x"], ["", "y"]])),
    )
    for key in draw(st.lists(keys, max_size=3, unique=True)):
        made.env.add(key=key, value=draw(texts))
    for path in draw(st.lists(paths, max_size=3, unique=True)):
        made.mounts.add(destination=path, type="tmpfs", source="tmpfs", options=[draw(texts)])
    for kind in draw(st.lists(kinds, max_size=2, unique=True)):
        made.linux.namespaces.add(type=kind)
    for path in draw(st.lists(devices, max_size=2, unique=True)):
        made.linux.devices.add(path=path, type="c", major=7, minor=draw(st.integers(1, 2)))
    for key, value in draw(st.dictionaries(keys, texts, max_size=2)).items():
        made.linux.sysctl[key] = value
    if draw(st.booleans()):
        made.linux.resources.CopyFrom(resources(shares=draw(st.integers(3, 4))))
    return made


@given(st.lists(adjustments(), min_size=1, max_size=3))
def test_config_json_becomes_what_the_last_plugin_saw(
    changes: list[pb.ContainerAdjustment],
) -> None:
    before = container_message(SPEC, id="c", pod_id="p", name="n")
    merge = Merge(before, creating=True)
    for number, change in enumerate(changes):
        try:
            merge.add_adjustment(change, f"{number:02}-p")
        except InvalidArgument:
            return  # a conflict: there is no container at all
    after = container_message(adjusted(SPEC, merge.adjust), id="c", pod_id="p", name="n")
    seen = merge.container
    assert sorted(after.env) == sorted(seen.env)
    assert after.args == seen.args
    assert after.annotations == seen.annotations
    assert after.linux.sysctl == seen.linux.sysctl
    assert after.linux.resources.cpu == seen.linux.resources.cpu
    assert by(after.mounts, "destination") == by(seen.mounts, "destination")
    assert by(after.linux.namespaces, "type") == by(seen.linux.namespaces, "type")
    assert by(after.linux.devices, "path") == by(seen.linux.devices, "path")


def by(items: Any, name: str) -> dict[str, str]:
    found = {getattr(item, name): str(item) for item in items}
    assert len(found) == len(items)
    return found
