"""The mount manager over gRPC, as a current containerd has it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.mounts.v1 import mounts_pb2 as mounts
from sampan.api.containerd.types.mount_pb2 import ActivationInfo, Mount
from sampan.testing import requires

pytestmark = requires("root", "module:grpc", "containerd-2")


CASES: list[Callable[[Any], Any]] = []


def case(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    CASES.append(function)
    return function


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.__name__)
def test_alike(alike: Any, one: Any) -> None:
    alike(one)


def _mounts(peer: Any, verb: str, code: bool = True, **fields: Any) -> Any:
    request = getattr(mounts, f"{verb}Request")(**fields)
    answer = Empty if verb == "Deactivate" else getattr(mounts, f"{verb}Response")
    return (peer.code if code else peer.get)(f"mounts.v1.Mounts/{verb}", request, answer)


def _activation(peer: Any, info: Any) -> Any:
    """Return an activation without places and times."""

    def plain(text: str) -> str:
        text = text.replace(str(peer.folder), "FOLDER")
        return re.sub(r"FOLDER/state/[^\s:]*/(\d+)(?=$|:)", r"PLACE/\1", text)

    return (
        info.name,
        [(one.mount.type, plain(one.mount_point)) for one in info.active],
        [
            (
                one.type,
                plain(one.source),
                plain(one.target),
                [plain(option) for option in one.options],
            )
            for one in info.system
        ],
        sorted(info.labels.items()),
    )


def _made(peer: Any, **fields: Any) -> Any:
    try:
        return _activation(peer, _mounts(peer, "Activate", code=False, **fields).info)
    except grpc.RpcError as err:
        return err.code().name


@case
def mounts_that_need_nobody(peer: Any) -> Any:
    bind = Mount(type="bind", source="/usr", options=["rbind", "ro"])
    return [
        _mounts(peer, "Info", name="x"),
        _mounts(peer, "Deactivate", name="x"),
        _made(peer, name="x", mounts=[bind]),
        _made(peer, name="x", mounts=[]),
        _mounts(peer, "Info", name="x"),
        [
            one.info.name
            for one in peer.listed(
                "mounts.v1.Mounts/List", mounts.ListRequest(), mounts.ListMessage
            )
        ],
        peer.list_code("mounts.v1.Mounts/List", mounts.ListRequest(), mounts.ListMessage),
        peer.code(
            "mounts.v1.Mounts/Info", mounts.InfoRequest(name="x"), mounts.InfoResponse, namespace=""
        ),
    ]


@case
def mounts_by_template(peer: Any) -> Any:
    folder = peer.folder / "root/made"
    tmpfs = Mount(type="tmpfs", source="tmpfs", options=["size=1m"])
    made = f"X-containerd.mkdir.path={folder}:0711"
    found = [
        _made(
            peer,
            name="made",
            mounts=[Mount(type="mkdir/bind", source=str(folder), options=["rbind", made])],
            labels={"a": "b"},
        ),
        folder.stat().st_mode & 0o7777,
        _mounts(peer, "Activate", name="made", mounts=[Mount(type="mkdir/bind", options=[made])]),
        _made(
            peer,
            name="over",
            mounts=[
                tmpfs,
                tmpfs,
                Mount(
                    type="format/mkdir/overlay",
                    source="overlay",
                    options=["lowerdir={{ overlay 0 1 }}", "x={{ mount 1 }}", "y={{source 0}}"],
                ),
            ],
        ),
    ]
    found.append(_activation(peer, _mounts(peer, "Info", code=False, name="over").info)[1:3])
    listed = peer.listed("mounts.v1.Mounts/List", mounts.ListRequest(), mounts.ListMessage)
    found.append(sorted(one.info.name for one in listed))
    found += [_mounts(peer, "Deactivate", name=name) for name in ("over", "made", "over")]
    mountinfo = Path("/proc/self/mountinfo").read_text()
    return [*found, str(peer.folder) in mountinfo]


@case
def mounts_for_the_time_being(peer: Any) -> Any:
    tmpfs = Mount(type="tmpfs", source="tmpfs")
    found = [
        _made(peer, name="t", mounts=[tmpfs], temporary=True),
        _made(peer, name="t", mounts=[tmpfs], temporary=True),
        _made(peer, name="u", mounts=[tmpfs, tmpfs], temporary=True),
    ]
    return [*found, _mounts(peer, "Deactivate", name="t"), _mounts(peer, "Deactivate", name="u")]


@case
def mounts_refused(peer: Any) -> Any:
    tmpfs = Mount(type="tmpfs", source="tmpfs")
    inside = peer.folder / "root"

    def formatted(text: str) -> Any:
        return _made(peer, name="r", mounts=[tmpfs, Mount(type="format/bind", source=text)])

    def optioned(kind: str, *options: str, source: str = "") -> Any:
        mount = Mount(type=f"{kind}/bind", source=source, options=options)
        return _made(peer, name="r", mounts=[mount])

    return [
        formatted("{{ mount 1 }}"),
        formatted("{{ mount }}"),
        formatted("{{ nothing 0 }}"),
        formatted("{{ mount 0 "),
        formatted("{{ overlay 0 3 }}"),
        optioned("mkdir", "X-containerd.mkdir.path=/nowhere/x"),
        optioned("mkdir", "X-containerd.mkdir.other=/nowhere/x"),
        optioned("mkdir", f"X-containerd.mkdir.path={inside}/x:0700:a:b"),
        optioned("mkfs", source="/nowhere/x"),
        optioned("mkfs", source=f"{inside}/fs"),
        optioned("mkfs", "X-containerd.mkfs.other=1", source=f"{inside}/fs"),
        optioned(
            "mkfs", "X-containerd.mkfs.size=1m", "X-containerd.mkfs.fs=fat", source=f"{inside}/fs"
        ),
        _mounts(peer, "Info", name="r"),
    ]


@requires("mkfs.ext4")
def test_file_system_is_made_and_mounted(ours: Any) -> None:
    """A loop device needs a handler, which containerd leaves to others to bring: ours alone."""
    ours.namespace = "loops"
    image = ours.folder / "root/fs.img"
    made = _mounts(
        ours,
        "Activate",
        code=False,
        name="fs",
        temporary=True,
        mounts=[
            Mount(type="mkfs/loop", source=str(image), options=["X-containerd.mkfs.size=16m"]),
            Mount(type="format/ext4", source="{{ mount 0 }}"),
        ],
    ).info
    # The daemon has our mount namespace: what it mounted, we see.
    (Path(made.system[0].source) / "file").write_text("x")
    device = Path(made.active[0].mount_point).resolve()
    assert device.is_block_device()
    assert _mounts(ours, "Deactivate", name="fs") == "OK"
    assert _mounts(ours, "Info", name="fs") == "NOT_FOUND"


def test_labels_are_updated(ours: Any) -> None:
    """containerd 2.4 answers that this is not implemented."""
    ours.namespace = "labels"
    tmpfs = Mount(type="tmpfs", source="tmpfs")
    labels = {"a": "b", "c": "d"}
    assert (
        _mounts(ours, "Activate", name="l", mounts=[tmpfs], labels=labels, temporary=True) == "OK"
    )
    for wanted, paths, now in (
        ({"a": "B"}, ["labels.a"], {"a": "B", "c": "d"}),
        ({}, ["labels.a"], {"c": "d"}),
        ({"x": "y"}, ["labels"], {"x": "y"}),
        ({"z": ""}, [], {"z": ""}),
    ):
        request = mounts.UpdateRequest(info=ActivationInfo(name="l", labels=wanted))
        if paths:
            request.update_mask.paths.extend(paths)
        answer = ours.get("mounts.v1.Mounts/Update", request, mounts.UpdateResponse)
        assert dict(answer.info.labels) == now
    request.update_mask.paths.append("name")
    refused = ours.code("mounts.v1.Mounts/Update", request, mounts.UpdateResponse)
    assert refused == "INVALID_ARGUMENT"
    missing = mounts.UpdateRequest(info=ActivationInfo(name="none"))
    assert ours.code("mounts.v1.Mounts/Update", missing, mounts.UpdateResponse) == "NOT_FOUND"
    assert _mounts(ours, "Deactivate", name="l") == "OK"
