"""Pods and containers: what is remembered of each, and how it becomes a row and back.

The request itself is the record: it is kept byte for byte as an extension, since every field of it
must be answered later, and fields of later versions of the protocol survive that way.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field
from typing import Any, Final

from sampan import metadata
from sampan.api.cri.v1 import api_pb2 as pb
from sampan.errors import InvalidArgument
from sampan.metadata import Runtime
from sampan.metadata.labels import check
from sampan.model.opaque import Opaque

__all__ = ["LABEL_KIND", "Container", "Pod", "container_name", "pod_name"]

LABEL_KIND: Final = "io.cri-containerd.kind"
_POD_KEY: Final = "io.cri-containerd.sandbox.metadata"
_CONTAINER_KEY: Final = "io.cri-containerd.container.metadata"
_POD_TYPE: Final = "types.sampan/cri/v1/Pod"
_CONTAINER_TYPE: Final = "types.sampan/cri/v1/Container"
SPEC_TYPE: Final = "types.containerd.io/opencontainers/runtime-spec/1/Spec"


def pod_name(meta: pb.PodSandboxMetadata) -> str:
    """Return what no two pods may share."""
    return "_".join((meta.name, meta.namespace, meta.uid, str(meta.attempt)))


def container_name(meta: pb.ContainerMetadata, pod: pb.PodSandboxMetadata) -> str:
    """Return what no two containers may share."""
    parts = (meta.name, pod.name, pod.namespace, pod.uid, str(meta.attempt))
    return "_".join(parts)


@dataclass(slots=True, eq=False)
class Pod:
    """A pod sandbox; the fields below `ready` change."""

    id: str
    config: pb.PodSandboxConfig
    handler: str
    created_ns: int
    ready: bool = False
    netns: str = ""
    """Path of the network namespace; empty on the host's network."""
    ips: tuple[str, ...] = ()
    holder: bool = False
    """Whether a task with the pod's id holds its namespaces."""
    holder_pid: int = 0
    shared_cgroup: str = ""
    """Folder of the pod's cgroup when we make it; empty when kubelet does."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whatever stops or removes it."""
    removed: bool = False

    @property
    def name(self) -> str:
        return pod_name(self.config.metadata)

    @property
    def security(self) -> pb.LinuxSandboxSecurityContext:
        return self.config.linux.security_context

    @property
    def namespaces(self) -> pb.NamespaceOption:
        return self.config.linux.security_context.namespace_options

    @property
    def host_network(self) -> bool:
        return self.namespaces.network == pb.NODE

    @property
    def user_namespace(self) -> bool:
        options = self.namespaces
        return options.HasField("userns_options") and options.userns_options.mode == pb.POD

    def row(self) -> metadata.Sandbox:
        values = {
            "config": _text(self.config),
            "handler": self.handler,
            "created_ns": self.created_ns,
            "netns": self.netns,
            "holder": self.holder,
            "shared_cgroup": self.shared_cgroup,
        }
        return metadata.Sandbox(
            id=self.id,
            sandboxer="podsandbox",
            runtime=Runtime("io.containerd.sampan.v2"),
            labels=_labels(self.config.labels, "sandbox"),
            extensions={_POD_KEY: Opaque(_POD_TYPE, json.dumps(values).encode())},
        )

    @classmethod
    def of(cls, row: metadata.Sandbox) -> Pod | None:
        """Return the pod of a row; None for sandboxes that somebody else made."""
        values = _values(row.extensions, _POD_KEY, _POD_TYPE)
        if values is None:
            return None
        config = pb.PodSandboxConfig.FromString(base64.b64decode(values.pop("config")))
        return cls(id=row.id, config=config, **values)


