"""Bridge, addresses, ports, firewall, bandwidth, tuning: the same tests on the originals and ours.

What differs by nature (names of pairs, hardware addresses) is not compared; everything else is.
"""

import asyncio
import ipaddress
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sampan.network import Bandwidth, PluginError, PortMapping, Request
from sampan.network.inside import inside
from sampan.testing import requires
from sampan.testing.networks import Host, need_originals, private_host

pytestmark = requires("root", "iptables", "nft", "tc", "ip", "sysctl")

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def listening(netns: str, address: str, port: int, kind: int = TCP) -> socket.socket:
    """Return a socket of a container."""

    def bind() -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = socket.socket(family, kind)
        made.settimeout(10)
        made.bind((address, port))
        if kind == TCP:
            made.listen()
        return made

    return inside(netns, bind)


def reaches(server: socket.socket, address: str, port: int, *, netns: str = "") -> str:
    """Connect from the host, or from a namespace, and return as whom the server sees us."""

    def connect() -> socket.socket:
        return socket.create_connection((address, port), timeout=10)

    with inside(netns, connect) if netns else connect():
        seen, peer = server.accept()
        seen.close()
    return str(peer[0])


async def test_dual_stack_bridge(host: Host) -> None:
    host.configure("net", [host.bridge(hairpinMode=True)])
    networks = host.networks()
    one, two = await host.namespaces.create("one"), await host.namespaces.create("two")
    result = await networks.set_up(Request(id="one", netns=one))
    other = await networks.set_up(Request(id="two", netns=two))
    assert [ip.address for ip in result.ips] == ["10.99.0.2/16", "fd00:99::2/64"]
    assert [ip.gateway for ip in result.ips] == ["10.99.0.1", "fd00:99::1"]
    assert [i.name for i in result.interfaces][::2] == ["cni0", "eth0"]
    assert [i.sandbox for i in result.interfaces] == ["", "", one]
    assert {r.dst for r in result.routes} == {"0.0.0.0/0", "::/0"}
    assert all(ip.interface == 2 for ip in result.ips)
    assert "default via 10.99.0.1 dev eth0" in host.tell("ip", "route", netns=one)
    assert "default via fd00:99::1 dev eth0" in host.tell("ip", "-6", "route", netns=one)
    assert "inet 127.0.0.1/8" in host.tell("ip", "addr", "show", "up", "dev", "lo", netns=one)
    bridge = host.tell("ip", "addr", "show", "dev", "cni0")
    assert "inet 10.99.0.1/16 brd 10.99.255.255" in bridge
    assert "inet6 fd00:99::1/64" in bridge
    assert "hairpin on" in host.tell("ip", "-d", "link", "show", "type", "veth")
    for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        assert host.tell("cat", f"/proc/sys/net/{key}").strip() == "1"
    with listening(one, "10.99.0.2", 80) as server:
        assert reaches(server, "10.99.0.2", 80) == "10.99.0.1"
        assert reaches(server, "10.99.0.2", 80, netns=two) == other.ips[0].ip
    with listening(one, "fd00:99::2", 80) as server:
        assert reaches(server, "fd00:99::2", 80, netns=two) == other.ips[1].ip
    await networks.check(Request(id="one"))
    await networks.tear_down(Request(id="one", netns=one))
    await networks.tear_down(Request(id="two", netns=two))
    assert host.inventory() == set()
    assert "eth0" not in host.tell("ip", "link", netns=one)


