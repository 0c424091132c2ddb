"""Kubernetes' Container Runtime Interface: pods, containers, images, streaming, statistics, NRI.

    cri = await open_cri(engine)          # state of earlier daemons is read, dead pods are noticed
    serving(sock, [*cri.services(), ...]) # runtime.v1.RuntimeService and runtime.v1.ImageService
    await cri.close()                     # pods run on

A *pod* (sandbox) is what its containers share, made without a process of its own:

    RunPodSandbox    name reserved -> record -> network namespace (CNI) -> ipc, uts, user namespaces
                     pinned by mounts, /dev/shm, resolv.conf -> a shim for all its containers
    CreateContainer  name reserved -> snapshot of the image -> config.json (`spec`) -> record
    StartContainer   task in the pod's shim; a watcher waits for its end
    StopPodSandbox   containers killed -> network torn down -> shim ended -> pins undone
    Remove*          what is left, then the record, then the name

A pod whose containers share a pid namespace, and one that is to have a pause container, has a
*holder* besides: the task with the pod's own id, whose first process only reaps.

    sandboxes/ containers/ images/    one module an rpc (or few that belong together)
    spec/                             config.json, a module a topic
    store/                            records, names, states; what survives what
    services                          the two gRPC services: convert and delegate
    streaming/ stats/ nri/            HTTP streams, figures, plugins: rooms of their own

What is remembered where: the metadata database (namespace `k8s.io`) holds a row for each pod and
container, with the request itself as an extension, written before anything is made; times and exit
codes are in files below `<state>`, which a reboot ends, as it ends what they are about.

    <root>/io.containerd.grpc.v1.cri/containers/<id>/volumes/<n>/   volumes that images define
    <state>/io.containerd.grpc.v1.cri/
      sandboxes/<id>/     status.json resolv.conf hosts hostname shm/ ns/{ipc,uts,user}
      containers/<id>/    status.json io/ (fifos)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sampan.cri.core import Cri, open_cri

__all__ = ["NAMESPACE", "Cri", "open_cri"]

NAMESPACE: Final = "k8s.io"
"""Where kubelet's things live, whatever headers a caller sends."""

_HOMES = {"Cri": "core", "open_cri": "core"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
