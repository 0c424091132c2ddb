"""host-local: gives out addresses of this host's ranges, and remembers them in files."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sampan.network import Dns, Ip, Result
from sampan.network.calls import Call
from sampan.network.errors import INTERNAL, INVALID_CONFIG, PluginError
from sampan.network.plugins.addresses import Store
from sampan.network.plugins.ranges import Address, Range, RangeSet, range_sets
from sampan.network.results import from_json, to_json, version_of

__all__ = ["add", "check", "collect", "delete"]

_DATA_DIR: Final = "/var/lib/cni/networks"


def add(call: Call) -> Mapping[str, Any]:
    """Take one address of each range set."""
    ipam = _ipam(call)
    sets = range_sets(ipam, (call.conf.get("runtimeConfig") or {}).get("ipRanges") or ())
    wishes = _wishes(call)
    ips = []
    with _store(call) as store:
        owned = store.owned_by(call.container_id, call.ifname)
        try:
            for number, ranges in enumerate(sets):
                wish = next((w for w in wishes if any(w in one for one in ranges)), None)
                if wish is not None:
                    wishes.remove(wish)
                one, address = _take(store, call, number, ranges, wish, owned)
                ips.append(Ip(f"{address}/{one.subnet.prefixlen}", str(one.gateway)))
            if wishes:
                raise PluginError(  # noqa: TRY301
                    INTERNAL,
                    f"requested addresses are in no range: {', '.join(map(str, wishes))}",
                )
        except BaseException:
            for ip in ips:
                store.forget(ip.ip)
            raise
    parsed = from_json({"cniVersion": "1.1.0", "routes": ipam.get("routes")})
    dns = _resolv_conf(ipam["resolvConf"]) if ipam.get("resolvConf") else Dns()
    return to_json(Result((), tuple(ips), parsed.routes, dns), version_of(call.conf))


def delete(call: Call) -> None:
    """Give the addresses back; fine if there are none."""
    previous = call.conf.get("prevResult")
    hints: list[str] = []
    if previous:
        hints = [one.ip for one in from_json(previous, version_of(call.conf)).ips]
    if not _folder(call).is_dir():
        return  # nothing was ever taken: and a full disk does not matter
    with _store(call) as store:
        store.release(call.container_id, call.ifname, hints, len(hints))


def check(call: Call) -> None:
    """Complain if the interface has no address."""
    with _store(call) as store:
        if not store.owned_by(call.container_id, call.ifname):
            raise PluginError(
                INTERNAL, f"host-local: no address of container {call.container_id} is recorded"
            )


def collect(call: Call) -> None:
    """Give back the addresses of all interfaces that are not valid any more."""
    valid = call.conf.get("cni.dev/valid-attachments") or ()
    keep = {(str(one["containerID"]), str(one["ifname"])) for one in valid}
    ids = {owner for owner, _ in keep}
    with _store(call) as store:
        for address, (owner, ifname) in store.owners().items():
            if (owner, ifname) not in keep and not (ifname == "" and owner in ids):
                store.forget(address)


def _take(
    store: Store,
    call: Call,
    number: int,
    ranges: RangeSet,
    wish: Address | None,
    owned: list[Address],
) -> tuple[Range, Address]:
    owner, ifname = call.container_id, call.ifname
    text = ",".join(map(str, ranges))
    for address in owned:
        if any(address in one for one in ranges):
            raise PluginError(
                INTERNAL,
                f"{address} has been allocated to {owner}: no second one of range {number}",
            )
    if wish is None:
        taken = store.take_next(ranges, owner, ifname, number)
        if taken is None:
            raise PluginError(
                INTERNAL,
                f"failed to allocate for range {number}: no IP addresses available in range set: "
                f"{text}",
            )
        return taken
    one = next(one for one in ranges if wish in one)
    if wish == one.gateway:
        raise PluginError(INTERNAL, f"requested address {wish} is the gateway of {one.subnet}")
    if not store.reserve(wish, owner, ifname, number):
        raise PluginError(INTERNAL, f"requested address {wish} of range set {text} is in use")
    return one, wish


def _ipam(call: Call) -> Mapping[str, Any]:
    ipam = call.conf.get("ipam")
    if not isinstance(ipam, Mapping):
        raise PluginError(INVALID_CONFIG, "IPAM config missing 'ipam' key")
    return ipam


def _store(call: Call) -> Store:
    return Store(_folder(call))


def _folder(call: Call) -> Path:
    name = call.conf.get("name")
    if not isinstance(name, str) or not name or "/" in name or name in (".", ".."):
        raise PluginError(INVALID_CONFIG, f"network name {name!r} cannot name a folder")
    return Path(_ipam(call).get("dataDir") or _DATA_DIR) / name


def _wishes(call: Call) -> list[Address]:
    """Return the addresses asked for, by any of the three ways there have been."""
    found: list[str] = []
    for pair in call.args.split(";"):
        key, _, value = pair.partition("=")
        if key == "IP" and value:
            found += value.split(",")
    conventional = (call.conf.get("args") or {}).get("cni") or {}
    found += conventional.get("ips") or ()
    found += (call.conf.get("runtimeConfig") or {}).get("ips") or ()
    try:
        return list(dict.fromkeys(ipaddress.ip_interface(one.strip()).ip for one in found))
    except ValueError as error:
        raise PluginError(INVALID_CONFIG, f"requested address: {error}") from error


def _resolv_conf(path: str) -> Dns:
    """Return what a resolv.conf says."""
    servers: list[str] = []
    options: list[str] = []
    search: tuple[str, ...] = ()
    domain = ""
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split("#")[0].split(";")[0].split()
            if len(words) < 2:
                continue
            if words[0] == "nameserver":
                servers.append(words[1])
            elif words[0] == "domain":
                domain = words[1]
            elif words[0] == "search":
                search = tuple(words[1:])
            elif words[0] == "options":
                options += words[1:]
    return Dns(tuple(servers), domain, search, tuple(options))