async def test_ports_lead_into_the_container(host: Host) -> None:
    host.configure(
        "net", [host.bridge(), {"type": "portmap", "capabilities": {"portMappings": True}}]
    )
    networks = host.networks()
    one, two = await host.namespaces.create("one"), await host.namespaces.create("two")
    ports = (
        PortMapping(8080, 80),
        PortMapping(8081, 81, host_ip="127.0.0.1"),
        PortMapping(8053, 53, "udp"),
        PortMapping(0, 9),
    )
    await networks.set_up(Request(id="one", netns=one, ports=ports))
    await networks.set_up(Request(id="two", netns=two))
    with listening(one, "0.0.0.0", 80) as server:
        assert reaches(server, "127.0.0.1", 8080) == "10.99.0.1"
        assert reaches(server, "10.99.0.1", 8080, netns=two) in ("10.99.0.3", "10.99.0.1")
        # A container reaches itself by the host's port.
        host.tell("bridge", "link", "set", "dev", await _pair_of(host, one), "hairpin", "on")
        assert reaches(server, "10.99.0.1", 8080, netns=one) == "10.99.0.1"
    with listening(one, "0.0.0.0", 81) as server:
        assert reaches(server, "127.0.0.1", 8081) == "10.99.0.1"
        with pytest.raises(OSError, match=r"refused|timed out|Network is unreachable"):
            reaches(server, "10.99.0.1", 8081, netns=two)
    with listening(one, "0.0.0.0", 53, UDP) as server, socket.socket(type=UDP) as client:
        client.sendto(b"ahoy", ("127.0.0.1", 8053))
        assert server.recvfrom(10)[0] == b"ahoy"
    if host.served_by != "originals":  # portmap 1.1.1 looks for IPv4 rules in ip6tables
        await networks.check(Request(id="one"))
    await networks.tear_down(Request(id="one", netns=one))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", 8080), timeout=10)
    await networks.tear_down(Request(id="two", netns=two))
    assert host.inventory() == set()


async def _pair_of(host: Host, netns: str) -> str:
    inner = host.tell("ip", "-br", "link", "show", "dev", "eth0", netns=netns)
    index = int(re.findall(r"eth0@if(\d+)", inner)[0])
    lines = host.tell("ip", "-o", "link").splitlines()
    return next(
        one.split(":")[1].split("@")[0].strip() for one in lines if one.startswith(f"{index}:")
    )


async def test_bandwidth_is_limited(host: Host) -> None:
    host.configure(
        "net", [host.bridge(), {"type": "bandwidth", "capabilities": {"bandwidth": True}}]
    )
    networks = host.networks()
    path = await host.namespaces.create("c")
    wish = Bandwidth(1_000_000, 80_000, 2_000_000, 160_000)
    result = await networks.set_up(Request(id="c", netns=path, bandwidth=wish))
    assert result.interfaces[-1].name.startswith("bwp")
    shown = host.tell("tc", "-d", "qdisc", "show")
    assert re.search(r"qdisc tbf 1: dev veth\w+ root .*rate 1Mbit burst 10000b.* lat 25ms", shown)
    assert re.search(r"qdisc tbf 1: dev bwp\w+ root .*rate 2Mbit burst 20000b.* lat 25ms", shown)
    pair = await _pair_of(host, path)
    filters = host.tell("tc", "filter", "show", "dev", pair, "parent", "ffff:")
    assert f"Egress Redirect to device {result.interfaces[-1].name}" in filters
    # What the container sends really comes through.
    with socket.socket(type=UDP) as server:
        server.bind(("10.99.0.1", 0))
        server.settimeout(10)
        target = server.getsockname()

        def send() -> None:
            with socket.socket(type=UDP) as client:
                client.sendto(b"ahoy", target)

        inside(path, send)
        assert server.recv(10) == b"ahoy"
    await networks.check(Request(id="c"))
    await networks.tear_down(Request(id="c", netns=path))
    assert host.inventory() == set()


async def test_tuning(host: Host) -> None:
    tuning = {
        "type": "tuning",
        "capabilities": {"mac": True},
        "mtu": 1400,
        "sysctl": {"net.core.somaxconn": "500", "net.ipv4.conf.eth0.arp_filter": "1"},
        "dataDir": str(host.tmp / "tuning"),
    }
    host.configure("net", [host.bridge(ipv6=False), tuning])
    networks = host.networks()
    path = await host.namespaces.create("c")
    result = await networks.set_up(Request(id="c", netns=path, mac="02:11:22:33:44:55"))
    assert result.interfaces[2].mac == "02:11:22:33:44:55"
    link = host.tell("ip", "link", "show", "dev", "eth0", netns=path)
    assert "mtu 1400" in link
    assert "link/ether 02:11:22:33:44:55" in link

    def parameters() -> list[str]:
        keys = ("core/somaxconn", "ipv4/conf/eth0/arp_filter")
        return [Path("/proc/sys/net", one).read_text().strip() for one in keys]

    assert inside(path, parameters) == ["500", "1"]
    await networks.check(Request(id="c"))
    host.tell("ip", "link", "set", "eth0", "mtu", "1300", netns=path)
    with pytest.raises(PluginError, match=r"(?i)mtu"):
        await networks.check(Request(id="c"))
    await networks.tear_down(Request(id="c", netns=path))
    assert host.inventory() == set()


