"""The calls to plugins: which event each belongs to, and what answers it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

from google.protobuf.message import Message

from sampan.api.nri.v1alpha1 import api_pb2 as pb

__all__ = ["ALL_EVENTS", "METHODS", "Method", "Plugin", "wants"]


class Method(NamedTuple):
    """One method of the Plugin service."""

    event: int
    answer: type[Message]
    state_change: bool = False
    """Whether plugins from before v0.10 know it as a StateChange."""


_E = pb.Event
METHODS: Final[dict[str, Method]] = {
    "RunPodSandbox": Method(_E.RUN_POD_SANDBOX, pb.RunPodSandboxResponse, True),
    "UpdatePodSandbox": Method(_E.UPDATE_POD_SANDBOX, pb.UpdatePodSandboxResponse),
    "PostUpdatePodSandbox": Method(
        _E.POST_UPDATE_POD_SANDBOX, pb.PostUpdatePodSandboxResponse, True
    ),
    "StopPodSandbox": Method(_E.STOP_POD_SANDBOX, pb.StopPodSandboxResponse, True),
    "RemovePodSandbox": Method(_E.REMOVE_POD_SANDBOX, pb.RemovePodSandboxResponse, True),
    "CreateContainer": Method(_E.CREATE_CONTAINER, pb.CreateContainerResponse),
    "PostCreateContainer": Method(_E.POST_CREATE_CONTAINER, pb.PostCreateContainerResponse, True),
    "StartContainer": Method(_E.START_CONTAINER, pb.StartContainerResponse, True),
    "PostStartContainer": Method(_E.POST_START_CONTAINER, pb.PostStartContainerResponse, True),
    "UpdateContainer": Method(_E.UPDATE_CONTAINER, pb.UpdateContainerResponse),
    "PostUpdateContainer": Method(_E.POST_UPDATE_CONTAINER, pb.PostUpdateContainerResponse, True),
    "StopContainer": Method(_E.STOP_CONTAINER, pb.StopContainerResponse),
    "RemoveContainer": Method(_E.REMOVE_CONTAINER, pb.RemoveContainerResponse, True),
    "ValidateContainerAdjustment": Method(
        _E.VALIDATE_CONTAINER_ADJUSTMENT, pb.ValidateContainerAdjustmentResponse
    ),
}
ALL_EVENTS: Final = (1 << (_E.LAST - 1)) - 1


class Plugin(Protocol):
    """A plugin that has joined, wherever it runs."""

    @property
    def index(self) -> str:
        """Two digits: its place in the order."""
        ...

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str:
        """`index-name`, which owns and appears in messages."""
        ...

    @property
    def events(self) -> int:
        """Mask of what it wants to hear; bit event - 1."""
        ...

    async def call(self, method: str, request: Message) -> Any:
        """Call one of `METHODS` and return its answer.

        Raises:
          Unavailable: it is gone.
          DeadlineExceeded: it did not answer in time.
          SampanError: its own error.
        """
        ...

    async def synchronize(
        self, pods: list[pb.PodSandbox], containers: list[pb.Container]
    ) -> list[pb.ContainerUpdate]:
        """Tell it all there is; return the updates it wants."""
        ...

    async def close(self) -> None:
        """End it, or let it go."""
        ...


def wants(plugin: Plugin, method: str) -> bool:
    """Whether a plugin has subscribed to a method's event."""
    return bool(plugin.events >> (METHODS[method].event - 1) & 1)
