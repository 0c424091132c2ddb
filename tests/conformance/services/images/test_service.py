"""Image records over gRPC: answers and codes as a current containerd's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.images.v1 import images_pb2 as images
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


def _image_call(peer: Any, verb: str, code: Any = True, **fields: Any) -> Any:
    request = getattr(images, f"{verb}ImageRequest")(**fields)
    answer = getattr(images, f"{verb}ImageResponse", Empty)
    return (peer.code if code else peer.get)(f"images.v1.Images/{verb}", request, answer)


@case
def image_life(peer: Any) -> Any:
    found = [
        _image_call(peer, "Get", name="a:1"),
        _image_call(peer, "Delete", name="a:1"),
        _image_call(peer, "Update", image=_image()),
        _image_call(peer, "Create", image=_image(labels={"a": "b"})),
        _image_call(peer, "Create", image=_image()),
    ]
    got = _image_call(peer, "Get", code=False, name="a:1").image
    assert got.created_at.ToNanoseconds() == got.updated_at.ToNanoseconds() > 0
    found += [dict(got.labels), str(got.target)]
    return [*found, _image_call(peer, "Delete", name="a:1", sync=True)]


@case
def image_updates(peer: Any) -> Any:
    _image_call(peer, "Create", image=_image(labels={"a": "b", "c": "d"}))
    found: list[Any] = []
    for image, paths in (
        (_image(labels={"a": "B", "x": "y"}), ["labels.a"]),
        (_image(), ["labels.a"]),
        (_image(labels={"x": "y"}), ["labels"]),
        (_image(labels={"p": "q"}), []),
        (_image(), ["name"]),
        (_image(), ["nothing"]),
        (_image(), ["created_at"]),
    ):
        request = images.UpdateImageRequest(image=image)
        if paths:
            request.update_mask.paths.extend(paths)
        code = peer.code("images.v1.Images/Update", request, images.UpdateImageResponse)
        now = _image_call(peer, "Get", code=False, name="a:1").image
        found.append((paths, code, dict(now.labels), now.target.digest))
    return found


@case
def image_refusals(peer: Any) -> Any:
    digestless = images.Image(name="x")
    digestless.target.media_type, digestless.target.size = "m", 1
    bad = _image("y")
    bad.target.digest = "sha256:xyz"
    sizeless = _image("z")
    sizeless.target.size = 0
    typeless = _image("t")
    typeless.target.media_type = ""
    return [
        _image_call(peer, "Create", image=_image("")),
        _image_call(peer, "Create", image=digestless),
        _image_call(peer, "Create", image=bad),
        _image_call(peer, "Create", image=sizeless),
        _image_call(peer, "Create", image=typeless),
        _image_call(peer, "Get", name=""),
        _image_call(peer, "Create", image=_image("l", labels={"k" * 4000: "v" * 200})),
        peer.code(
            "images.v1.Images/List",
            images.ListImagesRequest(filters=["name=x"]),
            images.ListImagesResponse,
        ),
    ]


@case
def image_lists(peer: Any) -> Any:
    for name in ("b:1", "a:1", "a:2"):
        _image_call(peer, "Create", image=_image(name, labels={"l": name}))
    found: list[Any] = []
    for filters in (
        [],
        ["name==a:1"],
        ["name~=^a"],
        ["labels.l==b:1"],
        [f"target.digest=={DIGEST}"],
    ):
        request = images.ListImagesRequest(filters=filters)
        answer = peer.get("images.v1.Images/List", request, images.ListImagesResponse)
        found.append(sorted(one.name for one in answer.images))
    return found


@case
def image_deleted_with_target(peer: Any) -> Any:
    _image_call(peer, "Create", image=_image())
    other = _image()
    other.target.digest = "sha256:" + "2" * 64
    return [
        _image_call(peer, "Delete", name="a:1", target=other.target),
        _image_call(peer, "Get", name="a:1"),
        _image_call(peer, "Delete", name="a:1", target=_image().target),
        _image_call(peer, "Get", name="a:1"),
    ]
