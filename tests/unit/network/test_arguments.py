"""From requests to capability arguments."""

import pytest

from sampan.errors import InvalidArgument
from sampan.network import Bandwidth, Dns, PortMapping, Request
from sampan.network.arguments import capabilities_of
from sampan.network.calls import Call


def test_names_of_the_conventions() -> None:
    request = Request(
        id="c",
        ports=(PortMapping(8080, 80, "TCP", "::1"), PortMapping(0, 81)),
        bandwidth=Bandwidth(1, 2, 3, 4),
        dns=Dns(("1.1.1.1",), "d", ("s",), ("o",)),
        ips=("10.0.0.2", "fd00::2/64"),
        mac="02:00:00:00:00:01",
        aliases=("web",),
        cgroup_path="/pods/c",
        capabilities={"deviceID": "x"},
    )
    port = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "::1"}
    common = {
        "deviceID": "x",
        "dns": {"servers": ["1.1.1.1"], "searches": ["s"], "options": ["o"]},
        "aliases": ["web"],
        "cgroupPath": "/pods/c",
    }
    assert capabilities_of(request, first=False) == common
    assert capabilities_of(request, first=True) == {
        **common,
        "portMappings": [port],
        "bandwidth": {"ingressRate": 1, "ingressBurst": 2, "egressRate": 3, "egressBurst": 4},
        "ips": ["10.0.0.2", "fd00::2/64"],
        "mac": "02:00:00:00:00:01",
    }
    assert capabilities_of(Request(id="c"), first=True) == {}


@pytest.mark.parametrize(
    "request_",
    [
        Request(id="c", ports=(PortMapping(70000, 80),)),
        Request(id="c", ports=(PortMapping(80, 0),)),
        Request(id="c", ports=(PortMapping(80, 80, "icmp"),)),
        Request(id="c", ports=(PortMapping(80, 80, "tcp", "localhost"),)),
        Request(id="c", ips=("10.0.0.300",)),
        Request(id="c", mac="02:00"),
    ],
    ids=str,
)
def test_what_no_plugin_could_take(request_: Request) -> None:
    with pytest.raises(InvalidArgument):
        capabilities_of(request_, first=True)


def test_environment_of_a_call() -> None:
    call = Call(command="ADD", conf={"type": "t"}, container_id="c", netns="/n", ifname="eth0")
    assert call.type == "t"
    assert call.environment()["CNI_CONTAINERID"] == "c"
    assert "CNI_CONTAINERID" not in Call(command="STATUS", conf={}).environment()
