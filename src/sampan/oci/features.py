"""What `features` prints. Source: runtime-spec features.md and features-linux.md."""

from __future__ import annotations

from sampan import __version__
from sampan.linux import capabilities
from sampan.linux.scheduling import MPOL_FLAGS, MPOL_MODES
from sampan.oci.rootfs.options import known_options
from sampan.oci.seccomp import ACTIONS, ARCHITECTURES, FLAGS, OPERATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["features"]

_HOOKS = (
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
)  # fmt: skip


def features() -> dict[str, Any]:
    """Return the document: what the runtime can do, whatever this host has."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": list(_HOOKS),
        "mountOptions": list(known_options()),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": list(capabilities.NAMES),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": True,
                "systemdUser": True,
                "rdma": True,
            },
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted(ARCHITECTURES),
                "knownFlags": sorted(FLAGS),
                "supportedFlags": sorted(FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": False},
            "memoryPolicy": {"modes": sorted(MPOL_MODES), "flags": sorted(MPOL_FLAGS)},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {
            "org.opencontainers.runc.checkpoint.enabled": "true",
            "org.sampan.version": __version__,
        },
        "potentiallyUnsafeConfigAnnotations": [],
    }
