"""Ranges of addresses, as host-local is configured with them.

Source: host-local's documentation, "Network configuration reference".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sampan.network.errors import INVALID_CONFIG, PluginError

__all__ = ["Range", "RangeSet", "candidates", "range_sets"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network

RangeSet = tuple["Range", ...]
"""Ranges of one family that one address is taken from."""


@dataclass(frozen=True, slots=True)
class Range:
    """From `start` to `end`, both included, without the gateway."""

    subnet: Subnet
    start: Address
    end: Address
    gateway: Address

    def __contains__(self, address: Address) -> bool:
        return address.version == self.subnet.version and int(self.start) <= int(address) <= int(
            self.end
        )

    def overlaps(self, other: Range) -> bool:
        """Return whether an address is in both."""
        return self.start in other or other.start in self

    def __str__(self) -> str:
        return f"{self.start}-{self.end}"

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Range:
        """Return the range that a configuration describes.

        Raises:
          PluginError: it is empty, or outside of its subnet.
        """
        try:
            interface = ipaddress.ip_interface(raw["subnet"])
        except (KeyError, ValueError) as error:
            raise _wrong(f"range without a usable subnet: {raw.get('subnet')!r}") from error
        subnet = interface.network
        if interface.ip != subnet.network_address:
            raise _wrong(
                f"subnet {raw['subnet']} has host bits set: the network is {subnet.network_address}"
            )
        if subnet.prefixlen > subnet.max_prefixlen - 2:
            raise _wrong(f"subnet {subnet} is too small to allocate from")
        last = subnet.broadcast_address
        if subnet.version == 4:
            last -= 1
        start = _inside(subnet, raw, "rangeStart", subnet.network_address + 1)
        end = _inside(subnet, raw, "rangeEnd", last)
        gateway = _parsed(raw, "gateway") or subnet.network_address + 1
        if int(start) > int(end):
            raise _wrong(f"range {start}-{end} is empty")
        return cls(subnet, start, end, gateway)


def range_sets(ipam: Mapping[str, Any], extra: Sequence[Any] = ()) -> tuple[RangeSet, ...]:
    """Return the sets of an `ipam` section; those of the capability `ipRanges` come first.

    Raises:
      PluginError: there is none, families are mixed in one, or two overlap.
    """
    raw: list[Any] = []
    if ipam.get("subnet"):
        raw.append([ipam])
    raw += extra
    raw += ipam.get("ranges") or ()
    if not raw:
        raise _wrong("no IP ranges specified")
    sets = tuple(tuple(Range.parse(one) for one in ranges) for ranges in raw)
    taken: list[tuple[int, Range]] = []
    for number, ranges in enumerate(sets):
        if len({one.subnet.version for one in ranges}) != 1:
            raise _wrong(f"range set {number} is empty, or mixes IPv4 and IPv6")
        for one in ranges:
            for other_number, other in taken:
                if one.overlaps(other):
                    raise _wrong(f"range {one} of set {number} overlaps {other} of {other_number}")
            taken.append((number, one))
    return sets


def candidates(ranges: RangeSet, last: Address | None) -> Iterator[tuple[Range, Address]]:
    """Yield each address of a set once, beginning after `last`, without gateways."""
    spans = [(one, int(one.start), int(one.end)) for one in ranges]
    position, begin = 0, spans[0][1]
    for number, (one, _, end) in enumerate(spans):
        if last is not None and last in one:
            position, begin = number, int(last) + 1
            if begin > end:
                position = (number + 1) % len(spans)
                begin = spans[position][1]
            break
    # Once around: the first span from `begin`, the others whole, what is left of the first.
    around = [*spans[position:], *spans[: position + 1]]
    for turn, (one, start, end) in enumerate(around):
        low = begin if turn == 0 else start
        high = begin - 1 if turn == len(spans) else end
        for number in range(low, high + 1):
            address = type(one.start)(number)
            if address != one.gateway:
                yield one, address


def _inside(subnet: Subnet, raw: Mapping[str, Any], name: str, default: Address) -> Address:
    address = _parsed(raw, name)
    if address is None:
        return default
    if address not in subnet:
        raise _wrong(f"{name} {address} is not in subnet {subnet}")
    return address


def _parsed(raw: Mapping[str, Any], name: str) -> Address | None:
    text = raw.get(name)
    if not text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise _wrong(f"{name} {text!r} is no address") from error


def _wrong(message: str) -> PluginError:
    return PluginError(INVALID_CONFIG, message)
