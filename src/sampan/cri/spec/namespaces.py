"""Namespaces of a container: its pod's, its own, another container's, or the node's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.sandboxes.namespaces import id_maps
from sampan.errors import FailedPrecondition, InvalidArgument, NotFound
from sampan.model.runtime.linux import IDMapping, Namespace

if TYPE_CHECKING:
    from sampan.cri.core import Cri
    from sampan.cri.store.records import Pod

__all__ = ["mappings_of", "namespaces_of"]


def namespaces_of(cri: Cri, pod: Pod, options: pb.NamespaceOption) -> tuple[Namespace, ...]:
    """Return what config.json lists.

    Raises:
      NotFound: the target container does not exist.
      FailedPrecondition: it does not run, or the pod's own namespaces are gone.
    """
    folder = cri.pod_folder(pod.id) / "ns"
    held = f"/proc/{pod.holder_pid}/ns" if pod.holder_pid else ""
    found = [Namespace(type="mount"), Namespace(type="cgroup")]
    if options.network != pb.NODE and not pod.host_network:
        found.append(Namespace(type="network", path=pod.netns))
        found.append(Namespace(type="uts", path=f"{held}/uts" if held else str(folder / "uts")))
    if options.ipc != pb.NODE and pod.namespaces.ipc != pb.NODE:
        path = f"{held}/ipc" if held else str(folder / "ipc")
        found.append(Namespace(type="ipc", path=path))
    found += _pid(cri, pod, options)
    if pod.user_namespace:
        found.append(Namespace(type="user", path=str(folder / "user")))
    return tuple(found)


def _pid(cri: Cri, pod: Pod, options: pb.NamespaceOption) -> list[Namespace]:
    if options.pid == pb.NODE:
        return []
    if options.pid == pb.CONTAINER:
        return [Namespace(type="pid")]
    if options.pid == pb.TARGET:
        target = cri.find_container(options.target_id)
        if target is None:
            raise NotFound(
                f"target container {options.target_id!r} of the pid namespace: not found"
            )
        if target.pod_id != pod.id:
            raise InvalidArgument(f"target container {target.id} belongs to another pod")
        if not target.running:
            raise FailedPrecondition(f"target container {target.id} does not run")
        return [Namespace(type="pid", path=f"/proc/{target.pid}/ns/pid")]
    if pod.namespaces.pid == pb.NODE:
        return []
    if not pod.holder_pid:
        # The pod was made for containers with pid namespaces of their own.
        return [Namespace(type="pid")]
    return [Namespace(type="pid", path=f"/proc/{pod.holder_pid}/ns/pid")]


def mappings_of(pod: Pod) -> tuple[tuple[IDMapping, ...], tuple[IDMapping, ...]]:
    """Return the maps of the pod's user namespace."""
    uids, gids = id_maps(pod.namespaces)
    return (
        tuple(IDMapping(container_id=a, host_id=b, size=c) for a, b, c in uids),
        tuple(IDMapping(container_id=a, host_id=b, size=c) for a, b, c in gids),
    )
