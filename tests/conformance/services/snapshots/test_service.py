"""Snapshots over gRPC: answers and codes as a current containerd's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.snapshots.v1 import snapshots_pb2 as snapshots
from sampan.testing import requires

pytestmark = requires("root", "module:grpc", "containerd-2")

EMPTY = f"sha256:{hashlib.sha256().hexdigest()}"
WRONG = "sha256:" + "1" * 64


CASES: list[Callable[[Any], Any]] = []


def case(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    function.leased = True  # type: ignore[attr-defined]
    CASES.append(function)
    return function


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.__name__)
def test_alike(alike: Any, one: Any) -> None:
    alike(one)


def _snap(peer: Any, verb: str, code: Any = True, **fields: Any) -> Any:
    fields.setdefault("snapshotter", "native")
    name = {"Mounts": "Mounts", "Usage": "Usage", "Cleanup": "Cleanup"}.get(verb, f"{verb}Snapshot")
    request = getattr(snapshots, f"{name}Request")(**fields)
    answer = getattr(snapshots, f"{name}Response", Empty)
    return (peer.code if code else peer.get)(f"snapshots.v1.Snapshots/{verb}", request, answer)


ROOT = {"containerd.io/gc.root": "x"}


def _stat(peer: Any, key: str, snapshotter: str = "native") -> Any:
    try:
        one = _snap(peer, "Stat", code=False, key=key, snapshotter=snapshotter).info
    except grpc.RpcError as err:
        return err.code().name
    same = one.created_at.ToNanoseconds() == one.updated_at.ToNanoseconds()
    return one.name, one.parent, one.kind, sorted(one.labels.items()), same


@case
def snapshot_life(peer: Any) -> Any:
    return [
        _stat(peer, "k"),
        _snap(peer, "Prepare", key="k", parent="missing"),
        _snap(peer, "Prepare", key="k", labels=ROOT),
        _snap(peer, "Prepare", key="k"),
        _snap(peer, "View", key="k"),
        _stat(peer, "k"),
        _snap(peer, "Commit", name="n", key="k", labels=ROOT),
        _snap(peer, "Commit", name="n", key="k"),
        _stat(peer, "n"),
        _stat(peer, "k"),
        _snap(peer, "Prepare", key="child/with/slashes", parent="n", labels=ROOT),
        _snap(peer, "View", key="look", parent="n", labels=ROOT),
        _stat(peer, "look"),
        _snap(peer, "Prepare", key="grand", parent="child/with/slashes"),
        _snap(peer, "Commit", name="other", key="look") != "OK",
        _snap(peer, "Commit", name="n", key="child/with/slashes"),
        _snap(peer, "Commit", name="", key="child/with/slashes") != "OK",
        _snap(peer, "Mounts", key="n"),
        _snap(peer, "Mounts", key="missing"),
        _snap(peer, "Remove", key="n"),
        _snap(peer, "Remove", key="missing"),
        _snap(peer, "Remove", key="look"),
        _snap(peer, "Remove", key="child/with/slashes"),
        _snap(peer, "Remove", key="n"),
        _stat(peer, "n"),
    ]


@case
def snapshot_names_of_snapshotters(peer: Any) -> Any:
    found: list[Any] = []
    for verb, fields in (
        ("Prepare", {"key": "k"}),
        ("View", {"key": "k"}),
        ("Mounts", {"key": "k"}),
        ("Commit", {"key": "k", "name": "n"}),
        ("Remove", {"key": "k"}),
        ("Stat", {"key": "k"}),
        ("Usage", {"key": "k"}),
        ("Cleanup", {}),
    ):
        found += [(verb, _snap(peer, verb, snapshotter=name, **fields)) for name in ("", "nothing")]
    for name in ("", "nothing"):
        request = snapshots.ListSnapshotsRequest(snapshotter=name)
        found.append(
            peer.list_code("snapshots.v1.Snapshots/List", request, snapshots.ListSnapshotsResponse)
        )
        update = snapshots.UpdateSnapshotRequest(snapshotter=name, info=snapshots.Info(name="k"))
        found.append(
            peer.code("snapshots.v1.Snapshots/Update", update, snapshots.UpdateSnapshotResponse)
        )
    return found


@case
def snapshot_mounts(peer: Any) -> Any:
    found: list[Any] = []
    for snapshotter in ("native", "overlayfs"):
        _snap(peer, "Prepare", key="a", snapshotter=snapshotter, labels=ROOT)
        _snap(peer, "Commit", key="a", name="A", snapshotter=snapshotter, labels=ROOT)
        for verb, key, parent in (("Prepare", "b", "A"), ("View", "v", "A"), ("Prepare", "c", "")):
            answer = _snap(
                peer,
                verb,
                code=False,
                key=key,
                parent=parent,
                snapshotter=snapshotter,
                labels=ROOT,
            )
            again = _snap(peer, "Mounts", code=False, key=key, snapshotter=snapshotter)
            assert list(answer.mounts) == list(again.mounts)
            for mount in answer.mounts:
                options = sorted(option.partition("=")[0] for option in mount.options)
                found.append((key, mount.type, bool(mount.source), mount.target, options))
    return found


@case
def snapshot_updates(peer: Any) -> Any:
    _snap(peer, "Prepare", key="p", labels=ROOT)
    _snap(peer, "Commit", key="p", name="P", labels=ROOT)
    _snap(peer, "Prepare", key="k", parent="P", labels={**ROOT, "a": "b"})
    found: list[Any] = []
    for labels, paths, parent in (
        ({"a": "B", "x": "y"}, ["labels.a"], "P"),
        ({}, ["labels.a"], "P"),
        ({**ROOT, "p": "q"}, ["labels"], "P"),
        ({**ROOT, "r": "s"}, [], "P"),
        ({**ROOT, "t": "u"}, [], "other"),
        (ROOT, ["parent"], "other"),
        (ROOT, ["kind"], "P"),
        (ROOT, ["name"], "P"),
        (ROOT, ["nothing"], "P"),
        ({"k" * 4000: "v" * 200}, ["labels"], "P"),
    ):
        info = snapshots.Info(name="k", parent=parent, labels=labels)
        request = snapshots.UpdateSnapshotRequest(snapshotter="native", info=info)
        if paths:
            request.update_mask.paths.extend(paths)
        code = peer.code("snapshots.v1.Snapshots/Update", request, snapshots.UpdateSnapshotResponse)
        found.append((paths, parent, code, _stat(peer, "k")))
    request = snapshots.UpdateSnapshotRequest(
        snapshotter="native", info=snapshots.Info(name="missing")
    )
    found.append(
        peer.code("snapshots.v1.Snapshots/Update", request, snapshots.UpdateSnapshotResponse)
    )
    return found


@case
def snapshot_lists(peer: Any) -> Any:
    for number in range(3):
        labels = {**ROOT, "n": str(number)}
        _snap(peer, "Prepare", key=f"k{number}", labels=labels)
    _snap(peer, "Commit", key="k0", name="N", labels=ROOT)
    found: list[Any] = []
    for filters in (
        [],
        ["name==k1"],
        ["kind==active"],
        ["kind==committed"],
        ["labels.n==1", "labels.n==2"],
        ["labels.n==1,name==k2"],
        ['labels."containerd.io/gc.root"==x'],
        ["parent==N"],
    ):
        request = snapshots.ListSnapshotsRequest(snapshotter="native", filters=filters)
        answers = peer.listed(
            "snapshots.v1.Snapshots/List", request, snapshots.ListSnapshotsResponse
        )
        found.append((filters, sorted(one.name for part in answers for one in part.info)))
    return found


@case
def snapshot_usage_and_cleanup(peer: Any) -> Any:
    _snap(peer, "Prepare", key="u", labels=ROOT)
    usage = _snap(peer, "Usage", code=False, key="u")
    return [
        usage.inodes,
        _snap(peer, "Usage", key="missing"),
        _snap(peer, "Cleanup") in ("OK", "UNIMPLEMENTED"),
    ]


@case
def snapshot_ref_collides(peer: Any) -> Any:
    """Two who unpack the same layer: the second is told by AlreadyExists, and looks by Stat."""
    label = {**ROOT, "containerd.io/snapshot.ref": "target"}
    return [
        _snap(peer, "Prepare", key="one", labels=label),
        _snap(peer, "Commit", key="one", name="target", labels=ROOT),
        _snap(peer, "Prepare", key="two", labels=label),
        _stat(peer, "target")[0],
        _stat(peer, "two"),
    ]
