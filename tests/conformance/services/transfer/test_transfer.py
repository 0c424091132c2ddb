"""Transfers: import, export, echo, tag, push and pull, as in a current containerd."""

from __future__ import annotations

import hashlib
import io
import json
import queue
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.images.v1 import images_pb2 as images
from sampan.api.containerd.services.snapshots.v1 import snapshots_pb2 as snapshots
from sampan.api.containerd.services.streaming.v1 import streaming_pb2 as streaming
from sampan.api.containerd.services.transfer.v1 import transfer_pb2 as transfer
from sampan.api.containerd.types.transfer import (
    imagestore_pb2,
    importexport_pb2,
    progress_pb2,
    registry_pb2,
    streaming_pb2,
)
from sampan.testing import requires
from sampan.testing.registry import DockerRegistry

pytestmark = requires("root", "module:grpc", "containerd-2")


CASES: list[Callable[[Any], Any]] = []


def case(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    CASES.append(function)
    return function


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.__name__)
def test_alike(alike: Any, one: Any) -> None:
    alike(one)


def pack(message: Any) -> AnyMessage:
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


class Stream:
    """A stream as a client has one: opened, then named in a call."""

    def __init__(self, peer: Any, name: str) -> None:
        self._out: queue.Queue[AnyMessage | None] = queue.Queue()
        self._call = peer.stream("streaming.v1.Streaming/Stream", self._requests(), AnyMessage)
        self.send(streaming.StreamInit(id=name))
        first = next(self._call)
        assert first.type_url == "google.protobuf.Empty"

    def _requests(self) -> Iterator[AnyMessage]:
        while (message := self._out.get()) is not None:
            yield message

    def send(self, message: Any) -> None:
        self._out.put(pack(message))

    def finish(self) -> None:
        """Send no more."""
        self._out.put(None)

    def close(self) -> None:
        self.finish()
        self._call.cancel()

    def send_all(self, data: bytes) -> None:
        """Send bytes as the peer gives window for them, and finish."""
        window = 0
        while data:
            while window <= 0:
                window += streaming_pb2.WindowUpdate.FromString(next(self._call).value).update
            part = data[: min(window, 32 << 10)]
            self.send(streaming_pb2.Data(data=part))
            window -= len(part)
            data = data[len(part) :]
        self.finish()

    def receive_all(self, window: int = 64 << 10) -> bytes:
        """Receive bytes until either ends the stream, giving the peer window after window."""
        self.found = b""
        left = 0
        while True:
            if left <= 0:
                self.send(streaming_pb2.WindowUpdate(update=window))
                left += window
            try:
                message = next(self._call, None)
            except grpc.RpcError:
                return self.found
            if message is None:
                return self.found
            part = streaming_pb2.Data.FromString(message.value).data
            assert len(part) <= left
            left -= len(part)
            self.found += part

    def progress(self) -> list[Any]:
        """Return all progress until the peer ends the stream."""
        found = []
        try:
            for message in self._call:
                assert message.type_url == "containerd.types.transfer.Progress"
                found.append(progress_pb2.Progress.FromString(message.value))
        except grpc.RpcError:
            pass
        return found


def _transfer(peer: Any, source: Any, target: Any, progress: str = "") -> str:
    request = transfer.TransferRequest(
        source=source if isinstance(source, AnyMessage) else pack(source),
        destination=target if isinstance(target, AnyMessage) else pack(target),
        options=transfer.TransferOptions(progress_stream=progress),
    )
    return str(peer.code("transfer.v1.Transfer/Transfer", request, Empty))


def _names(peer: Any) -> list[Any]:
    request = images.ListImagesRequest()
    answer = peer.get("images.v1.Images/List", request, images.ListImagesResponse)
    found = []
    for one in answer.images:
        labels = {
            key: "TIME" if key.endswith("expire") else value for key, value in one.labels.items()
        }
        found.append((one.name, one.target.media_type, one.target.digest, sorted(labels.items())))
    return sorted(found)


def _import(peer: Any, data: bytes, progress: str = "", **fields: Any) -> str:
    stream = Stream(peer, "in")
    source = importexport_pb2.ImageImportStream(stream="in")
    store = imagestore_pb2.ImageStore(**fields)
    with _background(stream.send_all, data):
        code = _transfer(peer, source, store, progress)
    stream.close()
    return code


