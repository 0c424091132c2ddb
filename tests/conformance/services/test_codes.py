"""Answers and error codes through a plain gRPC client: containerd 1.6 and sampand alike."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.testing import require, requires

pytestmark = requires("root", "module:grpc")

_DATA = b"some bytes"
_DIGEST = f"sha256:{hashlib.sha256(_DATA).hexdigest()}"
_START_S = 30


class Client:
    """Calls methods by name on a socket."""

    def __init__(self, socket: Path) -> None:
        import grpc  # type: ignore[import-untyped]

        self.channel = grpc.insecure_channel(f"unix:{socket}")
        grpc.channel_ready_future(self.channel).result(_START_S)

    def call(self, method: str, request: Any, answer: Any, namespace: str = "test") -> Any:
        return self._do(self.channel.unary_unary, method, request, answer, namespace)

    def stream(self, method: str, requests: Any, answer: Any, namespace: str = "test") -> list[Any]:
        return list(self._do(self.channel.stream_stream, method, iter(requests), answer, namespace))

    def _do(self, kind: Any, method: str, request: Any, answer: Any, namespace: str) -> Any:
        path = f"/containerd.services.{method}"
        bound = kind(
            path,
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        metadata = [("containerd-namespace", namespace)] if namespace else []
        return bound(request, metadata=metadata, timeout=20)

    def code(self, *arguments: Any, streaming: bool = False, **more: Any) -> str:
        """Return the name of the error's code, "OK" for none."""
        import grpc

        try:
            (self.stream if streaming else self.call)(*arguments, **more)
        except grpc.RpcError as err:
            name: str = err.code().name
            return name
        return "OK"


def _containerd(folder: Path) -> list[str]:
    config = folder / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{folder}/d.sock"\n[ttrpc]\naddress = "{folder}/d.sock.ttrpc"\n'
    )
    return ["containerd", "-c", str(config), "-l", "error"]


def _sampand(folder: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "sampan.daemon.main", "--root", str(folder / "root")),
        *("--state", str(folder / "state"), "--address", str(folder / "d.sock")),
    ]


