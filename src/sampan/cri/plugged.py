"""NRI's plugins at the CRI's side: told of every change, and what they want is carried out.

run_pod ─▶ create ─▶ start ─▶ update ─▶ stop ─▶ remove        each a method of `Plugged`
              └ adjusted config.json, and updates of other containers
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan import __version__, context
from sampan.api.cri.v1 import api_pb2 as cri_pb
from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri import NAMESPACE
from sampan.cri.nri import (
    Nri,
    NriConfig,
    adjusted,
    container_message,
    cri_resources,
    kubelets_resources,
    updated,
)
from sampan.cri.spec import cdi
from sampan.cri.spec.resources import merged
from sampan.cri.store.records import Container, Pod
from sampan.engine import schema, section
from sampan.errors import InvalidArgument, NotFound, SampanError
from sampan.model.opaque import Opaque
from sampan.model.runtime.spec import parse_spec

if TYPE_CHECKING:
    from sampan.cri.core import Cri
    from sampan.engine import Settings

__all__ = ["RESOURCES_TYPE", "Plugged"]

log = logging.getLogger(__name__)

URI: Final = "io.containerd.nri.v1.nri"
RESOURCES_TYPE: Final = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
_STATES: Final[dict[int, pb.ContainerState]] = {
    cri_pb.CONTAINER_CREATED: pb.CONTAINER_CREATED,
    cri_pb.CONTAINER_RUNNING: pb.CONTAINER_RUNNING,
    cri_pb.CONTAINER_EXITED: pb.CONTAINER_STOPPED,
}
_SECCOMP: Final = {
    "runtime_default": "reject_runtime_default_seccomp_adjustment",
    "unconfined": "reject_unconfined_seccomp_adjustment",
    "localhost": "reject_custom_seccomp_adjustment",
}
Json = dict[str, Any]


def config_of(settings: Settings) -> NriConfig:
    """Return what the configuration says of NRI; in our own files it is off until it is named."""
    told = section(settings, URI, schema.Nri)
    validator = told.default_validator if told.default_validator.get("enable", False) else {}
    return NriConfig(
        enabled=not told.disable and (settings.foreign or URI in settings.plugins),
        socket=Path(told.socket_path),
        listen=not told.disable_connections,
        plugins=Path(told.plugin_path),
        plugin_config=Path(told.plugin_config_path),
        registration_timeout_s=float(told.plugin_registration_timeout),
        request_timeout_s=float(told.plugin_request_timeout),
        runtime_version=__version__,
        allow_hooks=not validator.get("reject_oci_hook_adjustment", False),
        refuse_seccomp=[kind for kind, key in _SECCOMP.items() if validator.get(key, False)],
        allow_namespaces=not validator.get("reject_namespace_adjustment", False),
        allow_sysctl=not validator.get("reject_sysctl_adjustment", False),
        required_plugins=tuple(validator.get("required_plugins", ())),
    )


class Plugged:
    """Implements `nri.Runtime`, and tells the plugins."""

    def __init__(
        self, cri: Cri, config: NriConfig | None = None, plugins: Sequence[object] = ()
    ) -> None:
        """Prepare, as the configuration says or as `config` does, with more `plugins`."""
        self._cri = cri
        self._nri = Nri(self, config or config_of(cri.engine.settings), plugins=plugins)

    async def start(self) -> None:
        """Let plugins join."""
        await self._nri.start()

    async def close(self) -> None:
        """Let them go."""
        await self._nri.close()

    def changing(self) -> AbstractAsyncContextManager[None]:
        """No plugin joins in the middle of a change."""
        return self._nri.changing()

    # --- what plugins ask for ------------------------------------------------------------

    async def everything(self) -> tuple[Sequence[pb.PodSandbox], Sequence[pb.Container]]:
        """Return all pods that are ready, and their containers."""
        pods = [self._pod(one) for one in self._cri.pods.values() if one.ready]
        live = [one for one in self._cri.containers.values() if one.state in _STATES]
        return pods, [self._container(one) for one in live]

    async def update(self, updates: Sequence[pb.ContainerUpdate]) -> Sequence[pb.ContainerUpdate]:
        """Carry out updates of containers; return those that failed and may not."""
        failed = []
        with context.scope(NAMESPACE):
            for one in updates:
                try:
                    container = self._cri.container(one.container_id)
                    await apply(self._cri, container, one.linux.resources)
                except SampanError as err:
                    log.warning("update by a plugin: container=%s: %s", one.container_id, err)
                    if not one.ignore_failure:
                        failed.append(one)
        return failed

    async def evict(self, container_id: str, reason: str) -> None:
        """Stop a container because a plugin wants it."""
        from sampan.cri.containers.stop import end

        log.warning("a plugin evicts: container=%s reason=%s", container_id, reason)
        with context.scope(NAMESPACE):
            container = self._cri.container(container_id)
            container.message = f"evicted by an NRI plugin: {reason}"
            await end(self._cri, container, 30)

    async def _carry_out(
        self, updates: Sequence[pb.ContainerUpdate], evict: Sequence[pb.ContainerEviction] = ()
    ) -> None:
        await self.update(updates)
        for one in evict:
            await self.evict(one.container_id, one.reason)

    # --- what plugins are told -----------------------------------------------------------

    async def run_pod(self, pod: Pod) -> None:
        """A pod has what its containers share.

        Raises:
          SampanError: a plugin's veto.
        """
        if not self._nri.active:
            return
        await self._nri.run_pod_sandbox(self._pod(pod))

    async def stop_pod(self, pod: Pod) -> None:
        """A pod has been stopped; nobody can stop that."""
        if not self._nri.active:
            return
        await self._quietly(self._nri.stop_pod_sandbox(self._pod(pod)))

    async def remove_pod(self, pod: Pod) -> None:
        """A pod is gone."""
        if not self._nri.active:
            return
        await self._quietly(self._nri.remove_pod_sandbox(self._pod(pod)))

    async def update_pod(
        self,
        pod: Pod,
        overhead: cri_pb.LinuxContainerResources,
        resources: cri_pb.LinuxContainerResources,
    ) -> None:
        """A pod's resources are about to change.

        Raises:
          SampanError: a plugin's veto.
        """
        if not self._nri.active:
            return
        await self._nri.update_pod_sandbox(
            self._pod(pod), cri_resources(overhead), cri_resources(resources)
        )

    async def updated_pod(self, pod: Pod) -> None:
        """They have changed."""
        if not self._nri.active:
            return
        await self._quietly(self._nri.post_update_pod_sandbox(self._pod(pod)))

    async def create(self, pod: Pod, container: Container) -> None:
        """Let plugins change a container's config.json before it is made.

        Raises:
          SampanError: a veto, or two plugins contradict each other.
        """
        if not self._nri.enabled:
            return
        changes = await self._nri.create_container(self._pod(pod), self._container(container))
        if changes.adjust.ByteSize():
            spec = adjusted(self._with_cdi(container.spec, changes.adjust), changes.adjust)
            container.spec = json.dumps(spec).encode()
            wanted = kubelets_resources(changes.adjust.linux.resources)
            container.resources = merged(container.config.linux.resources, wanted)
        await self._carry_out(changes.updates, changes.evict)

    def _with_cdi(self, spec: bytes, adjust: pb.ContainerAdjustment) -> Json:
        """Return config.json with the CDI devices that plugins want."""
        values: Json = json.loads(spec)
        names = [one.name for one in adjust.CDI_devices]
        if not names:
            return values
        settings = self._cri.settings.runtime
        if not settings.enable_cdi:
            raise InvalidArgument(f"CDI devices {', '.join(names)}: enable_cdi is false")
        return cdi.injected(parse_spec(spec), names, settings.cdi_spec_dirs).to_json()

    async def created(self, pod: Pod, container: Container) -> None:
        """A container was made."""
        if not self._nri.active:
            return
        told = self._nri.post_create_container(self._pod(pod), self._container(container))
        await self._quietly(told)

    async def starting(self, pod: Pod, container: Container) -> None:
        """A container is about to start.

        Raises:
          SampanError: a plugin's veto.
        """
        if not self._nri.active:
            return
        await self._nri.start_container(self._pod(pod), self._container(container))

    async def started(self, pod: Pod, container: Container) -> None:
        """A container has started."""
        if not self._nri.active:
            return
        told = self._nri.post_start_container(self._pod(pod), self._container(container))
        await self._quietly(told)

    async def change(
        self, container: Container, wanted: cri_pb.LinuxContainerResources
    ) -> pb.LinuxResources:
        """Return what becomes of an update of a container.

        Raises:
          SampanError: a plugin's veto.
        """
        if not self._nri.active:
            return cri_resources(wanted)
        pod = self._pod_of(container)
        answer = await self._nri.update_container(
            pod, self._container(container), cri_resources(wanted)
        )
        await self._carry_out(answer.updates, answer.evict)
        return answer.resources

    async def changed(self, container: Container) -> None:
        """A container's resources have changed."""
        if not self._nri.active:
            return
        pod = self._pod_of(container)
        await self._quietly(self._nri.post_update_container(pod, self._container(container)))

    async def stopped(self, container: Container) -> None:
        """A container has ended."""
        if not self._nri.active:
            return
        try:
            pod = self._pod_of(container)
            await self.update(await self._nri.stop_container(pod, self._container(container)))
        except SampanError as err:
            log.warning("plugins and the end of a container: id=%s: %s", container.id, err)

    async def removed(self, container: Container) -> None:
        """A container is gone."""
        if not self._nri.active:
            return
        pod = self._pod_of(container)
        await self._quietly(self._nri.remove_container(pod, self._container(container)))

    async def _quietly(self, telling: Any) -> None:
        try:
            await telling
        except SampanError as err:
            log.warning("a plugin objects to what has happened: %s", err)

    # --- messages ------------------------------------------------------------------------

    def _pod_of(self, container: Container) -> pb.PodSandbox:
        pod = self._cri.pods.get(container.pod_id)
        return self._pod(pod) if pod is not None else pb.PodSandbox(id=container.pod_id)

    def _pod(self, pod: Pod) -> pb.PodSandbox:
        config, meta = pod.config, pod.config.metadata
        linux = config.linux
        message = pb.PodSandbox(
            id=pod.id,
            name=meta.name,
            uid=meta.uid,
            namespace=meta.namespace,
            labels=config.labels,
            annotations=config.annotations,
            runtime_handler=pod.handler,
            pid=pod.holder_pid,
            ips=pod.ips,
            linux=pb.LinuxPodSandbox(
                cgroup_parent=linux.cgroup_parent,
                cgroups_path=self._cri.cgroup_of(pod, pod.id),
                pod_overhead=cri_resources(linux.overhead),
                pod_resources=cri_resources(linux.resources),
            ),
        )
        if pod.netns:
            message.linux.namespaces.add(type="network", path=pod.netns)
        return message

    def _container(self, one: Container) -> pb.Container:
        config = one.config
        spec: Json = json.loads(one.spec)
        process = spec.get("process") or {}
        security = config.linux.security_context
        # Values may be any bytes, and the plugins' protocol knows text alone.
        process["env"] = [_text(pair) for pair in process.get("env") or ()]
        return container_message(
            spec,
            id=one.id,
            pod_id=one.pod_id,
            name=config.metadata.name,
            state=_STATES.get(one.state, pb.CONTAINER_UNKNOWN),
            labels=dict(config.labels),
            annotations=dict(config.annotations),
            pid=one.pid,
            created_at_ns=one.created_ns,
            started_at_ns=one.started_ns,
            finished_at_ns=one.finished_ns,
            exit_code=one.exit_code,
            image=one.image_ref,
            seccomp=security.seccomp if security.HasField("seccomp") else None,
        )


def _text(value: str) -> str:
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


async def apply(cri: Cri, container: Container, change: pb.LinuxResources) -> None:
    """Change a container's limits, now if it runs, and in its config.json.

    Raises:
      NotFound: it is gone.
      InvalidArgument: the kernel refuses a value.
    """
    if container.state == cri_pb.CONTAINER_EXITED or container.removing:
        raise NotFound(f"container {container.id} has ended: nothing to update")
    if container.running:
        values = json.dumps(updated({}, change)).encode()
        await cri.engine.tasks.update(container.id, Opaque(RESOURCES_TYPE, values))
    spec = json.loads(container.spec)
    linux: Json = spec.setdefault("linux", {})
    linux["resources"] = updated(linux.get("resources") or {}, change)
    container.spec = json.dumps(spec).encode()
    await cri.engine.metadata.containers.update(container.row(), ["spec"])
