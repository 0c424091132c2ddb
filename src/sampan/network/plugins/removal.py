"""Removing pairs of interfaces: many at once cost no more than one.

The kernel waits for an RCU grace period, ten milliseconds and more, each time it deletes
interfaces. Whoever comes first deletes for all who came until then, as one group.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from sampan.linux import netlink
from sampan.network.inside import inside

__all__ = ["delete_pair"]

_ENODEV: Final = 19


class _Order:
    """One pair to delete, by the index of its end on the host."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.done = False
        self.error: OSError | None = None


class _Deleter:
    """Takes orders of all threads; the one that holds the lock carries them out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: list[_Order] = []

    def delete(self, index: int) -> None:
        """Delete an interface; fine if it is gone.

        Raises:
          OSError: the kernel refused.
        """
        order = _Order(index)
        self._orders.append(order)
        with self._lock:
            if not order.done:
                orders, self._orders = self._orders, []
                _carry_out(orders)
        if order.error is not None and order.error.errno != _ENODEV:
            raise order.error


_DELETER: Final = _Deleter()


def _carry_out(orders: Sequence[_Order]) -> None:
    with netlink.Route() as host:
        if len(orders) == 1:
            (orders[0].error,) = host.attempt([netlink.delete_link(orders[0].index)])
        else:
            # Drawn by lot, since groups belong to everybody: 0 is the default one.
            group = int.from_bytes(os.urandom(3), "big") | 1 << 30
            joined = host.attempt([netlink.set_group(one.index, group) for one in orders])
            (failed,) = host.attempt([netlink.delete_group(group)])
            for one, error in zip(orders, joined, strict=True):
                one.error = error or failed
    for one in orders:
        one.done = True


def delete_pair(netns: str, ifname: str) -> None:
    """Delete the interface `ifname` of a namespace, and its other end; fine if it is gone."""

    def look() -> netlink.Link | None:
        with netlink.Route() as route, suppress(OSError):
            return route.link(ifname)
        return None

    def delete() -> None:
        with netlink.Route() as route, suppress(OSError):
            route.execute([netlink.delete_link(route.link(ifname).index)])

    try:
        inner = inside(netns, look)
    except FileNotFoundError:
        return
    if inner is None:
        return
    with netlink.Route() as host, suppress(OSError):
        outer = host.link_at(inner.peer)
        if (inner.kind, outer.kind, outer.peer) == ("veth", "veth", inner.index):
            _DELETER.delete(outer.index)
            return
    inside(netns, delete)  # moved here from elsewhere, or its other end is not on this host