@pytest.fixture(params=["containerd", "sampand"])
def client(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Client]:
    """A client of each daemon in turn, with roots of its own."""
    if request.param == "containerd":
        require("containerd")
    argv = _containerd(short_path) if request.param == "containerd" else _sampand(short_path)
    with (short_path / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        yield (made := Client(short_path / "d.sock"))
        made.channel.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def test_images(client: Client) -> None:
    from sampan.api.containerd.services.images.v1 import images_pb2 as pb

    image = pb.Image(name="a:1")
    image.target.media_type, image.target.digest, image.target.size = "m", _DIGEST, 1
    get = ("images.v1.Images/Get", pb.GetImageRequest(name="a:1"), pb.GetImageResponse)
    create = ("images.v1.Images/Create", pb.CreateImageRequest(image=image), pb.CreateImageResponse)
    delete = ("images.v1.Images/Delete", pb.DeleteImageRequest(name="a:1"), pb.ListImagesResponse)
    update = pb.UpdateImageRequest(image=pb.Image(name="a:1", labels={"k": "v", "l": "w"}))
    update.update_mask.paths.append("labels.k")
    assert client.code(*get) == "NOT_FOUND"
    assert client.code(*delete) == "NOT_FOUND"
    assert client.code(*create, namespace="") == "FAILED_PRECONDITION"
    assert client.code(*create) == "OK"
    assert client.code(*create) == "ALREADY_EXISTS"
    now = client.call("images.v1.Images/Update", update, pb.UpdateImageResponse).image
    assert (dict(now.labels), now.target.digest) == ({"k": "v"}, _DIGEST)
    assert client.code(*delete) == "OK"
    bad = pb.CreateImageRequest(image=pb.Image(name="", target=image.target))
    assert client.code(create[0], bad, create[2]) == "INVALID_ARGUMENT"


def test_content(client: Client) -> None:
    from sampan.api.containerd.services.content.v1 import content_pb2 as pb

    write, answer = "content.v1.Content/Write", pb.WriteContentResponse
    commit = pb.WriteContentRequest(
        action=pb.COMMIT,
        ref="r",
        total=len(_DATA),
        expected=_DIGEST,
        data=_DATA,
        labels={"containerd.io/gc.root": "x"},
    )
    wrong = pb.WriteContentRequest(action=pb.COMMIT, ref="w", total=3, data=_DATA)
    gap = pb.WriteContentRequest(action=pb.WRITE, ref="g", offset=5, data=_DATA)
    info = ("content.v1.Content/Info", pb.InfoRequest(digest=_DIGEST), pb.InfoResponse)
    status = ("content.v1.Content/Status", pb.StatusRequest(ref="w"), pb.StatusResponse)
    assert client.code(*info) == "NOT_FOUND"
    assert client.code(*status) == "NOT_FOUND"
    assert client.code(write, [wrong], answer, streaming=True) == "FAILED_PRECONDITION"
    assert client.call(*status).status.offset == len(_DATA)
    assert client.code(write, [gap], answer, streaming=True) == "OUT_OF_RANGE"
    *_, last = client.stream(write, [commit], answer)
    assert (last.digest, last.offset) == (_DIGEST, len(_DATA))
    assert client.call(*info).info.size == len(_DATA)
    assert client.code(write, [commit], answer, streaming=True) == "ALREADY_EXISTS"
    bad = pb.InfoRequest(digest="sha256:xyz")
    assert client.code(info[0], bad, info[2]) == "INVALID_ARGUMENT"


def test_snapshots(client: Client) -> None:
    from sampan.api.containerd.services.snapshots.v1 import snapshots_pb2 as pb

    def prepare(key: str, parent: str = "", name: str = "native") -> tuple[Any, ...]:
        request = pb.PrepareSnapshotRequest(snapshotter=name, key=key, parent=parent)
        return ("snapshots.v1.Snapshots/Prepare", request, pb.PrepareSnapshotResponse)

    def remove(key: str) -> tuple[Any, ...]:
        request = pb.RemoveSnapshotRequest(snapshotter="native", key=key)
        return ("snapshots.v1.Snapshots/Remove", request, pb.CleanupRequest)

    label = {"containerd.io/gc.root": "x"}
    request = pb.CommitSnapshotRequest(snapshotter="native", name="n", key="k", labels=label)
    commit = ("snapshots.v1.Snapshots/Commit", request, pb.CleanupRequest)
    assert client.code(*prepare("k", name="nothing")) == "INVALID_ARGUMENT"
    assert client.code(*prepare("k", parent="missing")) == "NOT_FOUND"
    assert client.code(*prepare("k")) == "OK"
    assert client.code(*prepare("k")) == "ALREADY_EXISTS"
    assert client.code(*commit) == "OK"
    assert client.code(*commit) in ("NOT_FOUND", "ALREADY_EXISTS")
    assert client.code(*prepare("child", parent="n")) == "OK"
    assert client.code(*remove("n")) == "FAILED_PRECONDITION"
    assert client.code(*remove("nothing")) == "NOT_FOUND"


def test_containers_and_tasks(client: Client) -> None:
    from sampan.api.containerd.services.containers.v1 import containers_pb2 as pb
    from sampan.api.containerd.services.tasks.v1 import tasks_pb2 as tasks

    one = pb.Container(id="c", image="i", labels={"a": "b"})
    one.runtime.name = "io.containerd.runc.v2"
    one.spec.type_url, one.spec.value = "types.containerd.io/x", b"{}"
    create = (
        "containers.v1.Containers/Create",
        pb.CreateContainerRequest(container=one),
        pb.CreateContainerResponse,
    )
    get = ("containers.v1.Containers/Get", pb.GetContainerRequest(id="c"), pb.GetContainerResponse)
    assert client.code(*get) == "NOT_FOUND"
    assert client.code(*create) == "OK"
    assert client.code(*create) == "ALREADY_EXISTS"
    found = client.call(*get).container
    assert (found.spec.value, dict(found.labels)) == (b"{}", {"a": "b"})
    nameless = pb.CreateContainerRequest(container=pb.Container(id="a/b"))
    assert client.code(create[0], nameless, create[2]) == "INVALID_ARGUMENT"
    for method, request, answer in (
        ("Get", tasks.GetRequest(container_id="c"), tasks.GetResponse),
        ("Kill", tasks.KillRequest(container_id="c", signal=9), tasks.ListTasksRequest),
        ("Start", tasks.StartRequest(container_id="c"), tasks.StartResponse),
        ("Wait", tasks.WaitRequest(container_id="c"), tasks.WaitResponse),
        ("Delete", tasks.DeleteTaskRequest(container_id="c"), tasks.DeleteResponse),
    ):
        assert client.code(f"tasks.v1.Tasks/{method}", request, answer) == "NOT_FOUND", method


def test_namespaces_and_leases(client: Client) -> None:
    from sampan.api.containerd.services.leases.v1 import leases_pb2 as leases
    from sampan.api.containerd.services.namespaces.v1 import namespace_pb2 as pb

    create = (
        "namespaces.v1.Namespaces/Create",
        pb.CreateNamespaceRequest(namespace=pb.Namespace(name="n")),
        pb.CreateNamespaceResponse,
    )
    delete = ("namespaces.v1.Namespaces/Delete", pb.DeleteNamespaceRequest(name="n"), pb.Namespace)
    assert client.code(*delete) == "NOT_FOUND"
    assert client.code(*create) == "OK"
    assert client.code(*create) == "ALREADY_EXISTS"
    lease = ("leases.v1.Leases/Create", leases.CreateRequest(id="l"), leases.CreateResponse)
    assert client.code(*lease, namespace="n") == "OK"
    assert client.code(*lease, namespace="n") == "ALREADY_EXISTS"
    gone = ("leases.v1.Leases/Delete", leases.DeleteRequest(id="x"), leases.ListRequest)
    assert client.code(*gone, namespace="n") == "NOT_FOUND"
    assert client.code(*delete) == "OK"
