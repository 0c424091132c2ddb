"""The gRPC face of our version."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from sampan import __version__
from sampan.api.containerd.services.version.v1 import version_pb2 as pb
from sampan.api.containerd.services.version.v1.version_grpc import VersionBase
from sampan.rpc.grpc import unary

__all__ = ["VersionService"]


class VersionService(VersionBase):
    """`v` and our version, as clients that parse semantic versions expect it."""

    @unary
    async def Version(self, request: Empty) -> pb.VersionResponse:
        return pb.VersionResponse(version=f"v{__version__}", revision="")
