"""tuning: kernel parameters of the container's namespace, and properties of its interface.

What it changes of the interface it first writes down, in <dataDir>/<id>_<ifname>.json, and restores
at DEL: interfaces moved in from the host (SR-IOV) live on.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sampan.linux import netlink
from sampan.network import Interface
from sampan.network.calls import Call
from sampan.network.errors import INTERNAL, INVALID_CONFIG, PluginError
from sampan.network.inside import inside
from sampan.network.plugins import sysctl
from sampan.network.plugins.previous import previous
from sampan.network.results import to_json, version_of

__all__ = ["add", "check", "delete"]

_DATA_DIR: Final = "/run/cni/tuning"
_ALLOWLIST: Final = "/etc/cni/tuning/allowlist.conf"


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is to be changed; None leaves it."""

    parameters: Mapping[str, str]
    mac: str | None
    mtu: int | None
    promisc: bool | None
    allmulti: bool | None
    txqlen: int | None

    @property
    def of_link(self) -> bool:
        """Whether anything of the interface is to be changed."""
        rest = (self.mac, self.mtu, self.promisc, self.allmulti, self.txqlen)
        return any(one is not None for one in rest)


def add(call: Call) -> Mapping[str, Any]:
    """Change what is asked for."""
    result = previous(call)
    wish = _wish(call)
    _allowed(wish)
    if not wish.parameters and not wish.of_link:
        raw: Mapping[str, Any] = call.conf["prevResult"]
        return raw

    def change() -> None:
        for key, value in wish.parameters.items():
            sysctl.write(_key(key, call.ifname), value)
        if wish.of_link:
            with netlink.Route() as route:
                link = route.link(call.ifname)
                _back_up(call, link, wish)
                route.execute(_changes(link, wish))

    inside(call.netns, change)
    return to_json(
        replace(result, interfaces=tuple(_shown(call, wish, one) for one in result.interfaces)),
        version_of(call.conf),
    )


def _shown(call: Call, wish: _Wish, one: Interface) -> Interface:
    if one.name != call.ifname or one.sandbox != call.netns:
        return one
    return replace(one, mac=wish.mac or one.mac, mtu=wish.mtu or one.mtu)


def delete(call: Call) -> None:
    """Give the interface its old properties back, if it is still there."""
    path = _backup_path(call)
    try:
        old = json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        old = {}
    wish = _Wish(
        {},
        old.get("mac") or None,
        old.get("mtu") or None,
        old.get("promisc"),
        old.get("allmulti"),
        old.get("txQLen"),
    )

    def restore() -> None:
        with netlink.Route() as route, suppress(OSError):
            route.execute(_changes(route.link(call.ifname), wish))

    if call.netns:
        with suppress(FileNotFoundError):
            inside(call.netns, restore)
    path.unlink(missing_ok=True)


def check(call: Call) -> None:
    """Complain about what is not as asked for."""
    wish = _wish(call)

    def look() -> str:
        for key, value in wish.parameters.items():
            found = sysctl.read(_key(key, call.ifname))
            if found.split() != value.split():
                return f"{key} is {found!r}, not {value!r}"
        with netlink.Route() as route:
            link = route.link(call.ifname)
        seen = (link.mac, link.mtu, link.promiscuous, link.all_multicast, link.txqlen)
        wanted = (wish.mac, wish.mtu, wish.promisc, wish.allmulti, wish.txqlen)
        for name, is_now, must_be in zip(
            ("mac", "mtu", "promisc", "allmulti", "txQLen"), seen, wanted, strict=True
        ):
            if must_be is not None and is_now != must_be:
                return f"{name} of {call.ifname} is {is_now}, not {must_be}"
        return ""

    if wrong := inside(call.netns, look):
        raise PluginError(INTERNAL, wrong)


def _wish(call: Call) -> _Wish:
    conf = call.conf
    runtime = conf.get("runtimeConfig") or {}
    conventional = (conf.get("args") or {}).get("cni") or {}
    args = dict(pair.partition("=")[::2] for pair in call.args.split(";") if pair)
    mac = str(
        runtime.get("mac") or conventional.get("mac") or args.get("MAC") or conf.get("mac") or ""
    ).lower()
    if mac and not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
        raise PluginError(INVALID_CONFIG, f"invalid hardware address {mac!r}")
    queue = conf.get("txQLen")
    return _Wish(
        {str(key): str(value) for key, value in (conf.get("sysctl") or {}).items()},
        mac or None,
        int(conf.get("mtu") or 0) or None,
        True if conf.get("promisc") else None,
        None if conf.get("allmulti") is None else bool(conf["allmulti"]),
        None if queue is None else int(queue),
    )


def _key(key: str, ifname: str) -> str:
    """Return the path below /proc/sys; `IFNAME` stands for the interface.

    Raises:
      PluginError: it is no parameter of networking, which alone belongs to the namespace.
    """
    # In a name with slashes dots stand for themselves, as in `net/ipv4/conf/eth0.5/...`.
    parts = key.split("/") if "/" in key else key.split(".")
    parts = [part.replace("IFNAME", ifname) for part in parts]
    if parts[0] != "net" or any(part in ("", ".", "..") for part in parts):
        raise PluginError(INVALID_CONFIG, f"invalid net sysctl key: {key!r}")
    return "/".join(parts)


def _allowed(wish: _Wish) -> None:
    """Raise if the host's list of allowed parameters exists and lacks one."""
    try:
        lines = Path(_ALLOWLIST).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    patterns = [line.strip() for line in lines if line.strip()]
    for key in wish.parameters:
        if not any(re.search(pattern, key) for pattern in patterns):
            raise PluginError(INVALID_CONFIG, f"Sysctl {key} is not allowed by {_ALLOWLIST}")


def _changes(link: netlink.Link, wish: _Wish) -> list[bytes]:
    changes = []
    if wish.mac is not None or wish.mtu is not None or wish.txqlen is not None:
        changes.append(netlink.set_link(link.index, mac=wish.mac, mtu=wish.mtu, txqlen=wish.txqlen))
    switches: tuple[tuple[bool | None, Callable[..., bytes]], ...] = (
        (wish.promisc, netlink.set_promiscuous),
        (wish.allmulti, netlink.set_all_multicast),
    )
    changes += (switch(link.index, on=wanted) for wanted, switch in switches if wanted is not None)
    return changes


def _backup_path(call: Call) -> Path:
    folder = Path(call.conf.get("dataDir") or _DATA_DIR)
    return folder / f"{call.container_id}_{call.ifname}.json"


def _back_up(call: Call, link: netlink.Link, wish: _Wish) -> None:
    old: dict[str, Any] = {}
    if wish.mac is not None:
        old["mac"] = link.mac
    if wish.promisc is not None:
        old["promisc"] = link.promiscuous
    if wish.mtu is not None:
        old["mtu"] = link.mtu
    if wish.allmulti is not None:
        old["allmulti"] = link.all_multicast
    if wish.txqlen is not None:
        old["txQLen"] = link.txqlen
    path = _backup_path(call)
    path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(old), encoding="utf-8")
    os.replace(temporary, path)
