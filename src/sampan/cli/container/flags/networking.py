"""Flags about networks, ports and names."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final

from sampan.client.networking import Networking, Port
from sampan.errors import InvalidArgument

if TYPE_CHECKING:
    import argparse

__all__ = ["add", "fields", "labels", "networking_of", "port_of"]

_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", re.ASCII)


def add(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.add_argument(
        "--network",
        "--net",
        action="append",
        default=[],
        metavar="none|host|container:NAME|NAME",
        help="networks to join",
    )
    parser.add_argument(
        "--network-alias",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name on its networks",
    )
    parser.add_argument("--ip", default="", metavar="ADDRESS", help="address to have")
    parser.add_argument("--ip6", default="", metavar="ADDRESS", help="IPv6 address to have")
    parser.add_argument("--mac-address", default="", metavar="MAC", help="hardware address to have")
    parser.add_argument(
        "-p",
        "--publish",
        action="append",
        default=[],
        metavar="[IP:][HOST:]PORT[/udp]",
        help="let a port of the host lead in",
    )
    parser.add_argument(
        "-P", "--publish-all", action="store_true", help="publish all ports of the image, anywhere"
    )
    parser.add_argument(
        "--expose",
        action="append",
        default=[],
        metavar="PORT[/udp]",
        help="a port for --publish-all",
    )
    parser.add_argument(
        "--dns", action="append", default=[], metavar="ADDRESS", help="a name server"
    )
    parser.add_argument(
        "--dns-search", action="append", default=[], metavar="DOMAIN", help="a search domain"
    )
    parser.add_argument(
        "--dns-option",
        "--dns-opt",
        action="append",
        default=[],
        metavar="OPTION",
        help="an option of resolv.conf",
    )
    parser.add_argument(
        "--add-host",
        action="append",
        default=[],
        metavar="NAME:ADDRESS",
        help="a line of /etc/hosts; host-gateway is the host",
    )


def fields(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a Request; a network by name becomes a path later."""
    only = args.network[0] if len(args.network) == 1 else ""
    return {"network": "host" if only == "host" else "none"}


def labels(args: argparse.Namespace) -> dict[str, str]:
    """Return the labels that keep what was asked for."""
    return networking_of(args).labels()


def networking_of(args: argparse.Namespace) -> Networking:
    """Return the value.

    Raises:
      InvalidArgument: a flag is malformed, or contradicts another.
    """
    names = tuple(args.network)
    alone = [name for name in names if name in ("none", "host") or name.startswith("container:")]
    if alone and len(names) > 1:
        raise InvalidArgument(f"--network {alone[0]} cannot be combined with another network")
    ports = tuple(port for text in args.publish for port in port_of(text))
    if alone and ports and alone[0] != "host":
        raise InvalidArgument(f"-p cannot publish a port with --network {alone[0]}")
    for text in (args.ip, args.ip6, *args.dns):
        if text:
            _address(text)
    if args.mac_address and not _MAC.fullmatch(args.mac_address):
        raise InvalidArgument(f"hardware address {args.mac_address!r} is not like 02:42:ac:11:0:2")
    hosts = []
    for text in args.add_host:
        name, colon, where = text.replace("=", ":", 1).partition(":")
        if not name or not colon or not where:
            raise InvalidArgument(f"--add-host {text!r} is not NAME:ADDRESS")
        if where != "host-gateway":
            _address(where.strip("[]"))
        hosts.append((name, where.strip("[]")))
    return Networking(
        names=names,
        aliases=tuple(args.network_alias),
        ips=tuple(text for text in (args.ip, args.ip6) if text),
        mac=args.mac_address,
        ports=ports,
        publish_all=args.publish_all,
        exposed=tuple(args.expose),
        dns=tuple(args.dns),
        dns_search=tuple(args.dns_search),
        dns_options=tuple(args.dns_option),
        hosts=tuple(hosts),
    )


def _address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError as err:
        raise InvalidArgument(f"{text!r} is no address") from err


def port_of(text: str) -> tuple[Port, ...]:
    """Return the ports that `[IP:][HOST:]PORT[/PROTOCOL]` means; ranges are as long as each other.

    Raises:
      InvalidArgument: it is malformed, or the protocol unknown.
    """
    plain, _, protocol = text.partition("/")
    protocol = protocol or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise InvalidArgument(f"port {text!r}: {protocol!r} is none of tcp, udp, sctp")
    rest, colon, inside = plain.rpartition(":")
    if rest.startswith("["):
        address, _, outside = rest[1:].partition("]:")
        address = address.rstrip("]")
    else:
        address, _, outside = rest.rpartition(":") if ":" in rest else ("", "", rest)
    if address:
        _address(address)
    first, last = _range(inside, text)
    if not colon or not outside:
        return tuple(Port(0, number, protocol, address) for number in range(first, last + 1))
    low, high = _range(outside, text)
    if high - low != last - first:
        raise InvalidArgument(f"port {text!r}: the ranges differ in length")
    pairs = zip(range(low, high + 1), range(first, last + 1), strict=True)
    return tuple(Port(host, number, protocol, address) for host, number in pairs)


def _range(text: str, whole: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    numbers = [
        int(part) if part.isascii() and part.isdigit() and len(part) < 6 else 0
        for part in (low, high if dash else low)
    ]
    if not all(0 < number < 65536 for number in numbers) or numbers[0] > numbers[1]:
        raise InvalidArgument(f"port {whole!r} is not [IP:][HOST:]PORT[/PROTOCOL]")
    return numbers[0], numbers[1]
