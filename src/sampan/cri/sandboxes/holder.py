"""The holder: a task with the pod's id whose first process only waits and reaps.

A pod needs one when its containers share a pid namespace, which lives no longer than its first
process, and when the handler asks for a pause image. By default it is 160 bytes of program of our
own, in a root that holds nothing else; nothing is pulled, and it has no memory to speak of.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import to_thread
from sampan.cri.sandboxes.files import hostname_of
from sampan.cri.sandboxes.namespaces import id_maps, is_network
from sampan.cri.spec.oom import oom_score
from sampan.errors import Unimplemented
from sampan.model.mounts import Mount as RootMount
from sampan.model.runtime.defaults import DEFAULT_PATH, OCI_VERSION
from sampan.model.runtime.linux import IDMapping, Linux, Namespace
from sampan.model.runtime.process import Capabilities, Process
from sampan.model.runtime.spec import Mount, Root, Spec
from sampan.runtime import Stdio

if TYPE_CHECKING:
    from sampan.cri.core import Cri
    from sampan.cri.store.records import Pod

__all__ = ["needed", "program", "start"]

PAUSE_ANNOTATION: Final = "sampan.io/pause-image"
"""Of a pod: its holder is this image's command, as other runtimes have it for every pod."""
_OOM_SCORE: Final = -998
_BASE: Final = 0x400000
_HEADERS: Final = 64 + 56
_SIGCHLD, _SIG_IGN, _SA_NOCLDWAIT = 17, 1, 2


def needed(cri: Cri, pod: Pod) -> bool:
    """Tell whether this pod needs a holder."""
    return pod.namespaces.pid == pb.POD or bool(pause_image(cri, pod))


def pause_image(cri: Cri, pod: Pod) -> str:
    """Return the image to hold the pod with; empty is our own program.

    A pod asks for one by an annotation, its value being a name or an id; the image must be here.
    """
    return pod.config.annotations.get(PAUSE_ANNOTATION, "")


def program(machine: str) -> bytes:
    """Return an ELF program that ignores SIGCHLD, so that the kernel reaps, and waits for ever.

    Raises:
      Unimplemented: for another machine than x86_64 and aarch64.
    """
    action = struct.pack("<4Q", _SIG_IGN, _SA_NOCLDWAIT, 0, 0)
    if machine == "x86_64":
        code = b"".join(
            (
                b"\xb8\x0d\x00\x00\x00",  # mov eax, 13 (rt_sigaction)
                b"\xbf\x11\x00\x00\x00",  # mov edi, SIGCHLD
                b"\x48\x8d\x35\x15\x00\x00\x00",  # lea rsi, [action]
                b"\x31\xd2",  # xor edx, edx
                b"\x41\xba\x08\x00\x00\x00",  # mov r10d, 8
                b"\x0f\x05",  # syscall
                b"\xb8\x22\x00\x00\x00",  # mov eax, 34 (pause)
                b"\x0f\x05",  # syscall
                b"\xeb\xf7",  # jmp to the mov before
                b"\x90\x90",
            )
        )
        kind = 62
    elif machine == "aarch64":
        words = [
            _movz(8, 134), _movz(0, _SIGCHLD), 0x10000001 | (14 << 5), _movz(2, 0), _movz(3, 8),
            0xD4000001,  # svc: rt_sigaction
            _movz(8, 73), _movz(0, 0), _movz(1, 0), _movz(2, 0), _movz(3, 0),
            0xD4000001,  # svc: ppoll without fds or end
            0x14000000 | (-6 & 0x3FFFFFF),  # b to the movz before
            0xD503201F, 0xD503201F, 0xD503201F,  # nop
        ]  # fmt: skip
        code = struct.pack(f"<{len(words)}I", *words)
        kind = 183
    else:
        raise Unimplemented(f"no holder for machine {machine}: set a pause image")
    size = _HEADERS + len(code) + len(action)
    elf = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 2, kind, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return elf + load + code + action


def _movz(register: int, value: int) -> int:
    return 0xD2800000 | value << 5 | register


