"""Files of a pod that its containers see: resolv.conf, hosts, hostname."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.errors import InvalidArgument

__all__ = ["hostname_of", "write"]

_HOSTNAME_MAX: Final = 64
_LOOPBACK: Final = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)


def hostname_of(config: pb.PodSandboxConfig) -> str:
    """Return the pod's host name: its own, or this node's.

    Raises:
      InvalidArgument: the kernel takes no name that long.
    """
    name = config.hostname or os.uname().nodename
    if len(os.fsencode(name)) > _HOSTNAME_MAX:
        raise InvalidArgument(f"hostname {name!r} is longer than {_HOSTNAME_MAX} bytes")
    return name


def write(folder: Path, config: pb.PodSandboxConfig) -> None:
    """Write the pod's files into its folder; containers get them by bind mounts."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    _put(folder / "hostname", f"{hostname_of(config)}\n")
    _put(folder / "hosts", _read("/etc/hosts") or _LOOPBACK)
    _put(folder / "resolv.conf", _resolv_conf(config))


def _resolv_conf(config: pb.PodSandboxConfig) -> str:
    dns = config.dns_config
    if not (dns.servers or dns.searches or dns.options):
        return _read("/etc/resolv.conf")
    lines = []
    if dns.searches:
        lines.append(f"search {' '.join(dns.searches)}")
    lines += [f"nameserver {server}" for server in dns.servers]
    if dns.options:
        lines.append(f"options {' '.join(dns.options)}")
    if any("\n" in line for line in lines):
        raise InvalidArgument("dns_config holds a line break")
    return "\n".join(lines) + "\n"


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def _put(path: Path, text: str) -> None:
    path.write_text(text, "utf-8", "surrogateescape")
    path.chmod(0o644)
