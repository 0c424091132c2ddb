"""A container's place on networks: what was asked, and its set-up at each start.

The network namespace is pinned, so that a container stopped and started again, and one that shares
its network, find it at the same path. Addresses are taken at the start and given back when the
container has ended, as docker does. In `<folder>/network.json` lies what the last set-up gave.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sampan.client.spec.request import Volume
from sampan.concurrency import to_thread
from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.client.containers import Folder
    from sampan.metadata import Container
    from sampan.network import Request, Result

__all__ = [
    "LABEL",
    "Networking",
    "Port",
    "attach",
    "files",
    "given",
    "of",
    "path",
    "release",
    "with_defaults",
]

LABEL: Final = "sampan/network"
_FILES: Final = ("hosts", "hostname", "resolv.conf")


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the container, and the port of the host that leads there."""

    host: int
    """0 is any free one."""
    container: int
    protocol: str = "tcp"
    address: str = ""
    """Of the host; empty is every one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Networking:
    """What somebody wants of the network; the default is none at all."""

    names: tuple[str, ...] = ()
    """`none`, `host`, `container:NAME`, or names of networks; `bridge` and `default` are the
    default one."""
    aliases: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    mac: str = ""
    ports: tuple[Port, ...] = ()
    publish_all: bool = False
    exposed: tuple[str, ...] = ()
    """Of the image or by flag: `80/tcp`."""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    """Further lines of /etc/hosts: name, address."""

    @property
    def joins(self) -> bool:
        """Whether networks are to be set up for it."""
        return bool(self.names) and not self.names[0].startswith(("none", "host", "container:"))

    def labels(self) -> dict[str, str]:
        """Return it as a label of the container's record."""
        if self == Networking():
            return {}
        changed = {k: v for k, v in asdict(self).items() if v}
        return {LABEL: json.dumps(changed, separators=(",", ":"))}


def of(labels: Mapping[str, str]) -> Networking:
    """Return what a container's labels say; what is malformed counts as nothing."""
    try:
        values = json.loads(labels.get(LABEL) or "{}")
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        ports = tuple(Port(**one) for one in values.pop("ports", ()))
        hosts = tuple((name, where) for name, where in values.pop("hosts", ()))
        return Networking(ports=ports, hosts=hosts, **values)
    except (ValueError, TypeError, AttributeError):
        return Networking()


async def path(client: Client, id: str, wanted: Networking) -> str:
    """Return what `Request.network` of container `id` is to say.

    Raises:
      NotFound: there is no such network or container.
      FailedPrecondition: the container whose network is to be shared does not run.
    """
    first = wanted.names[0] if wanted.names else "none"
    if first in ("none", "host"):
        return first
    if first.startswith("container:"):
        from sampan.client.containers import find, view

        other = await find(client, first.removeprefix("container:"))
        if of(other.labels).joins:
            return client.network_namespaces.path(other.id)
        seen = await view(client, other)
        if seen.task is None or seen.state != "running":
            raise FailedPrecondition(
                f"container {seen.name} is {seen.state}: start it, to share its network"
            )
        return f"/proc/{seen.task.pid}/ns/net"
    for name in _names(wanted):
        await client.network_store.inspect(name)
    return client.network_namespaces.path(id)


def files(folder: Folder, wanted: Networking, hostname: str) -> tuple[Volume, ...]:
    """Write hosts, hostname and resolv.conf of a container; return them as mounts."""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{where}\t{name}" for name, where in wanted.hosts if where != "host-gateway"]
    _write(folder, "hosts", lines)
    _write(folder, "hostname", [hostname])
    _write(folder, "resolv.conf", _resolv(wanted))
    return tuple(
        Volume(str(folder.path / name), f"/etc/{name}", ("rbind", "rprivate", "rw"))
        for name in _FILES
    )


def _write(folder: Folder, name: str, lines: list[str]) -> None:
    file = folder.path / name
    file.write_text("".join(f"{line}\n" for line in lines))
    file.chmod(0o644)


def _resolv(wanted: Networking) -> list[str]:
    """Return resolv.conf: the host's, but for what was asked, and for its own loopback's."""
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            host = [line.split() for line in file if line.strip()]
    except OSError:
        host = []
    servers = list(wanted.dns) or [
        words[1]
        for words in host
        if words[0] == "nameserver" and len(words) > 1 and not words[1].startswith(("127.", "::1"))
    ]
    search = list(wanted.dns_search) or [
        w for words in host if words[0] == "search" for w in words[1:]
    ]
    options = list(wanted.dns_options) or [
        word for words in host if words[0] == "options" for word in words[1:]
    ]
    found = [f"nameserver {server}" for server in servers]
    if search:
        found.append(f"search {' '.join(search)}")
    if options:
        found.append(f"options {' '.join(options)}")
    return found


def _names(wanted: Networking) -> tuple[str, ...]:
    return tuple(name for name in wanted.names if name not in ("bridge", "default"))


