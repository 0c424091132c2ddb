"""Records: containers, images, leases, namespaces, sandboxes; answers and codes as containerd's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.containers.v1 import containers_pb2 as containers
from sampan.api.containerd.services.images.v1 import images_pb2 as images
from sampan.api.containerd.services.leases.v1 import leases_pb2 as leases
from sampan.api.containerd.services.namespaces.v1 import namespace_pb2 as namespaces
from sampan.api.containerd.services.sandbox.v1 import sandbox_pb2 as sandboxes
from sampan.api.containerd.types.sandbox_pb2 import Sandbox
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


# --- containers -----------------------------------------------------------------------------


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
    found = []
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


# --- images -----------------------------------------------------------------------------


def _image(name: str = "a:1", **fields: Any) -> images.Image:
    made = images.Image(name=name, **fields)
    made.target.media_type, made.target.digest, made.target.size = "m/t", DIGEST, 7
    made.target.annotations["k"] = "v"
    return made


def _image_call(peer: Any, verb: str, code: bool = True, **fields: Any) -> Any:
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
    found = []
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
    found = []
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


# --- leases -----------------------------------------------------------------------------


def _lease(peer: Any, verb: str, code: bool = True, **fields: Any) -> Any:
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
    found = []
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


# --- namespaces -----------------------------------------------------------------------------


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


# --- sandbox records ------------------------------------------------------------------------


def _sandbox(peer: Any, verb: str, code: bool = True, **fields: Any) -> Any:
    request = getattr(sandboxes, f"Store{verb}Request")(**fields)
    answer = getattr(sandboxes, f"Store{verb}Response")
    return (peer.code if code else peer.get)(f"sandbox.v1.Store/{verb}", request, answer)


def _box(id: str = "s", **fields: Any) -> Sandbox:
    made = Sandbox(sandbox_id=id, **fields)
    made.runtime.name = "io.containerd.runc.v2"
    made.spec.type_url, made.spec.value = "some/type", b"{}"
    return made


@case
def sandbox_records(peer: Any) -> Any:
    found = [
        _sandbox(peer, "Get", sandbox_id="s"),
        _sandbox(peer, "Delete", sandbox_id="s"),
        _sandbox(peer, "Update", sandbox=_box()),
        _sandbox(peer, "Create", sandbox=_box(labels={"a": "b"}, sandboxer="shim")),
        _sandbox(peer, "Create", sandbox=_box()),
        _sandbox(peer, "Create", sandbox=_box("")),
    ]
    got = _sandbox(peer, "Get", code=False, sandbox_id="s").sandbox
    got.ClearField("created_at")
    got.ClearField("updated_at")
    found.append(str(got))
    for labels, fields in (({"a": "B"}, ["labels.a"]), ({"x": "y"}, ["labels"]), ({}, ["nothing"])):
        code = _sandbox(peer, "Update", sandbox=_box(labels=labels), fields=fields)
        now = _sandbox(peer, "Get", code=False, sandbox_id="s").sandbox
        found.append((fields, code, sorted(now.labels.items())))
    for filters in ([], ["id==s"], ["id==t"], ["labels.x==y"]):
        answer = _sandbox(peer, "List", code=False, filters=filters)
        found.append([one.sandbox_id for one in answer.list])
    return [*found, _sandbox(peer, "Delete", sandbox_id="s")]
