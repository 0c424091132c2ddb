"""Queueing, connections, rules and messages by raw netlink, as the tools of others see them."""

import os
import socket
import subprocess

import pytest

from sampan.linux import netlink, nftables, traffic
from sampan.linux.conntrack import Conntrack
from sampan.linux.nlsocket import attribute, attributes, attributes_list, message
from sampan.testing import requires
from sampan.testing.networks import private_host

pytestmark = requires("root", "tc", "nft")


def tell(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_token_buckets_and_redirection() -> None:
    with private_host(), netlink.Route() as route:
        route.execute([netlink.add_veth("v0", "v1", up=True), netlink.add_ifb("i0", mtu=1400)])
        veth, ifb = route.link("v0"), route.link("i0")
        route.execute(
            [
                traffic.add_token_bucket(veth.index, rate=1_250_000_000 * 8, burst=1 << 20),
                traffic.add_ingress(veth.index),
                traffic.add_redirect(veth.index, ifb.index),
                traffic.add_token_bucket(ifb.index, rate=125_000, burst=10_000, latency_ms=50),
            ]
        )
        assert "rate 80Gbit burst 10" in tell("tc", "qdisc", "show", "dev", "v0")
        assert "rate 1Mbit burst 10000b lat 50ms" in tell("tc", "qdisc", "show", "dev", "i0")
        assert "Redirect to device i0" in tell(
            "tc", "filter", "show", "dev", "v0", "parent", "ffff:"
        )
        kinds = {one.kind: one.rate for one in traffic.qdiscs(route, ifb.index)}
        assert kinds == {"tbf": 125_000}
        assert {one.kind for one in traffic.qdiscs(route, veth.index)} == {"tbf", "ingress"}


def test_links_addresses_and_routes_with_all_that_they_can_bear() -> None:
    with private_host(), netlink.Route() as route:
        route.execute([netlink.add_veth("v0", "v1", mtu=1400, up=True), netlink.add_bridge("b0")])
        one, two, bridge = route.link("v0"), route.link("v1"), route.link("b0")
        assert (one.peer, two.peer) == (two.index, one.index)
        assert route.link_at(one.index).name == "v0"
        route.execute(
            [
                netlink.set_link(one.index, master=bridge.index, txqlen=77),
                netlink.set_bridge_port(one.index, hairpin=True, isolated=True),
                netlink.set_promiscuous(two.index),
                netlink.set_all_multicast(two.index),
                netlink.set_up(two.index),
                netlink.add_address(two.index, "10.3.0.1", 24),
                netlink.add_address(bridge.index, "10.4.0.1", 24),
                netlink.add_route(
                    two.index,
                    "10.5.0.0",
                    16,
                    gateway="10.3.0.2",
                    mtu=1300,
                    advmss=1200,
                    priority=9,
                    table=1000,
                ),
                netlink.add_route(two.index, "10.6.0.0", 16),
            ]
        )
        shown = tell("ip", "-d", "link", "show", "v0")
        assert "hairpin on" in shown
        assert "isolated on" in shown
        assert route.link("v0").txqlen == 77
        assert route.link("v1").promiscuous
        assert route.link("v1").all_multicast
        shown = " ".join(tell("ip", "route", "show", "table", "1000").split())
        assert shown == "10.5.0.0/16 via 10.3.0.2 dev v1 metric 9 mtu 1300 advmss 1200"
        assert [(r.destination, r.index) for r in route.routes(1000)] == [("10.5.0.0", two.index)]
        assert [a.address for a in route.addresses(bridge.index)] == ["10.4.0.1"]
        assert route.route_to("10.6.1.1").index == two.index
        with pytest.raises(OSError, match="unreachable"):
            route.route_to("192.0.2.1")
        route.execute([netlink.delete_address(bridge.index, "10.4.0.1", 24)])
        assert route.addresses(bridge.index) == []


def test_a_batch_is_all_or_nothing() -> None:
    with private_host(), nftables.Nftables() as nft:
        v4 = nftables.IPV4
        generation = nft.generation()
        good = [
            nftables.add_table(v4, "t"),
            nftables.add_chain(v4, "t", "c", kind="filter", hook=1),
            nftables.add_chain(v4, "t", "d"),
            nftables.add_rule(v4, "t", "c", [nftables.counter(), nftables.verdict(chain="d")]),
        ]
        with pytest.raises(OSError, match="No such file"):
            nft.commit([*good, nftables.flush_chain(v4, "t", "missing")])
        assert not nft.has_chain(v4, "t", "c")
        nft.commit(good, generation)
        with pytest.raises(OSError, match="Interrupted system call should be restarted") as caught:
            nft.commit(good, generation)
        assert caught.value.errno == 85
        (rule,) = nft.rules(v4, "t", "c")
        assert (rule.table, rule.chain, rule.jumps_to()) == ("t", "c", "d")
        assert [name for name, _ in rule.expressions()] == ["counter", "immediate"]
        comment = nftables.add_rule(
            v4, "t", "d", [nftables.verdict(nftables.DROP)], comment="why", first=True
        )
        nft.commit([nftables.delete_rule(v4, rule), comment])
        assert 'drop comment "why"' in tell("nft", "list", "ruleset")
        many = [nftables.add_rule(v4, "t", "d", [nftables.counter()]) for _ in range(3000)]
        nft.commit(many)
        assert len(nft.rules(v4, "t")) == 3001
        nft.commit([nftables.delete_table(v4, "t")])
        assert nft.rules(v4, "t") == []


def test_connections_are_forgotten() -> None:
    with private_host():
        tell("nft", "add table ip t; add chain ip t c { type nat hook output priority -100; }")
        tell("nft", "add rule ip t c udp dport 7 dnat to 127.0.0.1:9")
        with socket.socket(type=socket.SOCK_DGRAM) as server, Conntrack() as conntrack:
            server.bind(("127.0.0.1", 9))
            server.settimeout(10)
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.sendto(b"ahoy", ("127.0.0.1", 7))
                assert server.recv(10) == b"ahoy"
            assert conntrack.forget(socket.AF_INET, 17, 8) == 0
            assert conntrack.forget(socket.AF_INET, 6, 7) == 0
            assert conntrack.forget(socket.AF_INET, 17, 7) == 1
            assert conntrack.forget(socket.AF_INET, 17, 7) == 0


def test_attributes_there_and_back() -> None:
    data = attribute(1, b"a") + attribute(0x8002, b"bcde") + attribute(1, b"")
    assert list(attributes_list(data)) == [(1, b"a"), (2, b"bcde"), (1, b"")]
    assert attributes(data) == {1: b"", 2: b"bcde"}
    assert attributes(b"\x02\x00\x01\x00") == {}
    assert len(message(1, 0, b"abc")) == 20
    assert os.path.exists("/proc/net/netlink")
