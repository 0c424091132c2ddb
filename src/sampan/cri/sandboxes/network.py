"""A pod's network: from its configuration to a request of `sampan.network`."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.errors import InvalidArgument, Unavailable
from sampan.network import Bandwidth, Dns, PortMapping, Request

if TYPE_CHECKING:
    from sampan.cri.core import Cri
    from sampan.cri.store.records import Pod

__all__ = ["set_up", "tear_down"]

log = logging.getLogger(__name__)

_PROTOCOLS: Final = {pb.TCP: "tcp", pb.UDP: "udp", pb.SCTP: "sctp"}
_SUFFIXES: Final = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}  # fmt: skip


async def set_up(cri: Cri, pod: Pod) -> tuple[str, ...]:
    """Connect the pod; return its addresses, the one to be told first at the front.

    Raises:
      Unavailable: no plugin gave it an address.
    """
    result = await cri.networks.set_up(request_of(cri, pod))
    first = [ip for ip in result.ips if _first_interface(result, ip)] or list(result.ips)
    if not first:
        raise Unavailable("the pod's network gave it no address: check the CNI configuration")
    wanted = {"ipv4": 4, "ipv6": 6, "cni": 0}.get(cri.settings.runtime.cni.ip_pref or "ipv4", 0)
    if wanted:
        first.sort(key=lambda ip: ip.family != wanted)
    return tuple(dict.fromkeys(ip.ip for ip in first))


def _first_interface(result: object, ip: object) -> bool:
    attachments = getattr(result, "attachments", ())
    return not attachments or ip in attachments[0].result.ips


async def tear_down(cri: Cri, pod: Pod) -> None:
    """Disconnect the pod; nothing to do is fine."""
    await cri.networks.tear_down(Request(id=pod.id, netns=pod.netns))


def request_of(cri: Cri, pod: Pod) -> Request:
    """Return what the network is asked for."""
    config = pod.config
    meta, dns = config.metadata, config.dns_config
    ports = tuple(
        PortMapping(one.host_port, one.container_port, _PROTOCOLS[one.protocol], one.host_ip)
        for one in config.port_mappings
        if one.host_port > 0
    )
    return Request(
        id=pod.id,
        netns=pod.netns,
        ports=ports,
        bandwidth=_bandwidth(config.annotations),
        dns=Dns(tuple(dns.servers), "", tuple(dns.searches), tuple(dns.options)),
        cgroup_path=cri.cgroup_of(pod, ""),
        args={
            "K8S_POD_NAMESPACE": meta.namespace,
            "K8S_POD_NAME": meta.name,
            "K8S_POD_INFRA_CONTAINER_ID": pod.id,
            "K8S_POD_UID": meta.uid,
        },
        capabilities={"io.kubernetes.cri.pod-annotations": dict(config.annotations)},
    )


def _bandwidth(annotations: object) -> Bandwidth | None:
    table = dict(annotations)  # type: ignore[call-overload]
    ingress = _rate(table.get("kubernetes.io/ingress-bandwidth", ""))
    egress = _rate(table.get("kubernetes.io/egress-bandwidth", ""))
    if not ingress and not egress:
        return None
    burst = (1 << 31) - 1
    return Bandwidth(ingress, burst if ingress else 0, egress, burst if egress else 0)


def _rate(text: str) -> int:
    """Return a Kubernetes quantity as a number: `10M`, `1Gi`, `500000`."""
    if not text:
        return 0
    digits = text.rstrip("kKMGTPEi")
    factor = _SUFFIXES.get(text[len(digits) :])
    try:
        value = float(digits)
    except ValueError:
        factor = None
    if factor is None or not 0 <= value * factor < 2**63:
        raise InvalidArgument(f"bandwidth {json.dumps(text)} is no quantity such as 10M")
    return int(value * factor)
