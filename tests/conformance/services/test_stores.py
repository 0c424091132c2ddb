"""Content, snapshots and diffs over gRPC; answers and codes as containerd's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
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


def data_of(peer: Any) -> bytes:
    """Return ten bytes or more of the case's own: blobs are shared between namespaces."""
    return f"some bytes of {peer.case}".encode()


def digest_of(peer: Any) -> str:
    return f"sha256:{hashlib.sha256(data_of(peer)).hexdigest()}"


# --- content --------------------------------------------------------------------------------

STAT, WRITE, COMMIT = content.STAT, content.WRITE, content.COMMIT


def _write(peer: Any, *requests: content.WriteContentRequest) -> Any:
    """Return what each request was answered, and the code at the end."""
    call = peer.stream("content.v1.Content/Write", requests, content.WriteContentResponse)
    found: list[Any] = []
    try:
        for one in call:
            found += [(one.action, one.offset, one.total, one.digest)]
    except grpc.RpcError as err:
        return [*found, err.code().name]
    if len(found) > len(requests) and found[-1] == found[-2]:
        found.pop()  # containerd ends a stream by saying the last thing once more
    return [*found, "OK"]


def _ask(action: int, ref: str = "", **fields: Any) -> content.WriteContentRequest:
    return content.WriteContentRequest(action=action, ref=ref, **fields)


def _put(peer: Any, data: bytes = b"", **fields: Any) -> str:
    data = data or data_of(peer)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    said = _write(
        peer, _ask(COMMIT, f"put-{digest}", data=data, total=len(data), expected=digest, **fields)
    )
    assert said[-1] in ("OK", "ALREADY_EXISTS"), said
    return digest


def _status(peer: Any, ref: str) -> Any:
    request = content.StatusRequest(ref=ref)
    try:
        one = peer.get("content.v1.Content/Status", request, content.StatusResponse).status
    except grpc.RpcError as err:
        return err.code().name
    started, updated = one.started_at.ToNanoseconds(), one.updated_at.ToNanoseconds()
    return one.ref, one.offset, one.total, one.expected, 0 < started <= updated


def _info(peer: Any, digest: str) -> Any:
    request = content.InfoRequest(digest=digest)
    try:
        one = peer.get("content.v1.Content/Info", request, content.InfoResponse).info
    except grpc.RpcError as err:
        return err.code().name
    return one.digest, one.size, sorted(one.labels.items()), one.created_at.ToNanoseconds() > 0


def _delete(peer: Any, digest: str) -> str:
    request = content.DeleteContentRequest(digest=digest)
    return str(peer.code("content.v1.Content/Delete", request, Empty))


@case
def content_life(peer: Any) -> Any:
    found = [_info(peer, digest_of(peer)), _delete(peer, digest_of(peer)), _status(peer, "r")]
    found.append(
        _write(
            peer,
            _ask(STAT, "r", total=len(data_of(peer)), expected=digest_of(peer)),
            _ask(WRITE, "r", data=data_of(peer)[:4]),
            _ask(WRITE, data=data_of(peer)[4:7], offset=4),
            _ask(STAT),
            _ask(COMMIT, data=data_of(peer)[7:], offset=7, labels={"a": "b"}),
        )
    )
    found += [_info(peer, digest_of(peer)), _status(peer, "r")]
    found.append(_write(peer, _ask(STAT, "again", expected=digest_of(peer))))
    found.append(_write(peer, _ask(COMMIT, "late", data=data_of(peer))))
    found += [_status(peer, "again"), _status(peer, "late"), _delete(peer, digest_of(peer))]
    return [*found, _info(peer, digest_of(peer))]


@case
def content_write_is_cut_and_goes_on(peer: Any) -> Any:
    found = [
        _write(
            peer,
            _ask(
                WRITE,
                "cut",
                data=data_of(peer)[:4],
                total=len(data_of(peer)),
                expected=digest_of(peer),
            ),
        ),
        _status(peer, "cut"),
        _write(peer, _ask(STAT, "cut")),
        _write(peer, _ask(STAT, "cut", total=len(data_of(peer)), expected=digest_of(peer))),
        _write(peer, _ask(WRITE, "cut", data=data_of(peer)[4:], offset=4), _ask(STAT)),
        _write(peer, _ask(COMMIT, "cut", total=len(data_of(peer)), expected=digest_of(peer))),
        _info(peer, digest_of(peer)),
    ]
    _delete(peer, digest_of(peer))
    return found


