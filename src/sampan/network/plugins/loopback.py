"""loopback: switches `lo` on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sampan.linux import netlink
from sampan.network import Interface, Ip, Result
from sampan.network.calls import Call
from sampan.network.errors import INTERNAL, PluginError
from sampan.network.inside import inside
from sampan.network.results import to_json, version_of

__all__ = ["add", "check", "delete", "switch_on"]


def switch_on(netns: str, *, on: bool = True) -> None:
    """Switch the loopback interface of a namespace on or off."""

    def switch() -> None:
        with netlink.Route() as route:
            route.execute([netlink.set_up(1, up=on)])

    inside(netns, switch)


def add(call: Call) -> Mapping[str, Any]:
    """Switch it on, and report its addresses unless another plugin came before."""
    switch_on(call.netns)
    previous = call.conf.get("prevResult")
    if previous:
        return dict(previous)

    def addresses() -> list[netlink.Address]:
        with netlink.Route() as route:
            return route.addresses(1)

    found = inside(call.netns, addresses)
    ips = tuple(Ip(f"{one.address}/{one.prefix}", interface=0) for one in found)
    mac = "00:00:00:00:00:00"
    return to_json(Result((Interface("lo", mac, sandbox=call.netns),), ips), version_of(call.conf))


def delete(call: Call) -> None:
    """Switch it off; a namespace that is gone needs nothing."""
    if call.netns:
        with suppress(FileNotFoundError):
            switch_on(call.netns, on=False)


def check(call: Call) -> None:
    """Complain if it is off."""

    def look() -> bool:
        with netlink.Route() as route:
            return route.link_at(1).up

    if not inside(call.netns, look):
        raise PluginError(INTERNAL, f"loopback interface of {call.netns} is down")
