"""Container records over gRPC: answers and codes as a current containerd's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.containers.v1 import containers_pb2 as containers
from sampan.testing import requires

pytestmark = requires("root", "module:grpc", "containerd-2")


CASES: list[Callable[[Any], Any]] = []


def case(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    CASES.append(function)
    return function


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.__name__)
def test_alike(alike: Any, one: Any) -> None:
    alike(one)


def _container(id: str = "c", **fields: Any) -> containers.Container:
    made = containers.Container(id=id, **{"image": "i", **fields})
    made.runtime.name = "io.containerd.runc.v2"
    made.runtime.options.type_url, made.runtime.options.value = "some/type", b"\1\2"
    made.spec.type_url, made.spec.value = "types.containerd.io/x", b'{"a": 1}'
    return made


def _seen(one: containers.Container) -> Any:
    made, updated = one.created_at.ToNanoseconds(), one.updated_at.ToNanoseconds()
    one.ClearField("created_at")
    one.ClearField("updated_at")
    return str(one), made > 0, made == updated, updated >= made


def _create(peer: Any, one: containers.Container) -> Any:
    request = containers.CreateContainerRequest(container=one)
    return peer.get("containers.v1.Containers/Create", request, containers.CreateContainerResponse)


def _create_code(peer: Any, one: containers.Container) -> str:
    request = containers.CreateContainerRequest(container=one)
    return str(
        peer.code("containers.v1.Containers/Create", request, containers.CreateContainerResponse)
    )


def _update(peer: Any, one: containers.Container, *paths: str, code: bool = False) -> Any:
    request = containers.UpdateContainerRequest(container=one)
    request.update_mask.paths.extend(paths)
    if not paths:
        request.ClearField("update_mask")
    call = peer.code if code else peer.get
    return call("containers.v1.Containers/Update", request, containers.UpdateContainerResponse)


@case
def container_life(peer: Any) -> Any:
    get = ("containers.v1.Containers/Get", containers.GetContainerRequest(id="c"))
    delete = ("containers.v1.Containers/Delete", containers.DeleteContainerRequest(id="c"), Empty)
    found = [peer.code(*get, containers.GetContainerResponse), peer.code(*delete)]
    one = _container(labels={"a": "b", "c": "d"})
    one.extensions["e"].type_url, one.extensions["e"].value = "any/url", b"\0\xff"
    found.append(_seen(_create(peer, one).container))
    found.append(_create_code(peer, one))
    found.append(_seen(peer.get(*get, containers.GetContainerResponse).container))
    found += [peer.code(*delete), peer.code(*delete)]
    return found


@case
def container_refusals(peer: Any) -> Any:
    bad = _container("c2")
    bad.runtime.name = ""
    return [
        _create_code(peer, _container("")),
        _create_code(peer, _container("a/b")),
        _create_code(peer, _container("x" * 77)),
        _create_code(peer, _container("x" * 76)),
        _create_code(peer, bad),
        _create_code(peer, _container("l", labels={"k" * 4000: "v" * 200})),
        _create_code(peer, _container("s", snapshot_key="k")),
        _create_code(peer, _container("t", snapshotter="nothing", snapshot_key="k")),
        peer.code(
            "containers.v1.Containers/Get",
            containers.GetContainerRequest(id="c"),
            containers.GetContainerResponse,
            namespace="",
        ),
        peer.code(
            "containers.v1.Containers/Get",
            containers.GetContainerRequest(id="c"),
            containers.GetContainerResponse,
            namespace="bad/name",
        ),
    ]


@case
def container_updates(peer: Any) -> Any:
    _create(peer, _container(labels={"a": "b", "c": "d"}))
    other = _container(labels={"x": "y"})
    found: list[Any] = [
        _seen(_update(peer, _container(labels={"a": "B"}), "labels.a").container)[0],
        _seen(_update(peer, _container(), "labels.a").container)[0],
        _seen(_update(peer, other).container)[0],
    ]
    renamed = _container()
    renamed.runtime.name = "other"
    moved = _container(snapshotter="native")
    extended = _container()
    extended.extensions["k"].type_url = "u"
    found += [
        _update(peer, renamed, code=True),
        _update(peer, renamed, "runtime.name", code=True),
        _update(peer, moved, code=True),
        _update(peer, other, "id", code=True),
        _update(peer, other, "created_at", code=True),
        _update(peer, other, "nothing", code=True),
        _update(peer, _container("missing"), code=True),
        _seen(_update(peer, extended, "extensions.k").container)[0],
        _seen(_update(peer, extended, "extensions").container)[0],
        _update(peer, _container(image="j"), "image", code=True),
        _update(peer, _container(), "spec", code=True),
        _update(peer, _container(snapshot_key="z"), "snapshot_key", code=True),
    ]
    return found


@case
def container_lists(peer: Any) -> Any:
    for number in range(3):
        _create(peer, _container(f"c{number}", labels={"n": str(number), "a.b/c": "x"}))
    found: list[Any] = []
    for filters in (
        [],
        ["id==c1"],
        ["id==c1", "id==c2"],
        ["labels.n==1,id==c1"],
        ["labels.n==1,id==c2"],
        ['labels."a.b/c"==x'],
        ["labels.n"],
        ["id~=c[01]"],
        ["id~=|^c[12]$|"],
        ["id!=c0"],
        ["runtime.name==io.containerd.runc.v2"],
        ["nothing==1"],
    ):
        request = containers.ListContainersRequest(filters=filters)
        answer = peer.get(
            "containers.v1.Containers/List", request, containers.ListContainersResponse
        )
        streamed = peer.listed(
            "containers.v1.Containers/ListStream", request, containers.ListContainerMessage
        )
        found.append((filters, [one.id for one in answer.containers]))
        assert [one.container.id for one in streamed] == found[-1][1]
    for bad in ("id==", "==x", "id=c", 'labels."x==1', "id~=|["):
        request = containers.ListContainersRequest(filters=[bad])
        found.append(
            (
                bad,
                peer.code(
                    "containers.v1.Containers/List", request, containers.ListContainersResponse
                ),
            )
        )
    return found