@case
def content_write_offsets(peer: Any) -> Any:
    found = [
        _write(peer, _ask(WRITE, "gap", data=data_of(peer), offset=5)),
        _status(peer, "gap"),
        _write(
            peer,
            _ask(WRITE, "twice", data=data_of(peer)),
            _ask(WRITE, data=data_of(peer), offset=3),
        ),
        _status(peer, "twice"),
        _write(peer, _ask(WRITE, "twice", data=b"new", offset=0), _ask(STAT)),
        _status(peer, "twice"),
        _write(peer, _ask(WRITE, "twice", data=b"", offset=3), _ask(STAT)),
        _write(peer, _ask(WRITE, "twice", data=b"x", offset=-1)),
        _write(peer, _ask(COMMIT, "twice", offset=1, data=b"x")),
        _status(peer, "twice"),
    ]
    for ref in ("gap", "twice"):
        found.append(peer.code("content.v1.Content/Abort", content.AbortRequest(ref=ref), Empty))
        found.append(peer.code("content.v1.Content/Abort", content.AbortRequest(ref=ref), Empty))
    return found


@case
def content_commit_refused(peer: Any) -> Any:
    end = len(data_of(peer))
    found = [
        _write(peer, _ask(COMMIT, "size", data=data_of(peer), total=3)),
        _write(peer, _ask(COMMIT, "w", data=data_of(peer), total=end, expected=WRONG)),
        _status(peer, "w"),
        _write(peer, _ask(COMMIT, "w", expected=digest_of(peer), offset=end)),
        _info(peer, digest_of(peer)),
        _write(peer, _ask(COMMIT, "none", labels={"k" * 4000: "v" * 200}, data=b"other")),
        _write(peer, _ask(COMMIT, "nothing")),
        _info(peer, EMPTY),
    ]
    _delete(peer, digest_of(peer))
    return found


@case
def content_write_misuse(peer: Any) -> Any:
    return [
        _write(peer, _ask(STAT)),
        _write(peer, _ask(WRITE, data=data_of(peer))),
        _write(peer, _ask(STAT, "a"), _ask(STAT, "b")),
        _write(peer, _ask(9, "z")),
    ]


@case
def content_ref_is_locked(peer: Any) -> Any:
    """The second writer is refused while the first stream lives, and let in when it has ended."""
    import threading

    go = threading.Event()

    def hold() -> Iterator[content.WriteContentRequest]:
        yield _ask(WRITE, "held", data=data_of(peer)[:2])
        go.wait(20)

    first = peer.stream("content.v1.Content/Write", hold(), content.WriteContentResponse)
    found = [next(first).offset, _write(peer, _ask(STAT, "held"))]
    go.set()
    found.append({answer.offset for answer in first} <= {2})
    return [*found, _write(peer, _ask(STAT, "held")), _status(peer, "held")]


@case
def content_reads(peer: Any) -> Any:
    _put(peer)
    found = []
    end = len(data_of(peer))
    for offset, size in (
        *((0, 0), (3, 0), (3, 4), (3, 100), (end, 0), (end + 1, 0), (-1, 0), (0, -1)),
    ):
        request = content.ReadContentRequest(digest=digest_of(peer), offset=offset, size=size)
        try:
            parts = peer.listed("content.v1.Content/Read", request, content.ReadContentResponse)
            found.append((offset, size, b"".join(one.data for one in parts)))
            assert not parts or parts[0].offset in (offset, 0)
        except grpc.RpcError as err:
            found.append((offset, size, err.code().name))
    for digest in (WRONG, "sha256:xyz", ""):
        request = content.ReadContentRequest(digest=digest)
        found.append(
            peer.list_code("content.v1.Content/Read", request, content.ReadContentResponse)
        )
    large = bytes(3 << 20)
    digest = _put(peer, large)
    request = content.ReadContentRequest(digest=digest)
    parts = peer.listed("content.v1.Content/Read", request, content.ReadContentResponse)
    found.append(hashlib.sha256(b"".join(one.data for one in parts)).hexdigest())
    _delete(peer, digest_of(peer))
    _delete(peer, digest)
    return found


