"""Networks: a bridge by default, names that resolve, published ports, addresses given back."""

import http.client
import json
import socket
import subprocess
import time

import pytest

from sampan.testing import requires

from .conftest import Sampan

pytestmark = requires("ip")

SERVE = "exec python3 -m http.server 80 --directory /etc"


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def fetched(port: int, timeout_s: float = 20) -> int:
    """Return the status of an HTTP request to ourselves, once somebody listens."""
    until = time.monotonic() + timeout_s
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        try:
            connection.request("GET", "/hostname")
            return connection.getresponse().status
        except OSError:
            if time.monotonic() > until:
                raise
            subprocess.run(["sleep", "0.05"], check=True)
        finally:
            connection.close()


@pytest.fixture
def net(sampan: Sampan) -> str:
    sampan("network", "create", "--subnet", "10.213.7.0/24", "net1").ok()
    return "net1"


def test_names_resolve_between_containers(sampan: Sampan, net: str) -> None:
    sampan("run", "-d", "--name", "web", "--network", net, "host:", "sh", "-c", SERVE).ok()
    script = "import socket; print(socket.gethostbyname('web'), socket.gethostbyname('shop'))"
    refused = sampan("run", "--rm", "--network", net, "host:", "getent", "hosts", "shop")
    assert refused.status != 0, "no name without its container"
    alias = ("--network-alias", "shop", "--name", "two")
    sampan("run", "-d", "--network", net, *alias, "host:", "sleep", "600").ok()
    said = sampan("run", "--rm", "--network", net, "host:", "python3", "-c", script).ok()
    assert said == "10.213.7.2 10.213.7.4\n" or said.startswith("10.213.7.2 10.213.7.")
    sampan("rm", "-f", "two").ok()
    sampan("rm", "-f", "web").ok()
    gone = sampan("run", "--rm", "--network", net, "host:", "getent", "hosts", "web")
    assert gone.status != 0
    assert sampan("network", "rm", net).ok() == f"{net}\n"
    assert links() == {"lo"}


def test_published_ports_lead_in_until_the_end(sampan: Sampan, net: str) -> None:
    flags = ("--name", "web", "--network", net, "-p", "127.0.0.1:18080:80", "-p", "18081:80")
    sampan("run", "-d", *flags, "host:", "sh", "-c", SERVE).ok()
    assert fetched(18080) == 200
    assert fetched(18081) == 200
    assert sampan("port", "web", "80").ok().splitlines()[0] == "127.0.0.1:18080"
    assert "127.0.0.1:18080->80/tcp" in sampan("ps").ok()
    found = json.loads(sampan("inspect", "web").ok())[0]["NetworkSettings"]
    assert found["Networks"][net]["IPAddress"] == "10.213.7.2"
    assert found["Ports"]["80/tcp"][0] == {"HostIp": "127.0.0.1", "HostPort": "18080"}
    assert "in use" in sampan("network", "rm", net).stderr
    sampan("restart", "-t", "0", "web").ok()
    assert fetched(18080) == 200
    sampan("stop", "-t", "0", "web").ok()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", 18080), timeout=20)
    sampan("rm", "web").ok()
    sampan("network", "prune", "-f").ok()
    assert links() == {"lo"}


def test_an_image_gets_the_default_network(sampan: Sampan, small: str) -> None:
    script = "cat /etc/hostname /proc/net/dev; ls /sys/class/net"
    said = sampan("run", "--rm", "--hostname", "boat", small, "sh", "-c", script).ok()
    assert said.startswith("boat\n")
    assert "eth0" in said
    none = sampan("run", "--rm", "--network", "none", small, "ls", "/sys/class/net").ok()
    assert none == "lo\n"


def test_sharing_a_network_and_fixed_addresses(sampan: Sampan, net: str) -> None:
    flags = ("--network", net, "--ip", "10.213.7.77", "--mac-address", "02:00:00:00:00:07")
    sampan("run", "-d", "--name", "one", *flags, "host:", "sleep", "600").ok()
    code = "import socket; s = socket.create_server(('10.213.7.77', 5)); print('bound')"
    shared = sampan("run", "--rm", "--network", "container:one", "host:", "python3", "-c", code)
    assert shared.ok() == "bound\n"
    mac = sampan("exec", "one", "cat", "/sys/class/net/eth0/address").ok()
    assert mac == "02:00:00:00:00:07\n"
    taken = sampan("run", "--rm", *flags[:4], "host:", "true")
    assert taken.status == 125
    assert taken.stderr.count("\n") == 1


def test_hosts_and_dns_flags(sampan: Sampan, net: str) -> None:
    flags = ("--add-host", "db:10.1.2.3", "--add-host", "up:host-gateway", "--dns", "10.9.9.9")
    more = ("--dns-search", "in.example", "--dns-option", "ndots:3")
    script = "cat /etc/hosts /etc/resolv.conf"
    said = sampan("run", "--rm", "--network", net, *flags, *more, "host:", "sh", "-c", script).ok()
    for line in ("10.1.2.3\tdb", "10.213.7.1\tup", "nameserver 10.9.9.9", "search in.example"):
        assert line in said.splitlines(), said
    assert "options ndots:3" in said


def test_networks_are_listed_inspected_and_refused(sampan: Sampan, net: str) -> None:
    assert net in sampan("network", "ls", "-q").ok().split()
    form = "{{.Driver}} {{range .IPAM.Config}}{{.Subnet}}{{end}}"
    assert sampan("network", "inspect", "-f", form, net).ok() == "bridge 10.213.7.0/24\n"
    for bad in (
        ("create", net), ("create", "--subnet", "10.213.7.0/25", "other"), ("inspect", "none"),
        ("create", "--subnet", "banana", "other"), ("rm", "none"), ("create", "a/b"),
    ):  # fmt: skip
        done = sampan("network", *bad)
        assert (done.status, done.stderr.count("\n")) == (1, 1), (bad, done)
