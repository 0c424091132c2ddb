"""Rules in tables of nf_tables: traffic passes, current plugins and ours clean up for each other.

Needs containernetworking-plugins 1.6 or later (SAMPAN_CNI_PLUGINS names their folder, where Go is
at hand); Debian 12 has 1.1.1, which knows iptables alone.
"""

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sampan.linux import nftables as nft
from sampan.network import PortMapping, Request
from sampan.network.inside import inside
from sampan.network.plugins import hostports_nftables, masquerading
from sampan.network.plugins.ruleset import Ruleset
from sampan.testing import requires
from sampan.testing.networks import Host

pytestmark = requires("root", "iptables", "nft")

CURRENT = os.environ.get("SAMPAN_CNI_PLUGINS", "")
PORTS = (
    PortMapping(8080, 80),
    PortMapping(8081, 81, host_ip="127.0.0.1"),
    PortMapping(8053, 53, "udp"),
)


@pytest.fixture
async def ours(own_network: None, tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    portmap = {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": True}}
    host.configure("net", [host.bridge(ipMasqBackend="nftables"), portmap], version="1.1.0")
    yield host
    await host.close()


async def test_ports_and_masquerade(ours: Host) -> None:
    path = await ours.namespaces.create("c")
    networks = ours.networks()
    request = Request(id="c", netns=path, ports=PORTS)
    await networks.set_up(request)
    assert not [one for one in ours.rules() if "CNI" in one]

    def serve(port: int) -> socket.socket:
        return inside(path, lambda: socket.create_server(("0.0.0.0", port)))

    for outer, inner in ((8080, 80), (8081, 81)):
        with serve(inner) as server, socket.create_connection(("127.0.0.1", outer), timeout=10):
            server.settimeout(10)
            seen, peer = server.accept()
            seen.close()
            assert peer[0] == "10.99.0.1"
    shown = ours.tell("nft", "list", "table", "inet", "cni_plugins_masquerade")
    assert "ip saddr 10.99.0.2 ip daddr != 10.99.0.0/16 masquerade" in shown
    assert "ip6 saddr fd00:99::2 ip6 daddr != fd00:99::/64 masquerade" in shown
    assert "ip daddr 224.0.0.0/4 return" in shown
    await networks.check(request)
    await networks.gc(["c"])
    await networks.check(request)
    await networks.tear_down(request)
    assert ours.inventory() == set()


async def test_added_twice_is_there_once(ours: Host) -> None:
    for _ in range(2):
        masquerading.install(["10.1.0.2/24"], "net", "c", "eth0", backend="nftables")
    with Ruleset(nft.INET, "cni_plugins_masquerade") as rules:
        assert len(rules.commented("masq_checks", "")) == 1
        assert rules.exists("masq_checks", "postrouting")
        assert not rules.exists("nowhere")
    assert masquerading.missing(["10.1.0.2/24"], "net", "c", "eth0") == ()
    masquerading.collect("net", {("c", "eth0")})
    assert masquerading.missing(["10.1.0.2/24"], "net", "c", "eth0") == ()
    masquerading.collect("net", set())
    assert masquerading.missing(["10.1.0.2/24"], "net", "c", "eth0") == ["10.1.0.2/24"]
    hostports_nftables.remove("c")


@pytest.mark.skipif(not CURRENT, reason="SAMPAN_CNI_PLUGINS names no current plugins")
@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("backend", ["nftables", "iptables"])
async def test_current_originals_and_ours_clean_up_after_each_other(
    ours: Host, first: str, backend: str
) -> None:
    portmap = {"type": "portmap", "backend": backend, "capabilities": {"portMappings": True}}
    ours.configure("net", [ours.bridge(ipMasqBackend=backend), portmap], version="1.1.0")
    theirs: dict[str, Any] = {"builtin": False, "bin_dirs": (CURRENT,)}
    path = await ours.namespaces.create("c")
    request = Request(id="c", netns=path, ports=PORTS)
    one, other = ours.networks(), ours.networks(**theirs)
    if first == "theirs":
        one, other = other, one
    await one.set_up(request)
    assert ours.inventory() != set()
    if (first, backend) != ("ours", "nftables"):  # portmap 1.8 misses rules that it never makes
        await other.check(request)
    await other.tear_down(request)
    assert ours.inventory() == set()
