"""A pod's namespaces: made and pinned by workers of the zygote, unpinned by us.

ipc, uts and user namespaces and /dev/shm lie in the pod's folder (`sampan.shim.pinning`), the
network namespace with `sampan.network`. A user namespace comes first: it is to own the others.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import to_thread
from sampan.cri.sandboxes.files import hostname_of
from sampan.errors import FailedPrecondition, InvalidArgument, Unavailable
from sampan.linux import mounts

if TYPE_CHECKING:
    from sampan.cri.core import Cri
    from sampan.cri.store.records import Pod

__all__ = ["check", "id_maps", "pin", "unmount_pod", "unpin"]

_SHM_BYTES: Final = 64 << 20
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_WORKER_S: Final = 20.0


def check(config: pb.PodSandboxConfig) -> None:
    """Refuse namespaces that cannot be had.

    Raises:
      InvalidArgument: says which field is wrong.
    """
    options = config.linux.security_context.namespace_options
    for kind in ("network", "ipc", "pid"):
        if getattr(options, kind) == pb.TARGET:
            raise InvalidArgument(f"a pod's {kind} namespace cannot be that of a target container")
    if options.network == pb.CONTAINER or options.ipc == pb.CONTAINER:
        raise InvalidArgument("network and ipc namespaces belong to a pod or to the node")
    id_maps(options)


def id_maps(
    options: pb.NamespaceOption,
) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """Return the uid and gid map of the pod's user namespace, empty on the host's.

    Raises:
      InvalidArgument: more than one range, or one that does not begin at 0, or another mode.
    """
    if not options.HasField("userns_options"):
        return [], []
    wanted = options.userns_options
    uids = [(one.container_id, one.host_id, one.length) for one in wanted.uids]
    gids = [(one.container_id, one.host_id, one.length) for one in wanted.gids]
    if wanted.mode == pb.NODE:
        if uids or gids:
            raise InvalidArgument("can't use user namespace mode NODE together with mappings")
        return [], []
    if wanted.mode != pb.POD:
        raise InvalidArgument(
            f"user namespace mode {pb.NamespaceMode.Name(wanted.mode)} is not supported:"
            " use POD or NODE"
        )
    for kind, ranges in (("UID", uids), ("GID", gids)):
        if len(ranges) != 1:
            raise InvalidArgument(f"one {kind} mapping is needed, and {len(ranges)} were given")
        if ranges[0][0] != 0:
            raise InvalidArgument(f"the {kind} mapping must map the container's 0")
        if not ranges[0][2]:
            raise InvalidArgument(f"the {kind} mapping has length 0")
    if uids != gids:
        raise InvalidArgument("mappings of UIDs and GIDs must be the same")
    return uids, gids


async def pin(cri: Cri, pod: Pod) -> None:
    """Make the namespaces of a pod; `unpin` undoes whatever of it was done.

    Raises:
      InvalidArgument: a sysctl was refused.
      SampanError: the kernel refused a namespace.
    """
    folder = cri.pod_folder(pod.id)
    uids, gids = id_maps(pod.namespaces)
    user = ""
    if uids:
        user = str(folder / "ns" / "user")
        values = {"path": user, "uids": uids, "gids": gids}
        await _work(cri, "pin_user", values)
    if not pod.host_network:
        pod.netns = await cri.netns.create(pod.id, userns=user)
    sysctls, optional = _sysctls(cri, pod)
    kinds = []
    if pod.holder:
        # Those of the ipc namespace are the holder's to set, in its own.
        sysctls = {name: value for name, value in sysctls.items() if is_network(name)}
    else:
        kinds = [*(["ipc"] if pod.namespaces.ipc != pb.NODE else [])]
        kinds += [] if pod.host_network else ["uts"]
    await _work(
        cri,
        "pin",
        {
            "folder": str(folder),
            "kinds": kinds,
            "user": user,
            "network": pod.netns,
            "hostname": hostname_of(pod.config),
            "sysctls": sysctls,
            "sysctls_optional": optional,
            "shm_bytes": _SHM_BYTES if pod.namespaces.ipc != pb.NODE else 0,
            "owner": [uids[0][1], gids[0][1]] if uids else [0, 0],
        },
    )


def _sysctls(cri: Cri, pod: Pod) -> tuple[dict[str, str], dict[str, str]]:
    """Return the pod's sysctls, and those that we add where the kernel lets us."""
    wanted = dict(pod.config.linux.sysctls)
    for name in wanted:
        _check_sysctl(name, pod)
    if pod.host_network:
        return wanted, {}
    more = {}
    if cri.settings.runtime.enable_unprivileged_ports:
        more["net.ipv4.ip_unprivileged_port_start"] = "0"
    if cri.settings.runtime.enable_unprivileged_icmp and not pod.user_namespace:
        more["net.ipv4.ping_group_range"] = "0 2147483647"
    return wanted, {name: value for name, value in more.items() if name not in wanted}


_IPC_SYSCTLS: Final = (
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
    "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
)  # fmt: skip


def is_network(name: str) -> bool:
    """Tell whether a sysctl belongs to the network namespace."""
    return name.startswith(("net.", "net/"))


def _check_sysctl(name: str, pod: Pod) -> None:
    """Refuse what would change the node."""
    dotted = name.replace("/", ".") if "/" in name and "." not in name else name
    if dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
        if pod.namespaces.ipc == pb.NODE:
            raise InvalidArgument(f"sysctl {name} needs an ipc namespace of the pod's own")
    elif is_network(name):
        if pod.host_network:
            raise InvalidArgument(f"sysctl {name} needs a network namespace of the pod's own")
    else:
        raise InvalidArgument(f"sysctl {name} is not in a namespace: it would change the node")
    if ".." in name or name.startswith("/"):
        raise InvalidArgument(f"sysctl {name!r} is no name of a sysctl")


async def _work(cri: Cri, function: str, values: Mapping[str, Any]) -> None:
    zygote = await cri.engine.shims.zygote()
    payload = json.dumps(values).encode()

    def work() -> bytes:
        told, tell = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                worker = zygote.fork(f"sampan.shim.pinning:{function}", payload, [tell])
            finally:
                os.close(tell)
            with worker:
                error = os.read(told, 4096)
                if worker.wait(_WORKER_S) and not error:
                    error = b"the worker was killed"
            return error
        finally:
            os.close(told)

    error = (await to_thread(work)).decode(errors="replace")
    if "sysctl" in error:
        raise InvalidArgument(error)
    if error:
        raise FailedPrecondition(f"namespaces of the pod: {error}")


async def unpin(cri: Cri, pod: Pod) -> None:
    """Let go of the namespaces and unmount what was mounted; again and again if need be."""
    folder = cri.pod_folder(pod.id)
    await to_thread(unmount_pod, folder)
    if not pod.host_network:
        await cri.netns.remove(pod.id)
        pod.netns = ""


def unmount_pod(folder: Path) -> None:
    """Unmount the pins and the shared memory in a pod's folder."""
    targets = [folder / "ns" / kind for kind in ("ipc", "uts", "user")] + [folder / "shm"]
    for target in targets:
        for _ in range(8):
            try:
                mounts.umount2(os.fspath(target), _MNT_DETACH | _UMOUNT_NOFOLLOW)
            except OSError as err:
                if err.errno not in (errno.EINVAL, errno.ENOENT):
                    raise Unavailable(f"unmount {target}: {err.strerror}") from err
                break
