"""A bundle: a folder with a rootfs and a config.json that a test edits before it is run."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["DEFAULT_CAPABILITIES", "Bundle", "default_config"]

DEFAULT_CAPABILITIES = [
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
    "CAP_SETUID", "CAP_SYS_CHROOT",
]  # fmt: skip
"""Those that containerd and docker give."""

_MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
           "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"]  # fmt: skip
_READ_ONLY = [
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
]


def _mount(destination: str, fstype: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": fstype, "source": source, "options": list(options)}


def default_config(args: tuple[str, ...] = ("sh",), *, cgroup: str = "") -> dict[str, Any]:
    """Return a config.json like that of `ctr run`: five namespaces, the usual mounts, no seccomp.

    It is written out here, not taken from `sampan.model`, so that a defect there cannot hide.
    """
    sets = ("bounding", "effective", "permitted")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(args),
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(sets, DEFAULT_CAPABILITIES),
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "hostname": "bundle",
        "mounts": [
            _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance",
                   "ptmxmode=0666", "mode=0620", "gid=5"),
            _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777",
                   "size=65536k"),
            _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            _mount("/run", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")],
            "maskedPaths": _MASKED,
            "readonlyPaths": _READ_ONLY,
        },
    }  # fmt: skip


class Bundle:
    """`path`/config.json and `path`/rootfs, for a container called `id`.

    `config` is a plain dict to be edited at will; `write` saves it, which every driver does.
    """

    def __init__(self, path: Path, id: str) -> None:
        self.path = path
        self.id = id
        """Unique on the machine; also the name of the container's cgroup."""
        self.config = default_config(cgroup=f"/{id}")

    @property
    def rootfs(self) -> Path:
        return self.path / "rootfs"

    @property
    def process(self) -> dict[str, Any]:
        process: dict[str, Any] = self.config["process"]
        return process

    @property
    def linux(self) -> dict[str, Any]:
        linux: dict[str, Any] = self.config["linux"]
        return linux

    def mount(self, destination: str, fstype: str, source: str, *options: str) -> None:
        """Add a mount after those that are there."""
        self.config["mounts"].append(_mount(destination, fstype, source, *options))

    def bind_host_programs(self) -> None:
        """Show the host's /usr read-only, so that its python3 and all its tools can run inside."""
        for name in ("bin", "sbin", "lib", "lib64", "lib32"):
            host = Path("/", name)
            if host.is_symlink():
                self._replace_by_link(name, str(host.readlink()))
            elif host.is_dir():
                self.mount(f"/{name}", "bind", f"/{name}", "rbind", "ro")
        self.mount("/usr", "bind", "/usr", "rbind", "ro")

    def _replace_by_link(self, name: str, target: str) -> None:
        path = self.rootfs / name
        if path.is_dir() and not path.is_symlink():
            path.rename(self.rootfs / f"{name}.busybox")
        if not path.is_symlink():
            path.symlink_to(target)

    def with_changes(self, args: tuple[str, ...], **changes: object) -> dict[str, Any]:
        """Return the configuration with `args` and with keywords put where they belong.

        `resources`, `namespaces`, `seccomp` ... go to `linux`; `env`, `cwd`, `user` ... to
        `process`; the rest to the top. Values are JSON or have a `to_json` method.
        """
        config = copy.deepcopy(self.config)
        if args:
            config["process"]["args"] = list(args)
        for key, value in changes.items():
            plain = _plain(value)
            section = (
                config["process"]
                if key in _PROCESS
                else config["linux"]
                if key in _LINUX
                else config
            )
            section[_PROCESS.get(key) or _LINUX.get(key) or key] = plain
        return config

    def write(self, config: Mapping[str, Any] | None = None) -> Path:
        """Save `config`, by default the one held here; returns its path."""
        path = self.path / "config.json"
        path.write_text(json.dumps(config if config is not None else self.config, indent=1))
        return path


_PROCESS = {key: key for key in ("env", "cwd", "user", "capabilities", "rlimits", "terminal")} | {
    "no_new_privileges": "noNewPrivileges",
    "oom_score_adj": "oomScoreAdj",
}
_LINUX = {key: key for key in ("resources", "namespaces", "seccomp", "devices", "sysctl")} | {
    "masked_paths": "maskedPaths",
    "readonly_paths": "readonlyPaths",
    "uid_mappings": "uidMappings",
    "gid_mappings": "gidMappings",
    "cgroups_path": "cgroupsPath",
    "rootfs_propagation": "rootfsPropagation",
}


def _plain(value: object) -> object:
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
