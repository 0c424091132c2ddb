"""Leases over gRPC: answers and codes as a current containerd's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.leases.v1 import leases_pb2 as leases
from sampan.testing import requires

pytestmark = requires("root", "module:grpc", "containerd-2")

DIGEST = "sha256:" + "1" * 64


CASES: list[Callable[[Any], Any]] = []


def case(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    CASES.append(function)
    return function


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.__name__)
def test_alike(alike: Any, one: Any) -> None:
    alike(one)


def _lease(peer: Any, verb: str, code: Any = True, **fields: Any) -> Any:
    request = getattr(leases, f"{verb}Request")(**fields)
    answer = getattr(leases, f"{verb}Response", Empty)
    return (peer.code if code else peer.get)(f"leases.v1.Leases/{verb}", request, answer)


@case
def lease_life(peer: Any) -> Any:
    found = [
        _lease(peer, "Delete", id="l"),
        _lease(peer, "Create", id="l", labels={"a": "b"}),
        _lease(peer, "Create", id="l"),
        _lease(peer, "Create", id=""),
        _lease(peer, "Create", id="m", labels={"containerd.io/gc.expire": "never"}),
        _lease(peer, "ListResources", id="missing"),
    ]
    answer = _lease(peer, "List", code=False)
    named = [one for one in answer.leases if len(one.id) == 1]
    assert len(answer.leases) == len(named) + 1  # an id was made for the one without
    found.append(sorted((one.id, sorted(one.labels.items())) for one in named))
    wanted = (["id==l"], ["labels.a==b"], ["id=l"])
    found += [_lease(peer, "List", filters=filters) for filters in wanted]
    return [*found, _lease(peer, "Delete", id="l", sync=True), _lease(peer, "Delete", id="l")]


@case
def lease_resources(peer: Any) -> Any:
    _lease(peer, "Create", id="l")
    found: list[Any] = []
    for kind, name in (
        ("content", DIGEST),
        ("content", "sha256:xyz"),
        ("content", ""),
        ("ingests", "ref"),
        ("snapshots/native", "key"),
        ("snapshots", "key"),
        ("images", "name"),
        ("nothing", "x"),
    ):
        resource = leases.Resource(type=kind, id=name)
        found.append((kind, name, _lease(peer, "AddResource", id="l", resource=resource)))
    answer = _lease(peer, "ListResources", code=False, id="l")
    found.append(sorted((one.type, one.id) for one in answer.resources))
    gone = leases.Resource(type="content", id=DIGEST)
    found += [
        _lease(peer, "DeleteResource", id="l", resource=gone),
        _lease(peer, "DeleteResource", id="l", resource=gone),
        _lease(peer, "AddResource", id="missing", resource=gone),
        _lease(peer, "DeleteResource", id="missing", resource=gone),
    ]
    answer = _lease(peer, "ListResources", code=False, id="l")
    return [*found, sorted((one.type, one.id) for one in answer.resources)]