@dataclass(slots=True, eq=False)
class Container:
    """A container; the fields below `state` change."""

    id: str
    pod_id: str
    pod_meta: pb.PodSandboxMetadata
    config: pb.ContainerConfig
    created_ns: int
    image_id: str
    image_ref: str
    log_path: str
    snapshotter: str
    stop_signal: int = 0
    """What StopContainer sends, from the request or the image."""
    user: tuple[int, int, tuple[int, ...]] = (0, 0, ())
    """uid, gid and supplementary groups of the first process."""
    views: tuple[str, ...] = ()
    """Keys of snapshots that image mounts stand on."""
    runtime: str = ""
    restored_from: str = ""
    """Folder of CRIU's images that its processes go on from; empty for a fresh start."""
    options: bytes = b""
    spec: bytes = b""
    state: int = pb.CONTAINER_CREATED
    pid: int = 0
    started_ns: int = 0
    finished_ns: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    resources: pb.LinuxContainerResources | None = None
    """What an update has asked for since."""
    starting: bool = False
    removing: bool = False
    stopping: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it has exited and its task is gone."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        return container_name(self.config.metadata, self.pod_meta)

    @property
    def running(self) -> bool:
        return self.state == pb.CONTAINER_RUNNING

    def row(self) -> metadata.Container:
        values = {
            "config": _text(self.config),
            "pod_meta": _text(self.pod_meta),
            "created_ns": self.created_ns,
            "image_id": self.image_id,
            "image_ref": self.image_ref,
            "log_path": self.log_path,
            "stop_signal": self.stop_signal,
            "user": self.user,
            "views": self.views,
            "restored_from": self.restored_from,
        }
        options = Opaque("containerd.runc.v1.Options", self.options) if self.options else None
        return metadata.Container(
            id=self.id,
            image=self.image_id,
            runtime=Runtime(self.runtime, options),
            spec=Opaque(SPEC_TYPE, self.spec),
            snapshotter=self.snapshotter,
            snapshot_key=self.id,
            sandbox_id=self.pod_id,
            labels=_labels(self.config.labels, "container"),
            extensions={_CONTAINER_KEY: Opaque(_CONTAINER_TYPE, json.dumps(values).encode())},
        )

    @classmethod
    def of(cls, row: metadata.Container) -> Container | None:
        """Return the container of a row; None for one that somebody else made."""
        values = _values(row.extensions, _CONTAINER_KEY, _CONTAINER_TYPE)
        if values is None:
            return None
        uid, gid, groups = values.pop("user")
        return cls(
            id=row.id,
            pod_id=row.sandbox_id,
            config=pb.ContainerConfig.FromString(base64.b64decode(values.pop("config"))),
            pod_meta=pb.PodSandboxMetadata.FromString(base64.b64decode(values.pop("pod_meta"))),
            snapshotter=row.snapshotter,
            user=(uid, gid, tuple(groups)),
            views=tuple(values.pop("views")),
            runtime=row.runtime.name,
            options=row.runtime.options.value if row.runtime.options else b"",
            spec=row.spec.value,
            **values,
        )

    def status(self) -> dict[str, Any]:
        """Return what is kept in its status file."""
        return {
            "state": self.state,
            "pid": self.pid,
            "started_ns": self.started_ns,
            "finished_ns": self.finished_ns,
            "exit_code": self.exit_code,
            "reason": self.reason,
            "message": self.message,
            "resources": _text(self.resources) if self.resources is not None else "",
        }

    def recall(self, values: dict[str, Any]) -> None:
        """Take what a status file says."""
        for key in ("state", "pid", "started_ns", "finished_ns", "exit_code"):
            setattr(self, key, int(values.get(key, getattr(self, key))))
        self.reason = str(values.get("reason", ""))
        self.message = str(values.get("message", ""))
        text = values.get("resources", "")
        if text:
            self.resources = pb.LinuxContainerResources.FromString(base64.b64decode(text))


def _text(message: Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


def _values(extensions: Any, key: str, type_url: str) -> dict[str, Any] | None:
    packed = extensions.get(key)
    if packed is None or packed.type_url != type_url:
        return None
    values: dict[str, Any] = json.loads(packed.value)
    return values


def _labels(given: Any, kind: str) -> dict[str, str]:
    """Return labels for tools that look into the store; what a label cannot hold is left out."""
    labels = {}
    for key, value in given.items():
        try:
            check({key: value})
        except InvalidArgument:
            continue
        labels[key] = value
    labels[LABEL_KIND] = kind
    return labels