@pytest.mark.parametrize("key", ["kernel.shmmax", "net/../kernel/shmmax", "vm.overcommit_memory"])
async def test_tuning_touches_networking_only(host: Host, key: str) -> None:
    """CVE-2022-0811's way: a parameter of the whole kernel by way of a container's."""
    host.configure("net", [host.bridge(), {"type": "tuning", "sysctl": {key: "1"}}])
    path = await host.namespaces.create("c")
    with pytest.raises(PluginError, match=r"sysctl|no such file"):
        await host.networks().set_up(Request(id="c", netns=path))
    assert host.inventory() == set()


Spoil = Callable[[Host, str], object]
SPOILS: list[tuple[str, Spoil]] = [
    ("address", lambda h, p: h.tell("ip", "addr", "flush", "dev", "eth0", netns=p)),
    ("link", lambda h, p: h.tell("ip", "link", "del", "eth0", netns=p)),
    ("route", lambda h, p: h.tell("ip", "route", "del", "default", netns=p)),
    ("bridge", lambda h, p: h.tell("ip", "link", "del", "cni0")),
    ("ipam", lambda h, p: next(h.addresses.rglob("10.99.0.2")).unlink()),
    ("firewall", lambda h, p: h.tell("iptables", "-F", "CNI-FORWARD")),
    ("ports", lambda h, p: h.tell("iptables", "-t", "nat", "-F", "CNI-HOSTPORT-DNAT")),
]


@pytest.mark.parametrize(("what", "spoil"), SPOILS, ids=[name for name, _ in SPOILS])
async def test_check_finds_what_was_spoilt(host: Host, what: str, spoil: Spoil) -> None:
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    if host.served_by == "originals":
        portmap = {"type": "firewall"}
        if what == "ports":
            pytest.xfail("portmap 1.1.1 looks for IPv4 rules in ip6tables")
    host.configure("net", [host.bridge(ipv6=False), portmap, {"type": "firewall"}])
    networks = host.networks()
    path = await host.namespaces.create("c")
    await networks.set_up(Request(id="c", netns=path, ports=(PortMapping(8080, 80),)))
    await networks.check(Request(id="c"))
    spoil(host, path)
    with pytest.raises(PluginError):
        await networks.check(Request(id="c"))
    await networks.tear_down(Request(id="c", netns=path))
    left = host.inventory()
    if host.served_by == "originals" and what in ("address", "link"):
        # bridge 1.1.1 asks the interface for addresses, and leaves their rules without it.
        assert all("MASQUERADE" in one or "ACCEPT" in one or "POSTROUTING" in one for one in left)
    else:
        assert left == set()


async def test_requested_address_and_exhaustion(host: Host) -> None:
    bridge = host.bridge(capabilities={"ips": True}, ipMasq=False)
    bridge["ipam"]["ranges"] = [[{"subnet": "10.99.0.0/29"}]]
    host.configure("net", [bridge])
    networks = host.networks()
    names = [f"c{number}" for number in range(6)]
    paths = {name: await host.namespaces.create(name) for name in names}
    first = await networks.set_up(Request(id="c0", netns=paths["c0"], ips=("10.99.0.5",)))
    assert first.ips[0].address == "10.99.0.5/29"
    for taken in ("10.99.0.5", "10.99.0.1"):
        with pytest.raises(PluginError):
            await networks.set_up(Request(id="c1", netns=paths["c1"], ips=(taken,)))
    seen = []
    for name in names[1:5]:
        result = await networks.set_up(Request(id=name, netns=paths[name]))
        seen.append(result.ips[0].ip)
    assert sorted(seen) == ["10.99.0.2", "10.99.0.3", "10.99.0.4", "10.99.0.6"]
    with pytest.raises(PluginError, match="no IP addresses available"):
        await networks.set_up(Request(id="c5", netns=paths["c5"]))
    await networks.tear_down(Request(id="c2", netns=paths["c2"]))
    result = await networks.set_up(Request(id="c5", netns=paths["c5"]))
    assert result.ips[0].ip == seen[1]
    for name in names:
        await networks.tear_down(Request(id=name, netns=paths[name]))
    assert host.inventory() == set()


