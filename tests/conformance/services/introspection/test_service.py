"""What a daemon says of itself, beside a current containerd."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.introspection.v1 import introspection_pb2 as introspection
from sampan.api.containerd.services.version.v1 import version_pb2 as version
from sampan.api.containerd.types.introspection_pb2 import RuntimeInfo, RuntimeRequest
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
def introspection_of_plugins(peer: Any, rootfs: Path) -> Any:
    del rootfs
    found: list[Any] = []
    for filters in (
        ["type==io.containerd.snapshotter.v1, id==overlayfs"],
        ["type==io.containerd.snapshotter.v1,id==native"],
        ["type==io.containerd.content.v1"],
        ["type==nothing"],
        ["id="],
    ):
        request = introspection.PluginsRequest(filters=filters)
        method = "introspection.v1.Introspection/Plugins"
        try:
            answer = peer.get(method, request, introspection.PluginsResponse)
        except grpc.RpcError as err:
            found.append(err.code().name)
            continue
        found.append([(one.type, one.id) for one in answer.plugins])
        assert not [one for one in answer.plugins if one.init_err.message]
    return found


@case
def introspection_of_the_server(peer: Any, rootfs: Path) -> Any:
    del rootfs
    method = "introspection.v1.Introspection/Server"
    answer = peer.get(method, Empty(), introspection.ServerResponse)
    again = peer.get(method, Empty(), introspection.ServerResponse)
    shown = peer.get("version.v1.Version/Version", Empty(), version.VersionResponse)
    return [
        answer.uuid == again.uuid != "",
        answer.pid == peer.daemon.pid,
        answer.pidns == Path("/proc/self/ns/pid").stat().st_ino,
        bool(shown.version),
    ]


@case
def introspection_of_the_runtime(peer: Any, rootfs: Path) -> Any:
    del rootfs
    method = "introspection.v1.Introspection/PluginInfo"
    request = introspection.PluginInfoRequest(type="io.containerd.runtime.v2", id="task")
    wanted = RuntimeRequest(runtime_path=RUNC)
    request.options.type_url = RuntimeRequest.DESCRIPTOR.full_name
    request.options.value = wanted.SerializeToString()
    answer = peer.get(method, request, introspection.PluginInfoResponse)
    info = RuntimeInfo.FromString(answer.extra.value)
    features = json.loads(info.features.value)
    missing = introspection.PluginInfoRequest(type="io.containerd.runtime.v2", id="none")
    return [
        answer.plugin.id,
        answer.extra.type_url,
        info.name,
        bool(info.version.version),
        info.features.type_url,
        sorted(
            {"ociVersionMin", "ociVersionMax", "hooks", "mountOptions", "linux"} - set(features)
        ),
        "rro" in features["mountOptions"],
        peer.code(method, missing, introspection.PluginInfoResponse),
    ]