async def start(cri: Cri, pod: Pod) -> None:
    """Run the holder in the pod's shim.

    Raises:
      NotFound: the pause image is not here.
    """
    name = pause_image(cri, pod)
    if name:
        mounts, arguments = await _image_root(cri, pod, name)
    else:
        root = await to_thread(_root, cri.state)
        mounts = [RootMount("bind", os.fspath(root), "", ("rbind", "ro"))]
        arguments = ("/pause",)
    spec = _spec(cri, pod, arguments)
    tasks = cri.engine.tasks
    await tasks.create(
        pod.id,
        spec=json.dumps(spec.to_json()).encode(),
        rootfs=mounts,
        stdio=Stdio(),
        pod=cri.pod_shims.bundle(pod.id),
    )
    pod.holder_pid = await tasks.start(pod.id)


async def _image_root(cri: Cri, pod: Pod, name: str) -> tuple[list[RootMount], tuple[str, ...]]:
    from sampan.cri.containers.create import prepare_root
    from sampan.cri.containers.volumes import GC_ROOT, KEPT
    from sampan.cri.spec.process import arguments_of

    image = await cri.images.get(name)
    snapshotter = cri.settings.images.snapshotter
    mounts = await prepare_root(cri, pod, image, pod.id, snapshotter, {GC_ROOT: KEPT[1]})
    return list(mounts), arguments_of(pb.ContainerConfig(), image.config)


def _root(state: Path) -> Path:
    root = state / "holder"
    binary = root / "pause"
    if not binary.exists():
        for folder in ("proc", "dev", "sys"):
            (root / folder).mkdir(mode=0o755, parents=True, exist_ok=True)
        root.chmod(0o755)
        temporary = root / f".pause.{secrets.token_hex(4)}"
        temporary.write_bytes(program(os.uname().machine))
        temporary.chmod(0o555)
        temporary.rename(binary)
    return root


def _spec(cri: Cri, pod: Pod, arguments: tuple[str, ...]) -> Spec:
    uids, gids = id_maps(pod.namespaces)
    folder = cri.pod_folder(pod.id)
    spaces = [Namespace(type="mount")]
    if pod.namespaces.pid == pb.POD:
        spaces.append(Namespace(type="pid"))
    if pod.namespaces.ipc != pb.NODE:
        spaces.append(Namespace(type="ipc"))
    if not pod.host_network:
        spaces += [Namespace(type="uts"), Namespace(type="network", path=pod.netns)]
    if uids:
        spaces.append(Namespace(type="user", path=str(folder / "ns" / "user")))
    none = Capabilities()
    return Spec(
        oci_version=OCI_VERSION,
        process=Process(
            args=arguments,
            env=(f"PATH={DEFAULT_PATH}",),
            cwd="/",
            capabilities=none,
            no_new_privileges=True,
            oom_score_adj=oom_score(
                _OOM_SCORE, restricted=cri.settings.runtime.restrict_oom_score_adj
            ),
        ),
        root=Root(path="rootfs", readonly=True),
        hostname="" if pod.host_network else hostname_of(pod.config),
        mounts=(
            Mount(
                destination="/proc",
                type="proc",
                source="proc",
                options=("nosuid", "noexec", "nodev"),
            ),
            Mount(
                destination="/dev",
                type="tmpfs",
                source="tmpfs",
                options=("nosuid", "strictatime", "mode=755", "size=65536k"),
            ),
        ),
        annotations={
            "io.kubernetes.cri.container-type": "sandbox",
            "io.kubernetes.cri.sandbox-id": pod.id,
        },
        linux=Linux(
            uid_mappings=tuple(IDMapping(container_id=a, host_id=b, size=c) for a, b, c in uids),
            gid_mappings=tuple(IDMapping(container_id=a, host_id=b, size=c) for a, b, c in gids),
            cgroups_path=cri.cgroup_of(pod, pod.id),
            namespaces=tuple(spaces),
            sysctl={
                name: value
                for name, value in pod.config.linux.sysctls.items()
                if not is_network(name)
            }
            or None,
            masked_paths=("/proc/kcore", "/proc/keys"),
        ),
    )
