"""A plain gRPC client, the same for every daemon, with messages from `sampan.api`."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc  # type: ignore[import-untyped]
from google.protobuf.any_pb2 import Any as AnyMessage

from bench.daemons import NAMESPACE
from bench.images import BUSYBOX
from sampan.testing import SESSION
from sampan.testing.bundle import default_config

_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/"
_METADATA = (("containerd-namespace", NAMESPACE),)
_NUMBERS = itertools.count()

PARTS = ("prepare", "create", "start", "exit", "delete", "forget")
"""Of a life: calls of snapshots and records, Tasks.Create, Start, Wait, Delete, and the rest."""


class Service:
    """One gRPC service: `service.Method(field=value)` calls and returns the answer."""

    def __init__(self, channel: grpc.Channel, module: str, name: str) -> None:
        self.pb: Any = import_module(f"sampan.api.containerd.services.{module}")
        self._methods: dict[str, Any] = {}
        described = self.pb.DESCRIPTOR.services_by_name[name]
        for method in described.methods:
            if method.client_streaming:
                continue
            make = channel.unary_stream if method.server_streaming else channel.unary_unary
            call = make(
                f"/{described.full_name}/{method.name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=_class(method.output_type).FromString,
            )
            self._methods[method.name] = (call, _class(method.input_type))

    def __getattr__(self, name: str) -> Any:
        call, request = self._methods[name]
        return lambda **fields: call(request(**fields), metadata=_METADATA, timeout=60)

    def future(self, name: str, **fields: Any) -> Any:
        """Begin a call."""
        call, request = self._methods[name]
        return call.future(request(**fields), metadata=_METADATA, timeout=60)


def _class(descriptor: Any) -> Any:
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(descriptor)


class Api:
    """Short containers of one unpacked image, through a containerd-compatible socket."""

    def __init__(self, socket: Path, chain_id: str) -> None:
        self._chain_id = chain_id
        self._mounts: dict[str, Any] = {}
        self._channel = grpc.insecure_channel(f"unix:{socket}")
        self.containers = Service(self._channel, "containers.v1.containers_pb2", "Containers")
        self.snapshots = Service(self._channel, "snapshots.v1.snapshots_pb2", "Snapshots")
        self.tasks = Service(self._channel, "tasks.v1.tasks_pb2", "Tasks")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def create(self, *args: str) -> str:
        """Prepare a container and create its task; return its name."""
        name = self.prepare(*args)
        self.make(name)
        return name

    def prepare(self, *args: str) -> str:
        """Create record and snapshot; return the container's name.

        The record comes first: it keeps the snapshot from garbage collection, as a lease would.
        """
        name = f"bench-{SESSION.tag}-api{next(_NUMBERS)}"
        config = default_config(args, cgroup=f"/{name}")
        container = self.containers.pb.Container(
            id=name,
            snapshotter="overlayfs",
            snapshot_key=name,
            spec=AnyMessage(type_url=f"{_TYPE}Spec", value=json.dumps(config).encode()),
        )
        container.runtime.name = "io.containerd.runc.v2"
        self.containers.Create(container=container)
        self._mounts[name] = self.snapshots.Prepare(
            snapshotter="overlayfs", key=name, parent=self._chain_id
        ).mounts
        return name

    def make(self, name: str) -> None:
        """Create the task of a prepared container."""
        self.tasks.Create(container_id=name, rootfs=self._mounts.pop(name))

    def life(self, args: Sequence[str] = (BUSYBOX, "true")) -> dict[str, float]:
        """Run a container from its record to Remove; milliseconds to running, of all, of parts."""
        marks = [time.perf_counter()]
        name = self.prepare(*args)
        marks.append(time.perf_counter())
        self.make(name)
        marks.append(time.perf_counter())
        ended = self.tasks.future("Wait", container_id=name)
        self.tasks.Start(container_id=name)
        marks.append(time.perf_counter())
        status = ended.result(60).exit_status
        marks.append(time.perf_counter())
        if status:
            raise RuntimeError(f"container {name} ended with {status}")
        self.tasks.Delete(container_id=name)
        marks.append(time.perf_counter())
        self.forget(name)
        marks.append(time.perf_counter())
        took = [(b - a) * 1000 for a, b in pairwise(marks)]
        return {"running": sum(took[:3]), "life": sum(took), **dict(zip(PARTS, took, strict=True))}

    def exec(self, id: str, args: Sequence[str] = (BUSYBOX, "true")) -> dict[str, float]:
        """Exec, Start, Wait, DeleteProcess in a running container; milliseconds."""
        began = time.perf_counter()
        exec_id = f"e{next(_NUMBERS)}"
        process = default_config(tuple(args))["process"]
        spec = AnyMessage(type_url=f"{_TYPE}Process", value=json.dumps(process).encode())
        self.tasks.Exec(container_id=id, exec_id=exec_id, spec=spec)
        ended = self.tasks.future("Wait", container_id=id, exec_id=exec_id)
        self.tasks.Start(container_id=id, exec_id=exec_id)
        status = ended.result(60).exit_status
        if status:
            raise RuntimeError(f"exec in {id} ended with {status}")
        self.tasks.DeleteProcess(container_id=id, exec_id=exec_id)
        return {"exec": (time.perf_counter() - began) * 1000}

    def idle(self) -> str:
        """Start a container that sleeps; return its name."""
        name = self.create(BUSYBOX, "sleep", "100000")
        self.tasks.Start(container_id=name)
        return name

    def end(self, id: str) -> None:
        """Kill a container and remove it."""
        ended = self.tasks.future("Wait", container_id=id)
        self.tasks.Kill(container_id=id, signal=9)
        ended.result(60)
        self.drop(id)

    def drop(self, id: str) -> None:
        """Delete task, record and snapshot."""
        self.tasks.Delete(container_id=id)
        self.forget(id)

    def forget(self, id: str) -> None:
        """Delete record and snapshot."""
        self.containers.Delete(id=id)
        try:
            self.snapshots.Remove(snapshotter="overlayfs", key=id)
        except grpc.RpcError as err:  # garbage collection may have been first: no lease holds it
            if err.code() != grpc.StatusCode.NOT_FOUND:
                raise
