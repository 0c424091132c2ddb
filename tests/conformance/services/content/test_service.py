"""Content over gRPC: answers and codes as a current containerd's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.content.v1 import content_pb2 as content
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


def _ask(action: Any, ref: str = "", **fields: Any) -> content.WriteContentRequest:
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
def content_reads(peer: Any) -> Any:
    _put(peer)
    found: list[Any] = []
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
    found: list[Any] = []
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
    found: list[Any] = []
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
        wanted = content.ListStatusesRequest(filters=filters)
        try:
            answer = peer.get(
                "content.v1.Content/ListStatuses", wanted, content.ListStatusesResponse
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
