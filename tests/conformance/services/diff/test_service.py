"""Diff and Apply over gRPC, as in a current containerd."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.content.v1 import content_pb2 as content
from sampan.api.containerd.services.diff.v1 import diff_pb2 as diff
from sampan.api.containerd.services.leases.v1 import leases_pb2 as leases
from sampan.api.containerd.services.snapshots.v1 import snapshots_pb2 as snapshots
from sampan.api.containerd.types.descriptor_pb2 import Descriptor
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


def _info(peer: Any, digest: str) -> Any:
    request = content.InfoRequest(digest=digest)
    try:
        one = peer.get("content.v1.Content/Info", request, content.InfoResponse).info
    except grpc.RpcError as err:
        return err.code().name
    return one.digest, one.size, sorted(one.labels.items()), one.created_at.ToNanoseconds() > 0


def _snap(peer: Any, verb: str, code: Any = True, **fields: Any) -> Any:
    fields.setdefault("snapshotter", "native")
    name = {"Mounts": "Mounts", "Usage": "Usage", "Cleanup": "Cleanup"}.get(verb, f"{verb}Snapshot")
    request = getattr(snapshots, f"{name}Request")(**fields)
    answer = getattr(snapshots, f"{name}Response", Empty)
    return (peer.code if code else peer.get)(f"snapshots.v1.Snapshots/{verb}", request, answer)


ROOT = {"containerd.io/gc.root": "x"}


@case
def diff_of_a_snapshot_is_applied(peer: Any) -> Any:
    _snap(peer, "Prepare", key="empty", labels=ROOT)
    _snap(peer, "Commit", key="empty", name="E", labels=ROOT)
    lower = _snap(peer, "View", code=False, key="low", parent="E", labels=ROOT).mounts
    upper = _snap(peer, "Prepare", code=False, key="up", parent="E", labels=ROOT).mounts
    with open(f"{upper[0].source}/file", "w", encoding="ascii") as file:
        file.write("x")
    made = peer.get(
        "leases.v1.Leases/Create", leases.CreateRequest(id="keep"), leases.CreateResponse
    )
    headers = {"containerd-lease": made.lease.id}
    request = diff.DiffRequest(left=lower, right=upper, ref="d", labels={"a": "b"})
    found: list[Any] = []
    for media_type in ("", "application/vnd.oci.image.layer.v1.tar", "nothing/known"):
        request.media_type = media_type
        found.append(peer.code("diff.v1.Diff/Diff", request, diff.DiffResponse, headers=headers))
    request.media_type = ""
    layer = peer.get("diff.v1.Diff/Diff", request, diff.DiffResponse, headers=headers).diff
    found.append((layer.media_type, layer.digest[:7], layer.size > 0))
    info = _info(peer, layer.digest)
    found.append((info[0] == layer.digest, [key for key, _ in info[2]]))
    target = _snap(peer, "Prepare", code=False, key="to", labels=ROOT).mounts
    apply = diff.ApplyRequest(diff=layer, mounts=target)
    applied = peer.get("diff.v1.Diff/Apply", apply, diff.ApplyResponse).applied
    found.append(
        (applied.media_type, applied.digest == dict(info[2])["containerd.io/uncompressed"])
    )
    with open(f"{target[0].source}/file", encoding="ascii") as file:
        found.append(file.read())
    missing = Descriptor(media_type=layer.media_type, digest=WRONG, size=3)
    found.append(
        peer.code(
            "diff.v1.Diff/Apply",
            diff.ApplyRequest(diff=missing, mounts=target),
            diff.ApplyResponse,
        )
    )
    unknown = Descriptor(media_type="nothing/known", digest=layer.digest, size=layer.size)
    found.append(
        peer.code(
            "diff.v1.Diff/Apply",
            diff.ApplyRequest(diff=unknown, mounts=target),
            diff.ApplyResponse,
        )
        != "OK"
    )
    return found
