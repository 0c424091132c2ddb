"""Networks that people make: bridge networks as files, and names of containers in hosts files."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from sampan.linux import netlink
from sampan.network import Network
from sampan.network.cache import Cache
from sampan.network.cni import CniConfig, CniNetworks, call_on_disk
from sampan.network.configs import NAME, NetworkConf
from sampan.network.names import Names
from sampan.network.subnets import (
    MARKER,
    addresses_of,
    bridge_list,
    bridge_name,
    changing,
    free_subnet,
    read_lists,
    subnets_of,
    used,
    write_list,
)

__all__ = ["BridgeNetworks"]


class BridgeNetworks:
    """`NetworkStore` over the folder of our own networks."""

    def __init__(self, config: CniConfig) -> None:
        self._config = config
        self._folder = config.root / "networks"
        self._networks = CniNetworks(config)
        self._cache = Cache(config.cache_dir, config.root / "attachments")
        self._names = Names(config.root / "hosts")

    async def create(
        self,
        name: str,
        *,
        subnets: Sequence[str] = (),
        gateways: Sequence[str] = (),
        ip_range: str = "",
        ipv6: bool = False,
        internal: bool = False,
        mtu: int = 0,
        labels: Mapping[str, str] | None = None,
    ) -> Network:
        """Make a bridge network; subnets that are not given are chosen free of all others."""
        if not NAME.fullmatch(name) or len(name) > 100:
            raise InvalidArgument(f"network name {name!r}: only letters, digits and _.- please")
        if name in ("none", "host"):
            raise InvalidArgument(f"network name {name} has a meaning of its own")

        def make() -> Network:
            with changing(self._folder):
                if any(one.name == name for one in self._networks.all()):
                    raise AlreadyExists(f"network {name}")
                taken = used([*read_lists(self._config.conf_dir), *read_lists(self._folder)])
                ranges = _ranges(name, subnets, gateways, ip_range, ipv6, taken)
                raw = bridge_list(
                    name,
                    bridge_name(self._folder, name),
                    ranges,
                    internal=internal,
                    mtu=mtu,
                    labels=labels,
                    addresses=addresses_of(self._folder),
                )
                write_list(self._folder, raw)
            return self._find(name)

        return await call_on_disk(make)

    async def list(self) -> Sequence[Network]:
        """Return every network, the default one first."""

        def look() -> Sequence[Network]:
            with suppress(NotFound):
                self._networks.select(())  # makes the default one on a fresh machine
            default = self._default()
            found = [self._shown(one, default) for one in self._networks.all()]
            return sorted(found, key=lambda one: (not one.default, one.name))

        return await call_on_disk(look)

    async def inspect(self, name: str) -> Network:
        """Return one network.

        Raises:
          NotFound: there is none of that name.
        """
        return await call_on_disk(self._find, name)

    async def remove(self, name: str) -> None:
        """Remove its file and bridge."""
        members = await self.members(name)

        def remove() -> None:
            network = self._find(name)
            if not network.ours:
                raise FailedPrecondition(
                    f"network {name} is not ours: remove {network.path} to be rid of it"
                )
            if members:
                raise FailedPrecondition(
                    f"network {name} is in use by {', '.join(members)}: remove them first"
                )
            with changing(self._folder):
                Path(network.path).unlink(missing_ok=True)
            self._names.drop(name)
            if network.bridge:
                from sampan.network.plugins.firewall import forget_bridge

                forget_bridge(network.bridge)
            with netlink.Route() as route, suppress(OSError):
                link = route.link(network.bridge)
                if link.kind == "bridge":
                    route.execute([netlink.delete_link(link.index)])

        await call_on_disk(remove)

    async def members(self, name: str) -> Sequence[str]:
        """Return the ids attached to a network by us."""

        def attached() -> Sequence[str]:
            self._find(name)
            return sorted({one.id for one in self._cache.ours(name)})

        return await call_on_disk(attached)

    async def join(
        self, network: str, id: str, *, names: Sequence[str], ips: Sequence[str], hosts: str
    ) -> None:
        """Make `id` known on a network, and keep its `hosts` file up to date from now on."""
        await call_on_disk(self._names.join, network, id, names, ips, hosts)

    async def leave(self, id: str) -> None:
        """Forget `id` on every network."""
        await call_on_disk(self._names.leave, id)

    def _find(self, name: str) -> Network:
        (network,) = self._networks.select((name,))
        return self._shown(network, self._default())

    def _default(self) -> str:
        with suppress(NotFound):
            return self._networks.select(())[0].name
        return ""

    def _shown(self, network: NetworkConf, default: str) -> Network:
        raw: dict[str, Any] = json.loads(network.raw)
        first = network.plugins[0]
        mine = raw.get(MARKER) or {}
        subnets = [str(one) for one in subnets_of(first.raw.get("ipam") or {})]
        return Network(
            name=network.name,
            driver=first.type,
            path=network.path,
            ours=MARKER in raw and Path(network.path).parent == self._folder,
            default=network.name == default,
            bridge=str(first.raw.get("bridge") or ""),
            subnets=tuple(subnets),
            gateways=tuple(_gateways(first.raw.get("ipam") or {})),
            internal=bool(mine.get("internal")),
            mtu=int(first.raw.get("mtu") or 0),
            labels=dict(mine.get("labels") or {}),
            config=raw,
        )


def _ranges(
    name: str,
    subnets: Sequence[str],
    gateways: Sequence[str],
    ip_range: str,
    ipv6: bool,
    taken: Sequence[Any],
) -> list[dict[str, Any]]:
    """Return what host-local is to give out, checked against what is in use."""
    try:
        nets = [ipaddress.ip_network(one) for one in subnets]
        doors = [ipaddress.ip_address(one) for one in gateways]
        part = ipaddress.ip_network(ip_range) if ip_range else None
    except ValueError as error:
        raise InvalidArgument(f"network {name}: {error}") from error
    for net in nets:
        clash = [one for one in taken if one.version == net.version and one.overlaps(net)]
        if clash:
            raise InvalidArgument(f"network {name}: subnet {net} overlaps {clash[0]}, in use")
    if not any(net.version == 4 for net in nets) and not nets:
        nets.append(free_subnet(taken, version=4, prefix=24, name=name))
    if ipv6 and not any(net.version == 6 for net in nets):
        nets.append(free_subnet(taken, version=6, prefix=64, name=name))
    found: list[dict[str, Any]] = []
    for net in nets:
        one: dict[str, Any] = {"subnet": str(net)}
        door = next((gateway for gateway in doors if gateway in net), None)
        if door is not None:
            one["gateway"] = str(door)
            doors.remove(door)
        if part is not None and part.version == net.version:
            if not part.subnet_of(net):  # type: ignore[arg-type]
                raise InvalidArgument(f"network {name}: range {part} is not in subnet {net}")
            first = part.network_address
            one["rangeStart"] = str(first + 1 if first == net.network_address else first)
            last = part.broadcast_address
            one["rangeEnd"] = str(last - 1 if last == net.broadcast_address else last)
        found.append(one)
    if doors:
        raise InvalidArgument(f"network {name}: gateway {doors[0]} is in none of its subnets")
    return found


def _gateways(ipam: Mapping[str, Any]) -> list[str]:
    found = []
    sets = [*(ipam.get("ranges") or ()), *([[ipam]] if ipam.get("subnet") else [])]
    for ranges in sets:
        for one in ranges:
            with suppress(KeyError, ValueError):
                net = ipaddress.ip_network(one["subnet"], strict=False)
                found.append(str(one.get("gateway") or net.network_address + 1))
    return found
