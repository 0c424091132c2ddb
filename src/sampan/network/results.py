"""Results of plugins, of every version of the specification, as JSON and as values.

    0.1.0 0.2.0          ip4 ip6 dns
    0.3.0 0.3.1 0.4.0    interfaces, ips with `version`, routes, dns
    1.0.0                ips without `version`
    1.1.0                mtu, socketPath, pciID of interfaces;
                         mtu, advmss, priority, table, scope of routes

Source: CNI specification, section "Result types", and its versions since 0.1.0.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sampan.network import Dns, Interface, Ip, Result, Route
from sampan.network.errors import DECODING_FAILURE, PluginError

__all__ = ["VERSIONS", "at_least", "from_json", "merge", "to_json", "version_of"]

VERSIONS: Final = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

Json = Mapping[str, Any]


def at_least(version: str, wanted: str) -> bool:
    """Return whether `version` is `wanted` or later; both must be in `VERSIONS`."""
    return VERSIONS.index(version) >= VERSIONS.index(wanted)


def version_of(raw: Json, default: str = "0.1.0") -> str:
    """Return the `cniVersion` of a result or configuration."""
    return str(raw.get("cniVersion") or default)


def from_json(raw: object, default_version: str = "") -> Result:
    """Return a plugin's answer as a value.

    Raises:
      PluginError: it is no result of a version we know.
    """
    if not isinstance(raw, Mapping):
        raise PluginError(DECODING_FAILURE, f"no result, but {type(raw).__name__}")
    version = version_of(raw, default_version or "0.1.0")
    if version not in VERSIONS:
        raise PluginError(DECODING_FAILURE, f"result of unknown version {version!r}")
    try:
        return _parse(raw) if at_least(version, "0.3.0") else _parse_old(raw)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise PluginError(DECODING_FAILURE, f"result is malformed: {error}") from error


def _parse(raw: Json) -> Result:
    interfaces = tuple(
        Interface(
            name=_text(one.get("name")),
            mac=_text(one.get("mac")),
            sandbox=_text(one.get("sandbox")),
            mtu=int(one.get("mtu") or 0),
            socket_path=_text(one.get("socketPath")),
            pci_id=_text(one.get("pciID")),
        )
        for one in _list(raw.get("interfaces"))
    )
    ips = []
    for one in _list(raw.get("ips")):
        index = one.get("interface")
        if index is not None and not 0 <= int(index) < max(1, len(interfaces)):
            raise ValueError(f"ip {one['address']} is of interface {index}, which is not there")
        ips.append(
            Ip(
                address=_cidr(one["address"]),
                gateway=_address(one.get("gateway")),
                interface=None if index is None else int(index),
            )
        )
    return Result(interfaces, tuple(ips), _routes(raw.get("routes")), _dns(raw.get("dns")))


def _parse_old(raw: Json) -> Result:
    ips: list[Ip] = []
    routes: list[Route] = []
    for key in ("ip4", "ip6"):
        part = raw.get(key)
        if part:
            ips.append(Ip(_cidr(part["ip"]), _address(part.get("gateway"))))
            routes += _routes(part.get("routes"))
    return Result((), tuple(ips), tuple(routes), _dns(raw.get("dns")))


def to_json(result: Result, version: str) -> dict[str, Any]:
    """Return a result as a plugin of `version` prints it."""
    dns = _dns_json(result.dns)
    if not at_least(version, "0.3.0"):
        old: dict[str, Any] = {"cniVersion": version}
        for one in result.ips:
            key = f"ip{one.family}"
            if key not in old:
                mine = [r for r in result.routes if (":" in r.dst) == (one.family == 6)]
                old[key] = {
                    "ip": one.address,
                    **_given(gateway=one.gateway),
                    **_given(routes=[{"dst": r.dst, **_given(gw=r.gw)} for r in mine]),
                }
        return {**old, "dns": dns}
    new = at_least(version, "1.1.0")
    answer: dict[str, Any] = {"cniVersion": version}
    if result.interfaces:
        answer["interfaces"] = [_interface_json(one, new) for one in result.interfaces]
    if result.ips:
        answer["ips"] = [_ip_json(one, version) for one in result.ips]
    if result.routes:
        answer["routes"] = [_route_json(one, new) for one in result.routes]
    return {**answer, "dns": dns}


def _interface_json(one: Interface, new: bool) -> dict[str, Any]:
    said = {"name": one.name, **_given(mac=one.mac)}
    if new:
        said |= _given(mtu=one.mtu)
    said |= _given(sandbox=one.sandbox)
    return said | (_given(socketPath=one.socket_path, pciID=one.pci_id) if new else {})


def _ip_json(one: Ip, version: str) -> dict[str, Any]:
    said: dict[str, Any] = {} if at_least(version, "1.0.0") else {"version": str(one.family)}
    if one.interface is not None:
        said["interface"] = one.interface
    return said | {"address": one.address, **_given(gateway=one.gateway)}


def _route_json(one: Route, new: bool) -> dict[str, Any]:
    said: dict[str, Any] = {"dst": one.dst, **_given(gw=one.gw)}
    if new:
        said |= _given(mtu=one.mtu, advmss=one.advmss, priority=one.priority)
        said |= {} if one.table is None else {"table": one.table}
        said |= {} if one.scope is None else {"scope": one.scope}
    return said


def merge(results: Sequence[Result]) -> Result:
    """Put results of several networks together; indexes of interfaces are adjusted."""
    interfaces: list[Interface] = []
    ips: list[Ip] = []
    routes: list[Route] = []
    dns = Dns()
    for one in results:
        first = len(interfaces)
        interfaces += one.interfaces
        ips += (
            Ip(ip.address, ip.gateway, None if ip.interface is None else ip.interface + first)
            for ip in one.ips
        )
        routes += one.routes
        dns = dns or one.dns
    return Result(tuple(interfaces), tuple(ips), tuple(routes), dns)


def _routes(raw: object) -> tuple[Route, ...]:
    return tuple(
        Route(
            dst=_cidr(one["dst"]),
            gw=_address(one.get("gw")),
            mtu=int(one.get("mtu") or 0),
            advmss=int(one.get("advmss") or 0),
            priority=int(one.get("priority") or 0),
            table=one.get("table"),
            scope=one.get("scope"),
        )
        for one in _list(raw)
    )


def _dns(raw: object) -> Dns:
    if not raw:
        return Dns()
    if not isinstance(raw, Mapping):
        raise TypeError("dns is no object")
    return Dns(
        nameservers=tuple(_text(one) for one in raw.get("nameservers") or ()),
        domain=_text(raw.get("domain")),
        search=tuple(_text(one) for one in raw.get("search") or ()),
        options=tuple(_text(one) for one in raw.get("options") or ()),
    )


def _dns_json(dns: Dns) -> dict[str, Any]:
    return _given(
        nameservers=list(dns.nameservers),
        domain=dns.domain,
        search=list(dns.search),
        options=list(dns.options),
    )


def _given(**values: Any) -> dict[str, Any]:
    """Return those that are not empty."""
    return {key: value for key, value in values.items() if value}


def _list(raw: object) -> Sequence[Json]:
    if raw is None:
        return ()
    if not isinstance(raw, list) or not all(isinstance(one, Mapping) for one in raw):
        raise TypeError("not a list of objects where one belongs")
    return raw


def _text(raw: object) -> str:
    if raw is None:
        return ""
    if not isinstance(raw, str):
        raise TypeError(f"{raw!r} is no string")
    return raw


def _cidr(raw: object) -> str:
    text = _text(raw)
    if "/" not in text:
        raise ValueError(f"{text!r} has no prefix length")
    ipaddress.ip_interface(text)
    return text


def _address(raw: object) -> str:
    text = _text(raw)
    if text:
        ipaddress.ip_address(text)
    return text
