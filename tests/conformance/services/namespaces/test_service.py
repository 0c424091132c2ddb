"""Namespaces over gRPC: answers and codes as a current containerd's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.images.v1 import images_pb2 as images
from sampan.api.containerd.services.namespaces.v1 import namespace_pb2 as namespaces
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


def _image(name: str = "a:1", **fields: Any) -> images.Image:
    made = images.Image(name=name, **fields)
    made.target.media_type, made.target.digest, made.target.size = "m/t", DIGEST, 7
    made.target.annotations["k"] = "v"
    return made


def _image_call(peer: Any, verb: str, code: bool = True, **fields: Any) -> Any:
    request = getattr(images, f"{verb}ImageRequest")(**fields)
    answer = getattr(images, f"{verb}ImageResponse", Empty)
    return (peer.code if code else peer.get)(f"images.v1.Images/{verb}", request, answer)


def _space(peer: Any, verb: str, code: bool = True, **fields: Any) -> Any:
    request = getattr(namespaces, f"{verb}NamespaceRequest")(**fields)
    answer = getattr(namespaces, f"{verb}NamespaceResponse", Empty)
    call = peer.code if code else peer.get
    return call(f"namespaces.v1.Namespaces/{verb}", request, answer, namespace="")


@case
def namespace_life(peer: Any) -> Any:
    one = namespaces.Namespace(name="one", labels={"a": "b"})
    found = [
        _space(peer, "Get", name="one"),
        _space(peer, "Delete", name="one"),
        _space(peer, "Create", namespace=one),
        _space(peer, "Create", namespace=one),
        _space(peer, "Create", namespace=namespaces.Namespace(name="")),
        _space(peer, "Create", namespace=namespaces.Namespace(name="a b")),
        _space(peer, "Create", namespace=namespaces.Namespace(name="x" * 77)),
        str(_space(peer, "Get", code=False, name="one").namespace),
    ]
    for labels, paths in (({"c": "d"}, ["labels.c"]), ({}, ["labels.a"]), ({"e": "f"}, [])):
        request = namespaces.UpdateNamespaceRequest(
            namespace=namespaces.Namespace(name="one", labels=labels)
        )
        if paths:
            request.update_mask.paths.extend(paths)
        code = peer.code(
            "namespaces.v1.Namespaces/Update",
            request,
            namespaces.UpdateNamespaceResponse,
            namespace="",
        )
        now = _space(peer, "Get", code=False, name="one").namespace
        found.append((paths, code, sorted(now.labels.items())))
    listed = peer.get(
        "namespaces.v1.Namespaces/List",
        namespaces.ListNamespacesRequest(),
        namespaces.ListNamespacesResponse,
        namespace="",
    )
    found.append("one" in [each.name for each in listed.namespaces])
    upserted = namespaces.Namespace(name="upserted", labels={"a": "b"})
    found += [
        _space(peer, "Update", namespace=upserted),
        _space(peer, "Get", name="upserted"),
        _space(peer, "Delete", name="one"),
        _space(peer, "Delete", name="one"),
    ]
    return found


@case
def namespace_with_something_in_it(peer: Any) -> Any:
    _image_call(peer, "Create", image=_image())
    name = peer.namespace
    found = [_space(peer, "Delete", name=name)]
    _image_call(peer, "Delete", name="a:1", sync=True)
    return [*found, _space(peer, "Delete", name=name)]
