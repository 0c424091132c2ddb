"""Subnets that nobody uses, and the files of networks that we make.

A subnet is free when it overlaps no address and no route of the host and no subnet of another
network's file. The default network takes 10.88.0.0/16, or the next free of 10.89 to 10.255; named
ones take /24s from 10.89.0.0 on. For IPv6 a unique local /64 is drawn by hash (RFC 4193), so that a
host gets the same one for the same name again.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sampan.errors import ResourceExhausted
from sampan.linux import netlink

__all__ = [
    "MARKER",
    "Subnet",
    "addresses_of",
    "bridge_list",
    "bridge_name",
    "changing",
    "free_subnet",
    "make_default",
    "read_lists",
    "subnets_of",
    "used",
    "write_list",
]

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network

MARKER: Final = "sampan"
"""The key of a list of plugins under which we keep what is ours: its presence marks the file."""

DEFAULT_BRIDGE: Final = "sampan0"
_DEFAULT_ROOT: Final = Path("/var/lib/sampan")


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of networks, which is made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def used(lists: Sequence[Mapping[str, Any]]) -> list[Subnet]:
    """Return the subnets of the host we are on, and those in configurations of networks."""
    with netlink.Route() as route:
        addresses, routes = route.addresses(), route.routes()
    names = [f"{one.address}/{one.prefix}" for one in addresses]
    names += [f"{one.destination}/{one.prefix}" for one in routes if one.prefix]
    found = [ipaddress.ip_network(one, strict=False) for one in names]
    for raw in lists:
        found += subnets_of(raw)
    return found


def subnets_of(raw: object) -> list[Subnet]:
    """Return every subnet named anywhere in a configuration."""
    found: list[Subnet] = []
    if isinstance(raw, Mapping):
        for key, value in raw.items():
            if key == "subnet" and isinstance(value, str):
                with suppress(ValueError):
                    found.append(ipaddress.ip_network(value, strict=False))
            else:
                found += subnets_of(value)
    elif isinstance(raw, list):
        for one in raw:
            found += subnets_of(one)
    return found


def free_subnet(taken: Sequence[Subnet], *, version: int, prefix: int, name: str) -> Subnet:
    """Return a subnet that overlaps none of `taken`.

    Raises:
      ResourceExhausted: there is none.
    """
    for candidate in _candidates(version, prefix, name):
        if not any(candidate.version == one.version and candidate.overlaps(one) for one in taken):
            return candidate
    raise ResourceExhausted(f"no free IPv{version} subnet of /{prefix} for network {name}")


def _candidates(version: int, prefix: int, name: str) -> Iterator[Subnet]:
    if version == 6:
        for turn in range(64):
            digest = hashlib.sha256(f"{_machine()}/{name}/{turn}".encode()).digest()
            raw = b"\xfd" + digest[:7] + bytes(8)
            yield ipaddress.IPv6Network((raw, prefix))
        return
    first = 88 if prefix == 16 else 89
    for second in range(first, 256):
        for net in ipaddress.IPv4Network(f"10.{second}.0.0/16").subnets(new_prefix=prefix):
            yield net
    for net in ipaddress.IPv4Network("172.16.0.0/12").subnets(new_prefix=prefix):
        yield net


def _machine() -> str:
    with suppress(OSError):
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()
    return os.uname().nodename


def bridge_list(
    name: str,
    bridge: str,
    subnets: Sequence[Mapping[str, Any]],
    *,
    internal: bool = False,
    mtu: int = 0,
    labels: Mapping[str, str] | None = None,
    addresses: Path | None = None,
) -> dict[str, Any]:
    """Return the list of plugins of a bridge network.

    Addresses in use are kept in `addresses`: another root may have a network of the same name.
    An internal one has a gateway address on the bridge, but neither default route nor masquerade.
    """
    routes = []
    if not internal:
        versions = {ipaddress.ip_network(one["subnet"]).version for one in subnets}
        routes = [{"dst": "0.0.0.0/0" if version == 4 else "::/0"} for version in sorted(versions)]
    first: dict[str, Any] = {
        "type": "bridge",
        "bridge": bridge,
        "isGateway": True,
        "ipMasq": not internal,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[dict(one)] for one in subnets]},
    }
    if addresses is not None:
        first["ipam"]["dataDir"] = str(addresses)
    if routes:
        first["ipam"]["routes"] = routes
    if mtu:
        first["mtu"] = mtu
    for capability in ("ips", "mac"):
        first.setdefault("capabilities", {})[capability] = True
    plugins = [first]
    if not internal:
        plugins.append({"type": "portmap", "capabilities": {"portMappings": True}})
    plugins += [
        # Networks do not reach each other, as with docker and nerdctl.
        {"type": "firewall", "ingressPolicy": "same-bridge"},
        {"type": "bandwidth", "capabilities": {"bandwidth": True}},
        {"type": "tuning", "capabilities": {"mac": True}},
    ]
    if internal:
        plugins = [one for one in plugins if one["type"] != "firewall"]
    mine = {"internal": internal, "labels": dict(labels or {})}
    return {"cniVersion": "1.1.0", "name": name, MARKER: mine, "plugins": plugins}


def write_list(folder: Path, raw: Mapping[str, Any]) -> Path:
    """Write the file of a network, whole or not at all, and return its path."""
    path = folder / f"{raw['name']}.conflist"
    temporary = folder / f".{raw['name']}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, json.dumps(raw, indent=2).encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
    return path


def read_lists(folder: Path) -> list[dict[str, Any]]:
    """Return the lists of plugins in a folder; what is broken is left out."""
    found = []
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder)):
            if name.endswith((".conflist", ".conf", ".json")):
                with suppress(OSError, ValueError):
                    raw = json.loads((folder / name).read_bytes())
                    if isinstance(raw, dict):
                        found.append(raw)
    return found


def make_default(folder: Path, others: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write the default network, unless somebody just did; blocks.

    Raises:
      ResourceExhausted: no subnet is free.
    """
    with changing(folder):
        if (folder / "sampan.conflist").exists():
            return
        taken = used([*read_lists(folder), *others])
        subnets = [
            {"subnet": str(free_subnet(taken, version=version, prefix=prefix, name="sampan"))}
            for version, prefix in ((4, 16), (6, 64))
            if version == 4 or os.path.exists("/proc/net/if_inet6")
        ]
        bridge = DEFAULT_BRIDGE
        if _DEFAULT_ROOT not in folder.parents:
            bridge = bridge_name(folder, "sampan")
        write_list(folder, bridge_list("sampan", bridge, subnets, addresses=addresses_of(folder)))


def bridge_name(folder: Path, name: str) -> str:
    """Return a name for the bridge of a network that no other root's network has."""
    return f"br-{hashlib.sha256(f'{folder}/{name}'.encode()).hexdigest()[:12]}"


def addresses_of(folder: Path) -> Path:
    """Return where host-local keeps the addresses of the networks in `folder`."""
    return folder.parent / "addresses"
