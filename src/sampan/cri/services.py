"""The two gRPC services: each method hands its request to the module of that rpc.

Whatever namespace a caller's headers name, this is Kubernetes' own.
"""

# ruff: noqa: N802  the names are the protocol's

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from sampan import __version__, context
from sampan.api.cri.v1 import api_pb2 as pb
from sampan.api.cri.v1.api_grpc import ImageServiceBase, RuntimeServiceBase
from sampan.cri import NAMESPACE
from sampan.cri.checkpoints import container as container_checkpoints
from sampan.cri.checkpoints import pod as pod_checkpoints
from sampan.cri.containers import create, logs, remove, start, stop, update
from sampan.cri.containers import exec as execs
from sampan.cri.containers import status as containers
from sampan.cri.images import filesystem, pull
from sampan.cri.images import remove as image_removal
from sampan.cri.images import status as images
from sampan.cri.node import runtime_config, status, update_runtime_config
from sampan.cri.sandboxes import run
from sampan.cri.sandboxes import status as pods
from sampan.cri.sandboxes import stop as pod_ends
from sampan.errors import FailedPrecondition, InvalidArgument
from sampan.rpc import grpc

if TYPE_CHECKING:
    from sampan.cri.core import Cri
    from sampan.cri.streaming import StreamingServer

__all__ = ["ImageService", "RuntimeService"]

S = TypeVar("S")
Q = TypeVar("Q")
R = TypeVar("R")

_LIST_CHUNK = 1000


def unary(
    method: Callable[[S, Q], Awaitable[R]],
) -> Callable[[S, Any], Coroutine[Any, Any, None]]:
    """Make a method a handler of grpclib, in our namespace."""

    @functools.wraps(method)
    async def scoped(self: S, request: Q) -> R:
        with context.scope(NAMESPACE, lease=""):
            return await method(self, request)

    return grpc.unary(scoped)


streaming = grpc.streaming


