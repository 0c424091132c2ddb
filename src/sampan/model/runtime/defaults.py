"""Defaults for whoever writes a config.json: `sampan-oci spec`, the client, CRI.

The capabilities, masked and read-only paths are those of containerd and docker, so that an image
behaves here as there. Source: containerd 2 oci.populateDefaultUnixSpec; moby oci/caps/defaults.go.
"""

from __future__ import annotations

from sampan.model.runtime.linux import Linux, Namespace
from sampan.model.runtime.process import Capabilities, Process, Rlimit
from sampan.model.runtime.resources import DeviceRule, Resources
from sampan.model.runtime.spec import Mount, Root, Spec

__all__ = [
    "DEFAULT_CAPABILITIES",
    "DEFAULT_PATH",
    "MASKED_PATHS",
    "OCI_VERSION",
    "READONLY_PATHS",
    "capability_sets",
    "default_mounts",
    "default_spec",
]

OCI_VERSION = "1.2.1"
"""What our documents claim to be: 1.3 adds fields that Debian's runtimes do not know."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
)  # fmt: skip
"""What a container of docker and containerd has."""

MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def capability_sets(names: tuple[str, ...] = DEFAULT_CAPABILITIES) -> Capabilities:
    """Return the sets for these capabilities; inheritable stays empty (CVE-2022-24769)."""
    return Capabilities(bounding=names, effective=names, permitted=names)


def default_mounts(*, cgroup_writable: bool = False) -> tuple[Mount, ...]:
    """Return /proc, /dev and its parts, /sys and the cgroups."""
    restricted = ("nosuid", "noexec", "nodev")
    mode = "rw" if cgroup_writable else "ro"
    return (
        Mount(destination="/proc", type="proc", source="proc", options=restricted),
        Mount(
            destination="/dev",
            type="tmpfs",
            source="tmpfs",
            options=("nosuid", "strictatime", "mode=755", "size=65536k"),
        ),
        Mount(
            destination="/dev/pts",
            type="devpts",
            source="devpts",
            options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        ),
        Mount(
            destination="/dev/shm",  # noqa: S108
            type="tmpfs",
            source="shm",
            options=(*restricted, "mode=1777", "size=65536k"),
        ),
        Mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=restricted),
        Mount(destination="/sys", type="sysfs", source="sysfs", options=(*restricted, "ro")),
        Mount(
            destination="/sys/fs/cgroup",
            type="cgroup",
            source="cgroup",
            options=(*restricted, "relatime", mode),
        ),
    )


def default_spec() -> Spec:
    """Return what `spec` writes: a shell in every namespace of its own, with few rights."""
    kinds = ("pid", "network", "ipc", "uts", "mount", "cgroup")
    few = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
    return Spec(
        oci_version=OCI_VERSION,
        process=Process(
            terminal=True,
            args=("sh",),
            env=(f"PATH={DEFAULT_PATH}", "TERM=xterm"),
            capabilities=capability_sets(few),
            rlimits=(Rlimit(type="RLIMIT_NOFILE", hard=1024, soft=1024),),
            no_new_privileges=True,
        ),
        root=Root(path="rootfs", readonly=True),
        hostname="sampan",
        mounts=default_mounts(),
        linux=Linux(
            resources=Resources(devices=(DeviceRule(allow=False, access="rwm"),)),
            namespaces=tuple(Namespace(type=kind) for kind in kinds),
            masked_paths=MASKED_PATHS,
            readonly_paths=READONLY_PATHS,
        ),
    )