FULL = ("portmap", "firewall", "bandwidth", "tuning")
PORTS = (
    PortMapping(8080, 80),
    PortMapping(8443, 443),
    PortMapping(8053, 53, "udp"),
    PortMapping(8081, 81, host_ip="127.0.0.1"),
    PortMapping(8082, 82, host_ip="10.99.0.1"),
    PortMapping(8083, 83, host_ip="::1"),
    PortMapping(8084, 84, host_ip="0.0.0.0"),
    *(PortMapping(9000 + n, 90) for n in range(20)),
)
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "hairpin": {"hairpinMode": True, "mtu": 1400},
    "promiscuous": {"promiscMode": True},
    "no gateway": {"isGateway": False, "ipMasq": False},
    "default gateway": {"isGateway": False, "isDefaultGateway": True, "_routes": []},
    "same bridge": {"_firewall": {"ingressPolicy": "same-bridge"}},
    "no snat": {"_portmap": {"snat": False}},
    "another mark": {"_portmap": {"markMasqBit": 5}},
    "another chain": {"_firewall": {"iptablesAdminChainName": "MINE"}},
}


def _plugins(host: Host, case: dict[str, Any]) -> list[dict[str, Any]]:
    more = {key: value for key, value in case.items() if not key.startswith("_")}
    bridge = host.bridge(**more)
    bridge["ipam"]["routes"] = case.get("_routes", bridge["ipam"]["routes"])
    found = [bridge]
    for name in FULL:
        plugin = {
            "type": name,
            "capabilities": {"portMappings": name == "portmap", "bandwidth": name == "bandwidth"},
        }
        if name == "tuning":
            plugin["dataDir"] = str(host.tmp / "tuning")
        found.append({**plugin, **case.get(f"_{name}", {})})
    return found


async def _seen(host: Host, case: dict[str, Any]) -> dict[str, Any]:
    """Return all that two containers make the host look like, without what is drawn by lot."""
    host.configure("net", _plugins(host, case))
    networks = host.networks()
    for name in ("one", "two"):
        path = await host.namespaces.create(name)
        await networks.set_up(
            Request(
                id=name,
                netns=path,
                ports=PORTS if name == "one" else (),
                bandwidth=Bandwidth(10_000_000, 800_000, 20_000_000, 1_600_000),
            )
        )
    seen: dict[str, Any] = {"rules": sorted(host.rules())}
    for tool in ("addr", "route", "-6 route", "link"):
        words = ["ip", "-j", "-d", *tool.split(), "show"]
        seen[f"host {tool}"] = _plain(host.tell(*words), host)
        seen[f"inside {tool}"] = _plain(host.tell(*words, netns=path), host)
    seen["host parameters"] = _parameters(host)
    seen["inside parameters"] = _parameters(host, path)
    seen["order"] = [
        line
        for line in host.rules()
        if any(f"-A {one} " in line for one in ("FORWARD", "POSTROUTING"))
    ]
    seen["qdisc"] = sorted(
        re.sub(r"veth\w+", "veth", host.tell("tc", "qdisc", "show")).splitlines()
    )
    raw = json.loads((host.tmp / "cache/results/net-one-eth0").read_bytes())["result"]
    seen["result"] = _plain(json.dumps(raw), host)
    for name in ("one", "two"):
        await networks.tear_down(Request(id=name, netns=host.namespaces.path(name)))
    assert host.inventory() == set()
    seen["left"] = sorted(host.rules())
    for name in ("one", "two"):
        await host.namespaces.remove(name)
    await host.close()
    return seen


def _parameters(host: Host, netns: str = "") -> list[str]:
    """Return the kernel parameters of interfaces."""
    found = host.tell("sysctl", "-a", "--pattern", r"^net\.ipv[46]\.(conf|ip_forward)", netns=netns)
    lines = (re.sub(r"veth\w+", "veth", line) for line in found.splitlines())
    return sorted({line for line in lines if "stable_secret" not in line})


_DRAWN = {
    "mac",
    "address",
    "link_index",
    "ifindex",
    "link_netnsid",
    "sandbox",
    "bridge_id",
    "root_id",
}
_TIMES = re.compile(
    r"timer|time|_cnt|valid_life|designated|port_(id|no)|config_pend|tentative|nodad"
)