class RuntimeService(RuntimeServiceBase):
    """runtime.v1.RuntimeService."""

    def __init__(self, cri: Cri) -> None:
        self._cri = cri

    # --- the node ------------------------------------------------------------------------

    @unary
    async def Version(self, request: pb.VersionRequest) -> pb.VersionResponse:
        return pb.VersionResponse(
            version="0.1.0",
            runtime_name="sampan",
            runtime_version=__version__,
            runtime_api_version="v1",
        )

    @unary
    async def Status(self, request: pb.StatusRequest) -> pb.StatusResponse:
        return await status(self._cri, request)

    @unary
    async def RuntimeConfig(self, request: pb.RuntimeConfigRequest) -> pb.RuntimeConfigResponse:
        return runtime_config(self._cri)

    @unary
    async def UpdateRuntimeConfig(
        self, request: pb.UpdateRuntimeConfigRequest
    ) -> pb.UpdateRuntimeConfigResponse:
        return await update_runtime_config(self._cri, request)

    # --- pods ----------------------------------------------------------------------------

    @unary
    async def RunPodSandbox(self, request: pb.RunPodSandboxRequest) -> pb.RunPodSandboxResponse:
        return await run.run(self._cri, request)

    @unary
    async def StopPodSandbox(self, request: pb.StopPodSandboxRequest) -> pb.StopPodSandboxResponse:
        return await pod_ends.stop(self._cri, request)

    @unary
    async def RemovePodSandbox(
        self, request: pb.RemovePodSandboxRequest
    ) -> pb.RemovePodSandboxResponse:
        return await pod_ends.remove(self._cri, request)

    @unary
    async def PodSandboxStatus(
        self, request: pb.PodSandboxStatusRequest
    ) -> pb.PodSandboxStatusResponse:
        return await pods.status(self._cri, request)

    @unary
    async def ListPodSandbox(self, request: pb.ListPodSandboxRequest) -> pb.ListPodSandboxResponse:
        return pb.ListPodSandboxResponse(items=pods.chosen(self._cri, request.filter))

    @streaming
    async def StreamPodSandboxes(
        self, request: pb.StreamPodSandboxesRequest
    ) -> AsyncIterator[pb.StreamPodSandboxesResponse]:
        for some in _chunks(pods.chosen(self._cri, request.filter)):
            yield pb.StreamPodSandboxesResponse(pod_sandboxes=some)

    @unary
    async def UpdatePodSandboxResources(
        self, request: pb.UpdatePodSandboxResourcesRequest
    ) -> pb.UpdatePodSandboxResourcesResponse:
        return await update.update_pod(self._cri, request)

    # --- containers ----------------------------------------------------------------------

    @unary
    async def CreateContainer(
        self, request: pb.CreateContainerRequest
    ) -> pb.CreateContainerResponse:
        return await create.create(self._cri, request)

    @unary
    async def StartContainer(self, request: pb.StartContainerRequest) -> pb.StartContainerResponse:
        return await start.start(self._cri, request)

    @unary
    async def StopContainer(self, request: pb.StopContainerRequest) -> pb.StopContainerResponse:
        return await stop.stop(self._cri, request)

    @unary
    async def RemoveContainer(
        self, request: pb.RemoveContainerRequest
    ) -> pb.RemoveContainerResponse:
        return await remove.remove(self._cri, request)

    @unary
    async def ListContainers(self, request: pb.ListContainersRequest) -> pb.ListContainersResponse:
        return pb.ListContainersResponse(containers=containers.chosen(self._cri, request.filter))

    @streaming
    async def StreamContainers(
        self, request: pb.StreamContainersRequest
    ) -> AsyncIterator[pb.StreamContainersResponse]:
        for some in _chunks(containers.chosen(self._cri, request.filter)):
            yield pb.StreamContainersResponse(containers=some)

    @unary
    async def ContainerStatus(
        self, request: pb.ContainerStatusRequest
    ) -> pb.ContainerStatusResponse:
        return await containers.status(self._cri, request)

    @unary
    async def UpdateContainerResources(
        self, request: pb.UpdateContainerResourcesRequest
    ) -> pb.UpdateContainerResourcesResponse:
        return await update.update(self._cri, request)

    @unary
    async def ReopenContainerLog(
        self, request: pb.ReopenContainerLogRequest
    ) -> pb.ReopenContainerLogResponse:
        return await logs.reopen(self._cri, request)

    # --- processes and streams -----------------------------------------------------------

    @unary
    async def ExecSync(self, request: pb.ExecSyncRequest) -> pb.ExecSyncResponse:
        return await execs.exec_sync(self._cri, request)

    @unary
    async def Exec(self, request: pb.ExecRequest) -> pb.ExecResponse:
        container = self._cri.container(request.container_id)
        if not container.running:
            raise FailedPrecondition(f"container {container.id} is not running")
        _check_streams(request, tty=request.tty)
        url = self._server().exec_url(
            container.id,
            list(request.cmd),
            tty=request.tty,
            stdin=request.stdin,
            stdout=request.stdout,
            stderr=request.stderr,
        )
        return pb.ExecResponse(url=url)

    @unary
    async def Attach(self, request: pb.AttachRequest) -> pb.AttachResponse:
        container = self._cri.container(request.container_id)
        if not container.running:
            raise FailedPrecondition(f"container {container.id} is not running")
        _check_streams(request, tty=request.tty)
        url = self._server().attach_url(
            container.id,
            tty=request.tty,
            stdin=request.stdin,
            stdout=request.stdout,
            stderr=request.stderr,
        )
        return pb.AttachResponse(url=url)

    @unary
    async def PortForward(self, request: pb.PortForwardRequest) -> pb.PortForwardResponse:
        pod = self._cri.pod(request.pod_sandbox_id)
        if not pod.ready:
            raise FailedPrecondition(f"sandbox {pod.id} is not running")
        url = self._server().port_forward_url(pod.id, list(request.port))
        return pb.PortForwardResponse(url=url)

    def _server(self) -> StreamingServer:
        server = self._cri.streaming
        if server is None:
            raise FailedPrecondition("the streaming server does not run")
        return server

    # --- figures -------------------------------------------------------------------------

    @unary
    async def ContainerStats(self, request: pb.ContainerStatsRequest) -> pb.ContainerStatsResponse:
        stats = await self._cri.figures.container(request.container_id)
        return pb.ContainerStatsResponse(stats=stats)

    @unary
    async def ListContainerStats(
        self, request: pb.ListContainerStatsRequest
    ) -> pb.ListContainerStatsResponse:
        stats = await self._cri.figures.containers(request.filter)
        return pb.ListContainerStatsResponse(stats=stats)

    @streaming
    async def StreamContainerStats(
        self, request: pb.StreamContainerStatsRequest
    ) -> AsyncIterator[pb.StreamContainerStatsResponse]:
        with context.scope(NAMESPACE, lease=""):
            found = await self._cri.figures.containers(request.filter)
        for some in _chunks(found):
            yield pb.StreamContainerStatsResponse(container_stats=some)

    @unary
    async def PodSandboxStats(
        self, request: pb.PodSandboxStatsRequest
    ) -> pb.PodSandboxStatsResponse:
        stats = await self._cri.figures.pod(request.pod_sandbox_id)
        return pb.PodSandboxStatsResponse(stats=stats)

    @unary
    async def ListPodSandboxStats(
        self, request: pb.ListPodSandboxStatsRequest
    ) -> pb.ListPodSandboxStatsResponse:
        stats = await self._cri.figures.pods(request.filter)
        return pb.ListPodSandboxStatsResponse(stats=stats)

    @streaming
    async def StreamPodSandboxStats(
        self, request: pb.StreamPodSandboxStatsRequest
    ) -> AsyncIterator[pb.StreamPodSandboxStatsResponse]:
        with context.scope(NAMESPACE, lease=""):
            found = await self._cri.figures.pods(request.filter)
        for some in _chunks(found):
            yield pb.StreamPodSandboxStatsResponse(pod_sandbox_stats=some)

    @unary
    async def ListMetricDescriptors(
        self, request: pb.ListMetricDescriptorsRequest
    ) -> pb.ListMetricDescriptorsResponse:
        found = self._cri.figures.stats.descriptors()
        return pb.ListMetricDescriptorsResponse(descriptors=found)

    @unary
    async def ListPodSandboxMetrics(
        self, request: pb.ListPodSandboxMetricsRequest
    ) -> pb.ListPodSandboxMetricsResponse:
        return pb.ListPodSandboxMetricsResponse(pod_metrics=await self._cri.figures.metrics())

    @streaming
    async def StreamPodSandboxMetrics(
        self, request: pb.StreamPodSandboxMetricsRequest
    ) -> AsyncIterator[pb.StreamPodSandboxMetricsResponse]:
        with context.scope(NAMESPACE, lease=""):
            found = await self._cri.figures.metrics()
        for some in _chunks(found):
            yield pb.StreamPodSandboxMetricsResponse(pod_sandbox_metrics=some)

    @streaming
    async def GetContainerEvents(
        self, request: pb.GetEventsRequest
    ) -> AsyncIterator[pb.ContainerEventResponse]:
        async for event in self._cri.events.listen():
            yield event

    # --- checkpoints ---------------------------------------------------------------------

    @unary
    async def CheckpointContainer(
        self, request: pb.CheckpointContainerRequest
    ) -> pb.CheckpointContainerResponse:
        return await container_checkpoints.checkpoint(self._cri, request)

    @unary
    async def CheckpointPod(self, request: pb.CheckpointPodRequest) -> pb.CheckpointPodResponse:
        return await pod_checkpoints.checkpoint_pod(self._cri, request)

    @unary
    async def RestorePod(self, request: pb.RestorePodRequest) -> pb.RestorePodResponse:
        return await pod_checkpoints.restore_pod(self._cri, request)


