"""Networks that people make, and the one that is there without anybody's doing."""

# ruff: noqa: ASYNC240  nothing else runs in the loop of a test
import json
import socket
from pathlib import Path

import pytest

from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from sampan.network import BridgeNetworks, Request
from sampan.network.inside import inside
from sampan.testing import requires
from sampan.testing.networks import Host

pytestmark = requires("root", "iptables", "nft")


def store_of(host: Host) -> BridgeNetworks:
    return BridgeNetworks(host.networks().config)


async def test_a_fresh_machine_has_a_network(host: Host) -> None:
    networks = host.networks()
    status = await networks.status()
    assert (status.ready, status.networks) == (True, ("sampan",))
    one, two = await host.namespaces.create("one"), await host.namespaces.create("two")
    first = await networks.set_up(Request(id="one", netns=one))
    second = await networks.set_up(Request(id="two", netns=two, networks=("sampan",)))
    assert first.ips[0].address == "10.88.0.2/16"
    assert first.ips[1].ip.startswith("fd")
    for ip in second.ips:
        family = socket.AF_INET if ip.family == 4 else socket.AF_INET6
        with inside(two, lambda f=family: socket.create_server(("", 80), family=f)):  # type: ignore[misc]
            address = (ip.ip, 80)
            inside(one, lambda a=address: socket.create_connection(a, timeout=10).close())  # type: ignore[misc]
    (network,) = await store_of(host).list()
    assert (network.name, network.default, network.ours) == ("sampan", True, True)
    await networks.tear_down(Request(id="one"))
    await networks.tear_down(Request(id="two"))
    assert host.inventory() == set()


async def test_the_default_network_avoids_what_the_host_uses(host: Host) -> None:
    host.tell("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
    host.tell("ip", "addr", "add", "10.88.7.1/24", "dev", "v0")
    host.tell("ip", "link", "set", "v0", "up")
    host.tell("ip", "route", "add", "10.89.0.0/17", "dev", "v0")
    await host.networks().status()
    (network,) = await store_of(host).list()
    assert network.subnets[0] == "10.90.0.0/16"


async def test_a_configured_folder_wins(host: Host) -> None:
    await host.networks().status()
    host.configure("net", [host.bridge()])
    assert (await host.networks().status()).networks == ("net", "sampan")
    listed = await store_of(host).list()
    assert [(one.name, one.default, one.ours) for one in listed] == [
        ("net", True, False),
        ("sampan", False, True),
    ]


async def test_life_of_a_network(host: Host) -> None:
    store = store_of(host)
    network = await store.create("web", ipv6=True, labels={"a": "b"}, mtu=1400)
    assert (network.driver, network.ours, network.mtu) == ("bridge", True, 1400)
    assert network.labels == {"a": "b"}
    assert network.subnets[0] == "10.89.0.0/24"
    assert network.subnets[1].startswith("fd")
    assert network.gateways[0] == "10.89.0.1"
    with pytest.raises(AlreadyExists):
        await store.create("web")
    networks = host.networks()
    path = await host.namespaces.create("c")
    result = await networks.set_up(Request(id="c", netns=path, networks=("web",)))
    assert result.ips[0].address == "10.89.0.2/24"
    assert "mtu 1400" in host.tell("ip", "link", "show", "dev", network.bridge)
    assert await store.members("web") == ["c"]
    with pytest.raises(FailedPrecondition, match="in use by c"):
        await store.remove("web")
    await networks.tear_down(Request(id="c"))
    await store.remove("web")
    with pytest.raises(NotFound):
        await store.inspect("web")
    with pytest.raises(NotFound):
        await store.remove("web")
    assert network.bridge not in host.tell("ip", "link")
    assert host.inventory() == set()


async def test_networks_do_not_reach_each_other(host: Host) -> None:
    store, networks = store_of(host), host.networks()
    paths, results = {}, {}
    for name in ("one", "two"):
        await store.create(name, ipv6=True)
        paths[name] = await host.namespaces.create(name)
        results[name] = await networks.set_up(Request(id=name, netns=paths[name], networks=(name,)))
    there = results["two"].ips[0].ip
    with inside(paths["two"], lambda: socket.create_server(("", 80))) as server:
        with socket.create_connection((there, 80), timeout=10):
            server.settimeout(10)
            server.accept()[0].close()

        def connect() -> None:
            socket.create_connection((there, 80), timeout=0.5).close()

        with pytest.raises(TimeoutError):
            inside(paths["one"], connect)
        host.tell("iptables", "-F", "CNI-ISOLATION-STAGE-1")
        inside(paths["one"], lambda: socket.create_connection((there, 80), timeout=10).close())
    for name in paths:
        await networks.tear_down(Request(id=name))
        network = await store.inspect(name)
        assert network.bridge in "".join(host.rules())
        await store.remove(name)
        assert network.bridge not in "".join(host.rules())
    assert host.inventory() == set()


async def test_an_internal_network_leads_nowhere(host: Host) -> None:
    await store_of(host).create("inner", internal=True, subnets=["10.50.0.0/24"])
    path = await host.namespaces.create("c")
    networks = host.networks()
    await networks.set_up(Request(id="c", netns=path, networks=("inner",)))
    assert "default" not in host.tell("ip", "route", netns=path)
    assert not [one for one in host.inventory() if "MASQUERADE" in one]
    await networks.tear_down(Request(id="c"))


async def test_choices_of_people(host: Host) -> None:
    store = store_of(host)
    network = await store.create(
        "mine",
        subnets=["10.60.0.0/24", "fd60::/64"],
        gateways=["10.60.0.254"],
        ip_range="10.60.0.128/28",
    )
    assert network.gateways == ("10.60.0.254", "fd60::1")
    path = await host.namespaces.create("c")
    networks = host.networks()
    request = Request(id="c", netns=path, networks=("mine",), mac="02:00:00:00:00:09")
    result = await networks.set_up(request)
    assert [one.address for one in result.ips] == ["10.60.0.128/24", "fd60::2/64"]
    assert "02:00:00:00:00:09" in host.tell("ip", "link", "show", "eth0", netns=path)
    await networks.tear_down(request)
    for wrong in (
        {"subnets": ["10.60.0.0/25"]},
        {"subnets": ["10.61.0.1/24"]},
        {"subnets": ["10.61.0.0/24"], "gateways": ["10.62.0.1"]},
        {"subnets": ["10.61.0.0/24"], "ip_range": "10.62.0.0/28"},
        {"subnets": ["nonsense"]},
    ):
        with pytest.raises(InvalidArgument):
            await store.create("wrong", **wrong)
    for name in ("", "../x", "host", "none", "a b"):
        with pytest.raises(InvalidArgument):
            await store.create(name)
    assert [one.name for one in await store.list() if one.name == "wrong"] == []


async def test_what_others_configured_is_not_ours_to_remove(host: Host) -> None:
    path = host.configure("net", [host.bridge()])
    with pytest.raises(FailedPrecondition, match="not ours"):
        await store_of(host).remove("net")
    assert path.exists()


async def test_names_on_a_network(host: Host, tmp_path: Path) -> None:
    store = store_of(host)
    await store.create("web")
    hosts = tmp_path / "etc-hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    await store.join("web", "a", names=["alice"], ips=["10.89.0.2"], hosts=str(hosts))
    await store.join("web", "b", names=["bob"], ips=["10.89.0.3"], hosts="")
    assert "10.89.0.3\tbob" in hosts.read_text()
    await store.leave("b")
    assert "bob" not in hosts.read_text()
    await store.leave("a")
    raw = json.loads(Path((await store.inspect("web")).path).read_bytes())
    assert raw["name"] == "web"
