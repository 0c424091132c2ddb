"""Calls watched from outside: counted by code, timed, and not changed."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.testing import ChannelFor

from sampan.api.containerd.services.version.v1 import version_pb2 as pb
from sampan.api.containerd.services.version.v1.version_grpc import VersionBase, VersionStub
from sampan.daemon.calls import Call, CallMetrics, watch
from sampan.daemon.prometheus import render
from sampan.errors import NotFound
from sampan.rpc.grpc import unary


class Service(VersionBase):
    fails = False

    @unary
    async def Version(self, request: Empty) -> pb.VersionResponse:  # noqa: N802
        if self.fails:
            raise NotFound("nothing")
        return pb.VersionResponse(version="1")


async def test_counts_and_watchers() -> None:
    service, metrics = Service(), CallMetrics(histogram=True)
    seen: list[tuple[str, str, Status]] = []

    def watcher(call: Call) -> Any:
        assert call.metadata["containerd-namespace"] == "n"
        return lambda: seen.append((call.service, call.method, call.status))

    channel_for = ChannelFor([service])
    async with channel_for as channel:
        watch(channel_for._server, [service], [metrics, watcher])
        stub = VersionStub(channel)
        headers = {"containerd-namespace": "n"}
        assert (await stub.Version(Empty(), metadata=headers)).version == "1"
        service.fails = True
        with pytest.raises(GRPCError, match="nothing"):
            await stub.Version(Empty(), metadata=headers)
    name = "containerd.services.version.v1.Version"
    assert seen == [(name, "Version", Status.OK), (name, "Version", Status.NOT_FOUND)]
    said = render(metrics.families()).decode()
    labels = f'grpc_method="Version",grpc_service="{name}",grpc_type="unary"'
    assert f"grpc_server_started_total{{{labels}}} 2" in said
    assert f'grpc_server_handled_total{{grpc_code="NotFound",{labels}}} 1' in said
    assert f'grpc_server_handled_total{{grpc_code="OK",{labels}}} 1' in said
    assert f'grpc_server_handling_seconds_bucket{{{labels},le="+Inf"}} 2' in said