def _plain(text: str, host: Host) -> Any:
    """Return JSON without what is drawn by lot, measures time, or comes late."""

    def strip(raw: Any) -> Any:
        if isinstance(raw, dict):
            if raw.get("scope") == "link" and raw.get("family") == "inet6":
                return None
            if str(raw.get("dst")).startswith("fe80:"):
                return None
            kept = {}
            if raw.get("ifname") == "eth0":
                # Without a transmit queue, a queueing discipline inside could hold one packet.
                raw = {key: value for key, value in raw.items() if key != "txqlen"}
            for key, value in raw.items():
                if _TIMES.search(key) or key in ("flags", "group", "state", "operstate"):
                    continue
                if key in _DRAWN and not _is_ip(value):
                    continue
                kept[key] = strip(value)
            return kept
        if isinstance(raw, list):
            return [one for one in map(strip, raw) if one is not None]
        return re.sub(r"veth\w+", "veth", raw) if isinstance(raw, str) else raw

    return strip(json.loads(text))


def _is_ip(value: object) -> bool:
    try:
        ipaddress.ip_interface(str(value))
    except ValueError:
        return False
    return ":" not in str(value) or str(value).count(":") != 5


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_the_host_looks_the_same(
    case: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    need_originals()
    seen = []
    for who in ("originals", "built in"):
        with private_host():
            seen.append(await _seen(Host(tmp_path_factory.mktemp("host"), who), case))
    theirs, ours = ({part: _lines(it) for part, it in one.items()} for one in seen)
    for part, there in theirs.items():
        assert ours[part] == there, part


def _lines(raw: Any) -> list[str]:
    """Return it so that a difference is easily seen."""
    return [json.dumps(one, sort_keys=True) for one in raw] if isinstance(raw, list) else [str(raw)]


@pytest.mark.parametrize("who", [("originals", "built in"), ("built in", "originals")], ids=str)
async def test_either_cleans_up_after_the_other(
    who: tuple[str, str], own_network: None, tmp_path: Any
) -> None:
    need_originals()
    host = Host(tmp_path)
    host.configure("net", _plugins(host, {}))
    path = await host.namespaces.create("c")
    limits = Bandwidth(10_000_000, 800_000, 20_000_000, 1_600_000)
    request = Request(id="c", netns=path, ports=PORTS, bandwidth=limits)
    await host.networks(who[0]).set_up(request)
    assert host.inventory() != set()
    await host.networks(who[1]).tear_down(request)
    assert host.inventory() == set()
    await host.namespaces.remove("c")
    await host.close()


async def test_a_udp_flow_follows_the_port_to_the_next_container(host: Host) -> None:
    """What is tracked of a flow would lead its packets to where the port led before."""
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    host.configure("net", [host.bridge(ipv6=False), portmap])
    networks = host.networks()
    ports = (PortMapping(8053, 53, "udp"),)
    with socket.socket(type=UDP) as client:
        client.connect(("127.0.0.1", 8053))
        for name in ("one", "two"):
            path = await host.namespaces.create(name)
            result = await networks.set_up(Request(id=name, netns=path, ports=ports))
            with listening(path, result.ips[0].ip, 53, UDP) as server:
                client.send(name.encode())
                assert server.recv(10) == name.encode()
            await networks.tear_down(Request(id=name, netns=path))
    assert host.inventory() == set()


async def test_both_take_addresses_from_one_pool(own_network: None, tmp_path: Path) -> None:
    need_originals()
    host = Host(tmp_path)
    host.configure("net", [host.bridge(ipv6=False, ipMasq=False)])
    servers = {who: host.networks(who) for who in ("originals", "built in")}
    taken: list[str] = []

    async def set_up(who: str, number: int) -> None:
        name = f"{who[0]}{number}"
        path = await host.namespaces.create(name)
        result = await servers[who].set_up(Request(id=name, netns=path))
        taken.extend(one.ip for one in result.ips)
        if number % 3 == 0:
            taken.remove(result.ips[0].ip)
            other = next(one for one in servers if one != who)
            await servers[other].tear_down(Request(id=name, netns=path))

    async with asyncio.TaskGroup() as group:
        for number in range(16):
            for who in servers:
                group.create_task(set_up(who, number))
    assert len(taken) == len(set(taken)) == 20
    files = {path.name for path in (host.addresses / "net").glob("10.*")}
    assert files == set(taken)
    await servers["built in"].gc([])
    assert host.inventory() == set()
    await host.close()
