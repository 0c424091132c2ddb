"""update and spec."""

from __future__ import annotations

import os
import sys

from sampan.errors import FailedPrecondition, InvalidArgument
from sampan.model.runtime.defaults import default_spec
from sampan.model.runtime.document import dumps, loads
from sampan.model.runtime.resources import CPU, BlockIO, Memory, Pids, Resources
from sampan.oci.arguments import Flags, parse
from sampan.oci.commands import one_id, state_root
from sampan.oci.container import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["spec", "update"]

_SUFFIXES = {"k": 10, "m": 20, "g": 30, "t": 40}
_MOST_TEXT = 1 << 20


def update(globals: Flags, words: list[str]) -> int:
    known = (
        "resources=|r blkio-weight= cpu-period= cpu-quota= cpu-burst= cpu-share= cpu-rt-period="
        " cpu-rt-runtime= cpuset-cpus= cpuset-mems= memory= memory-reservation= memory-swap="
        " pids-limit= cpu-idle="
    )
    flags, _ = parse(words, known)
    container = load(state_root(globals), one_id(flags, "update"))
    source = flags.get("resources")
    if source:
        if source == "-":
            text = sys.stdin.buffer.read()
        else:
            with open(source, "rb") as file:
                text = file.read()
        container.update(Resources.from_json(loads(text)))
        return 0
    container.update(_resources(flags))
    return 0


def _resources(flags: Flags) -> Resources:
    def size(name: str) -> int | None:
        text = flags.get(name).lower()
        if not text:
            return None
        shift = _SUFFIXES.get(text.rstrip("ib")[-1:], 0)
        digits = text.rstrip("ib")[:-1] if shift else text.rstrip("b")
        if not digits.lstrip("-").isdigit():
            raise InvalidArgument(f"invalid value for {name}: {flags.get(name)!r}")
        return int(digits) << shift

    memory = Memory(
        limit=size("memory"), reservation=size("memory-reservation"), swap=size("memory-swap")
    )
    cpu = CPU(
        shares=size("cpu-share"), quota=size("cpu-quota"), period=size("cpu-period"),
        burst=size("cpu-burst"), realtime_period=size("cpu-rt-period"),
        realtime_runtime=size("cpu-rt-runtime"), cpus=flags.get("cpuset-cpus"),
        mems=flags.get("cpuset-mems"), idle=size("cpu-idle"),
    )  # fmt: skip
    pids = size("pids-limit")
    weight = size("blkio-weight")
    return Resources(
        memory=memory if memory != Memory() else None,
        cpu=cpu if cpu != CPU() else None,
        pids=Pids(limit=pids) if pids is not None else None,
        block_io=BlockIO(weight=weight) if weight is not None else None,
    )


def spec(globals: Flags, words: list[str]) -> int:
    """Write a config.json to start from."""
    flags, _ = parse(words, "bundle=|b rootless")
    path = os.path.join(flags.get("bundle") or ".", "config.json")
    document = default_spec().to_json()
    if flags.has("rootless"):
        _make_rootless(document)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError as err:
        raise FailedPrecondition(f"File {path} exists. Remove it first") from err
    with open(fd, "wb") as file:
        file.write(dumps(document, "\t").encode() + b"\n")
    return 0


def _make_rootless(document: dict[str, Any]) -> None:
    """Change a config.json so that the calling user can run it, mapped to root inside.

    The network is the host's, so /sys must be, too; ids that are not mapped cannot be asked for;
    and cgroups are not limited, as nobody may have delegated any.
    """
    linux = document["linux"]
    kept = [n for n in linux["namespaces"] if n["type"] not in ("network", "user")]
    linux["namespaces"] = [*kept, {"type": "user"}]
    linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    linux.pop("resources", None)
    mounts = []
    for mount in document["mounts"]:
        if mount["destination"].startswith("/sys/"):
            continue
        if mount["destination"] == "/sys":
            options = ["rbind", "nosuid", "noexec", "nodev", "ro"]
            host = {"destination": "/sys", "type": "none", "source": "/sys", "options": options}
            mounts.append(host)
            continue
        options = mount.get("options", ())
        mount["options"] = [o for o in options if not o.startswith(("uid=", "gid="))]
        mounts.append(mount)
    document["mounts"] = mounts