async def attach(client: Client, container: Container, folder: Folder) -> Result | None:
    """Set up what the container's record wants, before its task is made; None if nothing.

    Raises:
      SampanError: what `Networks.set_up` raises; nothing of it is left then.
    """
    from sampan.network import Request

    wanted = of(container.labels)
    if not wanted.joins:
        return None
    await release(client, container)  # what a killed process left
    with suppress(AlreadyExists):
        await client.network_namespaces.create(container.id)
    request = Request(
        id=container.id,
        netns=client.network_namespaces.path(container.id),
        networks=_names(wanted),
        ports=await to_thread(_mappings, wanted),
        ips=wanted.ips,
        mac=wanted.mac,
        aliases=wanted.aliases,
    )
    result = await client.networks.set_up(request)
    try:
        await _announce(client, container, folder, wanted, result)
        await to_thread(_remember, folder, request, result)
    except BaseException:
        await client.networks.tear_down(request)
        raise
    return result


async def _announce(
    client: Client, container: Container, folder: Folder, wanted: Networking, result: Result
) -> None:
    """Make the container known by name on each network, and to itself."""
    from sampan.client.containers import LABEL_NAME

    own = container.labels.get(LABEL_NAME, "")
    names = tuple(dict.fromkeys((own, *wanted.aliases, container.id[:12])))
    hosts = str(folder.path / "hosts")
    gateway = next((ip.gateway for ip in result.ips if ip.gateway), "")
    lines = [f"{gateway}\t{name}" for name, where in wanted.hosts if where == "host-gateway"]
    if lines and gateway:
        await to_thread(_append, hosts, lines)
    for one in result.attachments:
        ips = tuple(ip.ip for ip in one.result.ips)
        await client.network_store.join(
            one.network, container.id, names=tuple(n for n in names if n), ips=ips, hosts=hosts
        )


def _append(path: str, lines: list[str]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


def _mappings(wanted: Networking) -> tuple[Any, ...]:
    import socket

    from sampan.network import PortMapping

    ports = list(wanted.ports)
    if wanted.publish_all:
        for text in wanted.exposed:
            number, _, protocol = text.partition("/")
            if number.isascii() and number.isdigit():
                ports.append(Port(0, int(number), protocol or "tcp"))
    found = []
    for port in ports:
        host = port.host
        if not host:
            kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
            family = socket.AF_INET6 if ":" in port.address else socket.AF_INET
            with socket.socket(family, kind) as probe:
                probe.bind((port.address, 0))
                host = probe.getsockname()[1]
        found.append(PortMapping(host, port.container, port.protocol, port.address))
    return tuple(found)


def _remember(folder: Folder, request: Request, result: Result) -> None:
    networks = [
        {
            "name": one.network,
            "interface": one.ifname,
            "addresses": [ip.address for ip in one.result.ips],
            "gateways": [ip.gateway for ip in one.result.ips if ip.gateway],
            "mac": next((i.mac for i in one.result.interfaces if i.sandbox), ""),
        }
        for one in result.attachments
    ]
    values = {"networks": networks, "ports": [asdict(port) for port in request.ports]}
    temporary = folder.path / f".network.{os.getpid()}"
    temporary.write_text(json.dumps(values))
    temporary.rename(folder.path / "network.json")


def _forget(folder: Folder) -> None:
    (folder.path / "network.json").unlink(missing_ok=True)


def given(folder: Folder) -> dict[str, Any]:
    """Return `networks` and `ports` of a container that is set up; both empty if it is not."""
    try:
        found: dict[str, Any] = json.loads((folder.path / "network.json").read_text())
    except (OSError, ValueError):
        return {"networks": [], "ports": []}
    return found


async def release(client: Client, container: Container, *, forget: bool = False) -> None:
    """Give back addresses and ports of a container that has ended; fine if it has none.

    Args:
      client: Whose.
      container: Its record.
      forget: The container itself goes: remove its network namespace, too.
    """
    from sampan.client.containers import Folder
    from sampan.network import Request

    if not of(container.labels).joins:
        return
    await client.networks.tear_down(Request(id=container.id))
    await client.network_store.leave(container.id)
    await to_thread(_forget, Folder(client, container.id))
    if forget:
        await client.network_namespaces.remove(container.id)


def with_defaults(wanted: Networking, *, default: str, exposed: tuple[str, ...]) -> Networking:
    """Return `wanted` with the default network where none is named, and the image's ports.

    Raises:
      InvalidArgument: ports or addresses without a network to have them on.
    """
    names = wanted.names or (default,)
    found = replace(wanted, names=names, exposed=tuple(dict.fromkeys((*wanted.exposed, *exposed))))
    own = found.ips or found.mac or found.aliases
    if not found.joins and (own or (found.ports and names[0] != "host")):
        raise InvalidArgument(
            f"addresses, names and ports need a network of its own, and this has {names[0]!r}"
        )
    return found