class ImageService(ImageServiceBase):
    """runtime.v1.ImageService."""

    def __init__(self, cri: Cri) -> None:
        self._cri = cri

    @unary
    async def ListImages(self, request: pb.ListImagesRequest) -> pb.ListImagesResponse:
        return pb.ListImagesResponse(images=await images.chosen(self._cri, request.filter))

    @streaming
    async def StreamImages(
        self, request: pb.StreamImagesRequest
    ) -> AsyncIterator[pb.StreamImagesResponse]:
        with context.scope(NAMESPACE, lease=""):
            found = await images.chosen(self._cri, request.filter)
        for some in _chunks(found):
            yield pb.StreamImagesResponse(images=some)

    @unary
    async def ImageStatus(self, request: pb.ImageStatusRequest) -> pb.ImageStatusResponse:
        return await images.status(self._cri, request)

    @unary
    async def PullImage(self, request: pb.PullImageRequest) -> pb.PullImageResponse:
        return await pull.pull(self._cri, request)

    @unary
    async def RemoveImage(self, request: pb.RemoveImageRequest) -> pb.RemoveImageResponse:
        return await image_removal.remove(self._cri, request)

    @unary
    async def ImageFsInfo(self, request: pb.ImageFsInfoRequest) -> pb.ImageFsInfoResponse:
        return await filesystem.filesystem(self._cri)


def _check_streams(request: Any, *, tty: bool) -> None:
    if not (request.stdin or request.stdout or request.stderr):
        raise InvalidArgument("one of stdin, stdout and stderr must be set")
    if tty and request.stderr:
        raise InvalidArgument("a terminal has no stderr of its own: set tty or stderr, not both")


def _chunks(items: Iterable[R]) -> Iterable[list[R]]:
    """Yield items in lists that fit into a message; nothing for none."""
    some: list[R] = []
    for one in items:
        some.append(one)
        if len(some) == _LIST_CHUNK:
            yield some
            some = []
    if some:
        yield some
