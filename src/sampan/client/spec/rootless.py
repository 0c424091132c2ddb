"""A config.json for a runtime that is root in an ordinary user's namespace only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan.errors import FailedPrecondition
from sampan.zygote.userns import has_ranges

if TYPE_CHECKING:
    from sampan.client.spec.request import Request

__all__ = ["adapt", "delegated"]

_HOST_SYS: Final = {
    "destination": "/sys",
    "type": "none",
    "source": "/sys",
    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
}


def delegated() -> bool:
    """Tell whether this user may make cgroups below our own on the unified hierarchy."""
    import os

    try:
        with open("/proc/self/cgroup", encoding="ascii") as file:
            own = next(line[3:].strip() for line in file if line.startswith("0::"))
    except (OSError, StopIteration):
        return False
    top = Path("/sys/fs/cgroup")
    if not (top / "cgroup.controllers").exists():
        return False
    return os.access(top / own.lstrip("/"), os.W_OK)


def adapt(spec: dict[str, Any], request: Request) -> None:
    """Change `spec` to what such a runtime can do.

    Without delegated cgroups nothing can be limited; with the host's network, /sys is the host's;
    and cgroups are shown to nobody.

    Raises:
      FailedPrecondition: limits are asked for that nobody here may set.
    """
    linux = spec["linux"]
    limits = request.limits
    if not delegated():
        asked = [
            name
            for name, value in (
                ("memory", limits.memory_bytes),
                ("cpus", limits.cpus),
                ("pids", limits.pids),
            )
            if value
        ]
        if asked:
            raise FailedPrecondition(
                f"{', '.join(asked)} cannot be limited: no cgroup is delegated to this user; run"
                " it in a systemd user session on cgroup v2, or as root"
            )
        linux.pop("resources", None)
    ranges = has_ranges()
    kinds = {namespace["type"] for namespace in linux["namespaces"]}
    mounts = []
    for mount in spec["mounts"]:
        if mount["destination"] == "/sys/fs/cgroup":
            continue
        if mount["destination"] == "/sys" and "network" not in kinds:
            mounts.append(dict(_HOST_SYS))
            continue
        if not ranges:  # no id but root's is mapped
            kept = [o for o in mount.get("options", ()) if not o.startswith(("uid=", "gid="))]
            mount = {**mount, "options": kept}  # noqa: PLW2901 - the adapted one
        mounts.append(mount)
    spec["mounts"] = mounts
