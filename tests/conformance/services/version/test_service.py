"""The version, and, as the last file of this folder: that every method was called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.version.v1 import version_pb2 as version
from sampan.testing import requires

pytestmark = requires("root", "module:grpc", "containerd-2", "runc", "busybox", "cgroup:hybrid")

RUNC = "io.containerd.runc.v2"
SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4


CASES: list[Callable[[Any, Path], Any]] = []


def case(function: Callable[[Any, Path], Any]) -> Callable[[Any, Path], Any]:
    CASES.append(function)
    return function


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.__name__)
def test_alike(alike: Any, one: Any, busybox: Path) -> None:
    def run(peer: Any) -> Any:
        return one(peer, busybox)

    run.__name__ = one.__name__
    alike(run)


@case
def version_of_the_server(peer: Any, rootfs: Path) -> Any:
    del rootfs
    shown = peer.get("version.v1.Version/Version", Empty(), version.VersionResponse)
    return bool(shown.version)


@case
def health(peer: Any, rootfs: Path) -> Any:
    from grpclib.health.v1 import health_pb2 as pb

    del rootfs
    check = "/grpc.health.v1.Health/Check"
    answer = peer.get(check, pb.HealthCheckRequest(), pb.HealthCheckResponse)
    unknown = pb.HealthCheckRequest(service="no.such.Service")
    return [answer.status, peer.code(check, unknown, pb.HealthCheckResponse)]


def test_every_method_was_called(called: set[str]) -> None:
    """Of all services, by the cases of this folder; run alone, this file has nothing to judge."""
    from google.protobuf import descriptor_pool

    if "images.v1.Images/Create" not in called or "transfer.v1.Transfer/Transfer" not in called:
        pytest.skip("the other files of this folder were not run before")
    pool = descriptor_pool.Default()
    missing = []
    for service in (
        *("containers.v1.Containers", "content.v1.Content", "diff.v1.Diff", "events.v1.Events"),
        *("images.v1.Images", "introspection.v1.Introspection", "leases.v1.Leases"),
        *("mounts.v1.Mounts", "namespaces.v1.Namespaces", "sandbox.v1.Store"),
        *("sandbox.v1.Controller", "snapshots.v1.Snapshots", "streaming.v1.Streaming"),
        *("tasks.v1.Tasks", "transfer.v1.Transfer", "version.v1.Version"),
    ):
        described = pool.FindServiceByName(f"containerd.services.{service}")
        missing += [
            f"{service}/{method.name}"
            for method in described.methods
            if f"{service}/{method.name}" not in called
        ]
    assert missing == []
