"""What `features` prints. Source: runtime-spec features.md and features-linux.md."""

from __future__ import annotations

from sampan import __version__
from sampan.linux import capabilities
from sampan.oci.rootfs.options import known_options
from sampan.oci.seccomp import ACTIONS, ARCHITECTURES, FLAGS, OPERATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["features"]


def features() -> dict[str, Any]:
    """Return the document; only what works is in it."""
    options = [name for name in known_options() if name not in ("idmap", "ridmap")]
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.1",
        "hooks": ["prestart", "createRuntime", "poststart", "poststop"],
        "mountOptions": options,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": list(capabilities.NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False},
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
            "intelRdt": {"enabled": False},
        },
        "annotations": {"org.sampan.version": __version__},
    }