@case
def content_updates(peer: Any) -> Any:
    _put(peer, labels={"a": "b", "c": "d"})
    found = []
    for digest, labels, paths in (
        (digest_of(peer), {"a": "B", "x": "y"}, ["labels.a"]),
        (digest_of(peer), {}, ["labels.a"]),
        (digest_of(peer), {"a.b/c": "1"}, ["labels.a.b/c"]),
        (digest_of(peer), {"p": "q"}, ["labels"]),
        (digest_of(peer), {"r": "s"}, []),
        (digest_of(peer), {}, ["size"]),
        (digest_of(peer), {}, ["nothing"]),
        (digest_of(peer), {"k" * 4000: "v" * 200}, ["labels"]),
        (WRONG, {"a": "b"}, ["labels.a"]),
        ("sha256:xyz", {}, []),
    ):
        request = content.UpdateRequest(info=content.Info(digest=digest, labels=labels))
        if paths:
            request.update_mask.paths.extend(paths)
        code = peer.code("content.v1.Content/Update", request, content.UpdateResponse)
        found.append((digest, paths, code, _info(peer, digest_of(peer))))
    _delete(peer, digest_of(peer))
    return found


@case
def content_lists(peer: Any) -> Any:
    digests = [_put(peer, bytes([65 + n]), labels={"n": str(n), "all": "1"}) for n in range(3)]
    found = []
    for filters in (
        [],
        ["labels.all==1"],
        ["labels.n==1", "labels.n==2"],
        ["labels.n==1,labels.all==2"],
        [f"digest=={digests[0]}"],
        ["labels.none"],
    ):
        request = content.ListContentRequest(filters=filters)
        answers = peer.listed("content.v1.Content/List", request, content.ListContentResponse)
        found.append((filters, sorted(one.digest for part in answers for one in part.info)))
    request = content.ListContentRequest(filters=["digest=x"])
    found.append(peer.list_code("content.v1.Content/List", request, content.ListContentResponse))
    for ref in ("one", "two"):
        _write(peer, _ask(WRITE, ref, data=data_of(peer)))
    for filters in ([], ["ref==one"], ["ref~=t"], ["bad="]):
        request = content.ListStatusesRequest(filters=filters)
        try:
            answer = peer.get(
                "content.v1.Content/ListStatuses", request, content.ListStatusesResponse
            )
            found.append(sorted((one.ref, one.offset) for one in answer.statuses))
        except grpc.RpcError as err:
            found.append(err.code().name)
    for digest in digests:
        _delete(peer, digest)
    return found


@case
def content_is_shared_by_digest(peer: Any) -> Any:
    """Who can name a digest that another namespace has may commit it without the bytes."""
    _put(peer)
    mine = peer.namespace
    peer.namespace = "elsewhere"
    found = [
        _info(peer, digest_of(peer)),
        _write(peer, _ask(STAT, "s", expected=digest_of(peer), total=len(data_of(peer)))),
    ]
    found += [_write(peer, _ask(COMMIT, "s", expected=digest_of(peer), offset=len(data_of(peer))))]
    found += [_info(peer, digest_of(peer)), _delete(peer, digest_of(peer))]
    peer.namespace = mine
    return [*found, _info(peer, digest_of(peer))]


# --- snapshots ------------------------------------------------------------------------------


def _snap(peer: Any, verb: str, code: bool = True, **fields: Any) -> Any:
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
    found = []
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
        request = snapshots.UpdateSnapshotRequest(snapshotter=name, info=snapshots.Info(name="k"))
        found.append(
            peer.code("snapshots.v1.Snapshots/Update", request, snapshots.UpdateSnapshotResponse)
        )
    return found


@case
def snapshot_mounts(peer: Any) -> Any:
    found = []
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
    found = []
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
    found = []
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


# --- diffs ----------------------------------------------------------------------------------


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