class _background:  # noqa: N801 - reads as a phrase
    """Runs a function beside the block; its result is `value` afterwards."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        import threading

        self.value: Any = None

        def run() -> None:
            try:
                self.value = function(*arguments)
            except (grpc.RpcError, StopIteration) as err:
                self.value = err

        self._thread = threading.Thread(target=run, daemon=True)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def _archive(peer: Any) -> bytes:
    """Return an OCI layout of one image that is called example.com/tool:1."""
    blobs: dict[str, bytes] = {}

    def put(kind: str, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        _member(tar, "bin/tool", b"#!/bin/sh\n")
    packed = put("layer.v1.tar", layer.getvalue())
    rootfs = {"type": "layers", "diff_ids": [packed["digest"]]}
    config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put("config.v1+json", json.dumps(config).encode()),
        "layers": [packed],
    }
    top = put("manifest.v1+json", json.dumps(manifest).encode())
    top["annotations"] = {
        "io.containerd.image.name": "example.com/tool:1",
        "org.opencontainers.image.ref.name": "1",
    }
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        _member(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        for digest, data in blobs.items():
            _member(tar, f"blobs/sha256/{digest}", data)
        index = {"schemaVersion": 2, "manifests": [top]}
        _member(tar, "index.json", json.dumps(index).encode())
    return archive.getvalue()


def _member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o755
    tar.addfile(info, io.BytesIO(data))


def _ref(name: str, **fields: Any) -> Any:
    return imagestore_pb2.ImageReference(name=name, **fields)


@case
def transfers_between_what_cannot_be(peer: Any) -> Any:
    store = imagestore_pb2.ImageStore(name="a:1")
    registry = registry_pb2.OCIRegistry(reference="localhost:1/a:1")
    export = importexport_pb2.ImageExportStream(stream="missing")
    source = importexport_pb2.ImageImportStream(stream="missing")
    unknown = AnyMessage(type_url="no.such/Type", value=b"")
    return [
        _transfer(peer, registry, registry),
        _transfer(peer, store, unknown),
        _transfer(peer, unknown, store),
        _transfer(peer, store, export),
        _transfer(peer, source, store),
        _transfer(peer, store, store, progress="missing"),
        _transfer(peer, store, store),
        _transfer(peer, store, registry),
    ]


@case
def transfer_import_by_prefix(peer: Any) -> Any:
    data = _archive(peer)
    found = []
    for fields in (
        {"extra_references": [_ref("example.com/tool", is_prefix=True)]},
        {"extra_references": [_ref("other.org/x", is_prefix=True)]},
        {"extra_references": [_ref("other.org/x", is_prefix=True, allow_overwrite=True)]},
        {"extra_references": [_ref("imp", is_prefix=True, add_digest=True)]},
        {
            "extra_references": [
                _ref("example.com/tool", is_prefix=True, add_digest=True, skip_named_digest=True)
            ]
        },
        {"name": "whole:1", "labels": {"a": "b"}},
        {
            "name": "whole:2",
            "extra_references": [_ref("example.com/tool", is_prefix=True), _ref("extra:1")],
        },
    ):
        code = _import(peer, data, **fields)
        names = _names(peer)
        found.append((code, names))
        for name, *_ in names:
            request = images.DeleteImageRequest(name=name, sync=True)
            peer.code("images.v1.Images/Delete", request, Empty)
    return found


@case
def transfer_import_of_rubbish(peer: Any) -> Any:
    return [_import(peer, b"no archive" * 1000, name="x") != "OK", _names(peer)]


@case
def transfer_progress_of_an_import(peer: Any) -> Any:
    progress = Stream(peer, "progress")
    with _background(progress.progress) as seen:
        code = _import(
            peer,
            _archive(peer),
            "progress",
            extra_references=[_ref("example.com/tool", is_prefix=True)],
        )
    progress.close()
    events = [(one.event, one.name, one.desc.digest) for one in seen.value]
    return [code, [one for one in events if one[0] != "extracted"]]


@case
def transfer_echo(peer: Any) -> Any:
    data = bytes(range(256)) * 4000
    source, target = Stream(peer, "from"), Stream(peer, "to")
    with _background(source.send_all, data), _background(target.receive_all) as got:
        code = _transfer(
            peer,
            importexport_pb2.ImageImportStream(stream="from"),
            importexport_pb2.ImageExportStream(stream="to"),
        )
    source.close()
    target.close()
    return [code, got.value == data]


@case
def transfer_tags(peer: Any) -> Any:
    _import(peer, _archive(peer), extra_references=[_ref("example.com/tool", is_prefix=True)])
    source = imagestore_pb2.ImageStore(name="example.com/tool:1")
    found = [
        _transfer(peer, source, imagestore_pb2.ImageStore(name="b:1", labels={"c": "d"})),
        _transfer(peer, source, imagestore_pb2.ImageStore(name="b:1")),
        _transfer(peer, source, imagestore_pb2.ImageStore()),
        _transfer(peer, imagestore_pb2.ImageStore(name="none"), source),
    ]
    return [*found, _names(peer)]


@case
def transfer_export_is_imported_again(peer: Any) -> Any:
    _import(peer, _archive(peer), extra_references=[_ref("example.com/tool", is_prefix=True)])
    before = _names(peer)
    stream = Stream(peer, "out")
    with _background(stream.receive_all) as got:
        code = _transfer(
            peer,
            imagestore_pb2.ImageStore(name="example.com/tool:1"),
            importexport_pb2.ImageExportStream(stream="out"),
        )
        # containerd leaves it to the client to see the archive's end.
        deadline = time.monotonic() + 10
        while not stream.found.endswith(bytes(1024)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        stream.close()
    request = images.DeleteImageRequest(name="example.com/tool:1", sync=True)
    peer.get("images.v1.Images/Delete", request, Empty)
    again = _import(peer, got.value, extra_references=[_ref("example.com/tool", is_prefix=True)])
    return [code, again, before == _names(peer), before]


@case
def transfer_push_and_pull(peer: Any) -> Any:
    _import(peer, _archive(peer), extra_references=[_ref("example.com/tool", is_prefix=True)])
    found: list[Any] = []
    with DockerRegistry(peer.folder / "registry") as registry:
        name = f"{registry.host}/tool:1"
        place = registry_pb2.OCIRegistry(
            reference=name, resolver=registry_pb2.RegistryResolver(default_scheme="http")
        )
        store = imagestore_pb2.ImageStore(name="example.com/tool:1")
        found.append(_seen(peer, "push", store, place))
        pulled = imagestore_pb2.ImageStore(
            name="pulled:1",
            labels={"a": "b"},
            unpacks=[imagestore_pb2.UnpackConfiguration(snapshotter="overlayfs")],
        )
        pulled.unpacks[0].platform.os, pulled.unpacks[0].platform.architecture = "linux", "amd64"
        request = images.DeleteImageRequest(name="example.com/tool:1", sync=True)
        peer.get("images.v1.Images/Delete", request, Empty)
        found.append(_seen(peer, "pull", place, pulled))
        found.append(_names(peer))
        missing = registry_pb2.OCIRegistry(
            reference=f"{registry.host}/none:1",
            resolver=registry_pb2.RegistryResolver(default_scheme="http"),
        )
        found.append(_transfer(peer, missing, pulled))
        found.append(_transfer(peer, place, imagestore_pb2.ImageStore()))
        host = registry.host
    every = snapshots.ListSnapshotsRequest(snapshotter="overlayfs")
    answers = peer.listed("snapshots.v1.Snapshots/List", every, snapshots.ListSnapshotsResponse)
    found.append(sorted(one.name for part in answers for one in part.info))
    return repr(found).replace(host, "HOST")


def _seen(peer: Any, name: str, source: Any, target: Any) -> Any:
    """Return code and the set of events of a transfer; figures come as they come."""
    progress = Stream(peer, name)
    with _background(progress.progress) as seen:
        code = _transfer(peer, source, target, name)
    progress.close()
    # What came while nobody looked may be left out, by both.
    figures = {"downloading", "uploading", "extracting", "extracted", "waiting", "complete"}
    events = {
        (one.event, one.name.partition("-")[0] if "sha256" in one.name else one.name)
        for one in seen.value
        if one.event not in figures
    }
    return code, sorted(events)
