"""Content.Write: offsets, locks, cuts and commits as in a current containerd."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
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
