"""Arguments of a request as plugins take them: capabilities, by the names of the conventions.

Source: CNI CONVENTIONS.md, "Dynamic plugin specific fields (capabilities)".
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final

from sampan.errors import InvalidArgument
from sampan.network import Request

__all__ = ["capabilities_of"]

_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_PROTOCOLS: Final = ("tcp", "udp", "sctp")


def capabilities_of(request: Request, *, first: bool) -> dict[str, Any]:
    """Return the capability arguments of a request for one of its networks.

    Args:
      request: What is asked.
      first: Ports, addresses, bandwidth and hardware address concern the first network only.

    Raises:
      InvalidArgument: a value that no plugin could take.
    """
    found = dict(request.capabilities)
    if request.dns:
        dns = request.dns
        found["dns"] = {
            "servers": list(dns.nameservers),
            "searches": list(dns.search),
            "options": list(dns.options),
        }
    if request.aliases:
        found["aliases"] = list(request.aliases)
    if request.cgroup_path:
        found["cgroupPath"] = request.cgroup_path
    return found | _of_first(request) if first else found


def _of_first(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if ports := _ports(request):
        found["portMappings"] = ports
    if request.bandwidth is not None:
        rates = request.bandwidth
        found["bandwidth"] = {
            "ingressRate": rates.ingress_rate,
            "ingressBurst": rates.ingress_burst,
            "egressRate": rates.egress_rate,
            "egressBurst": rates.egress_burst,
        }
    for wish in request.ips:
        try:
            ipaddress.ip_interface(wish)
        except ValueError as error:
            raise InvalidArgument(f"address {wish!r} of {request.id}: {error}") from error
    if request.ips:
        found["ips"] = list(request.ips)
    if request.mac:
        if not _MAC.fullmatch(request.mac):
            raise InvalidArgument(f"hardware address {request.mac!r} of {request.id}")
        found["mac"] = request.mac
    return found


def _ports(request: Request) -> list[dict[str, Any]]:
    mappings = []
    for one in request.ports:
        if one.host_port == 0:
            continue  # the kubelet lists ports that no port of the host leads to as well
        protocol = one.protocol.lower()
        if protocol not in _PROTOCOLS:
            raise InvalidArgument(f"port mapping of {request.id}: protocol {one.protocol!r}")
        for port in (one.host_port, one.container_port):
            if not 0 < port < 65536:
                raise InvalidArgument(f"port mapping of {request.id}: port {port}")
        if one.host_ip:
            try:
                ipaddress.ip_address(one.host_ip)
            except ValueError as error:
                raise InvalidArgument(
                    f"port mapping of {request.id}: host address {one.host_ip!r}"
                ) from error
        mappings.append(
            {
                "hostPort": one.host_port,
                "containerPort": one.container_port,
                "protocol": protocol,
                "hostIP": one.host_ip,
            }
        )
    return mappings
