"""A pod's network by raw netlink: a packet really gets from one end to the other."""

import _socket
import os

import pytest

from sampan.linux import namespaces as ns
from sampan.linux import netlink, process
from sampan.testing import requires

pytestmark = requires("root")


def build_and_talk() -> None:
    pod = ns.open_namespace("self", "net")
    ns.unshare(ns.CLONE_NEWNET)
    host = ns.open_namespace("self", "net")
    with netlink.Route() as route:
        pair = netlink.add_veth("v0", "eth0", peer_netns_fd=pod, peer_mac="02:00:00:00:00:07")
        route.execute([netlink.add_bridge("br0", mtu=1400), pair])
        bridge, veth = route.link("br0"), route.link("v0")
        route.execute(
            [
                netlink.set_link(veth.index, master=bridge.index),
                netlink.set_up(veth.index),
                netlink.set_up(bridge.index),
                netlink.add_address(bridge.index, "10.9.0.1", 24),
            ]
        )
        assert route.link("v0").master == bridge.index
        assert (bridge.kind, veth.kind, bridge.mtu) == ("bridge", "veth", 1400)
    server = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    server.bind(("10.9.0.1", 0))
    server.settimeout(10)
    ns.setns(pod)
    with netlink.Route() as route:
        eth = route.link("eth0")
        assert eth.mac == "02:00:00:00:00:07"
        route.execute(
            [
                netlink.set_up(1),
                netlink.set_up(eth.index),
                netlink.add_address(eth.index, "10.9.0.2", 24),
                netlink.add_address(eth.index, "fd00::2", 64),
                netlink.add_route(eth.index, gateway="10.9.0.1"),
            ]
        )
        assert {"10.9.0.2", "fd00::2"} <= {a.address for a in route.addresses()}
        with pytest.raises(OSError, match="Network is unreachable") as caught:
            route.execute([netlink.set_up(1), netlink.add_route(eth.index, gateway="10.77.0.1")])
        assert caught.value.filename == "change 1"
        client = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        client.sendto(b"ahoy", server.getsockname())
        assert server.recv(10) == b"ahoy"
        route.execute([netlink.delete_link(eth.index)])
        with pytest.raises(OSError, match="no such interface"):
            route.link("eth0")
    os.close(host)


def test_pod_network() -> None:
    read_end, write_end = os.pipe()
    pid, pidfd = process.clone3(ns.CLONE_NEWNET)
    if pid == 0:
        try:
            build_and_talk()
        except BaseException as error:  # noqa: BLE001
            os.write(write_end, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    assert process.pidfd_wait(pidfd, 30)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    said = os.read(read_end, 4096)
    os.close(read_end)
    os.close(pidfd)
    assert said == b""
