"""Results of plugins of every version, there and back."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.network import Dns, Interface, Ip, PluginError, Result, Route
from sampan.network.results import VERSIONS, at_least, from_json, merge, to_json

OLD = {
    "cniVersion": "0.2.0",
    "ip4": {"ip": "10.1.2.3/24", "gateway": "10.1.2.1", "routes": [{"dst": "0.0.0.0/0"}]},
    "ip6": {"ip": "fd00::3/64", "routes": [{"dst": "::/0", "gw": "fd00::1"}]},
    "dns": {"nameservers": ["10.1.2.1"]},
}
NEW = {
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "cni0", "mac": "02:00:00:00:00:01", "mtu": 1400},
        {"name": "eth0", "sandbox": "/run/netns/x", "socketPath": "/s", "pciID": "0000:00:1f.6"},
    ],
    "ips": [{"interface": 1, "address": "10.1.2.3/24", "gateway": "10.1.2.1"}],
    "routes": [
        {"dst": "0.0.0.0/0", "mtu": 1300, "advmss": 1260, "priority": 7, "table": 100, "scope": 0}
    ],
    "dns": {"nameservers": ["1.1.1.1"], "domain": "d", "search": ["a", "b"], "options": ["o"]},
}


def test_old_results() -> None:
    result = from_json(OLD)
    assert [ip.address for ip in result.ips] == ["10.1.2.3/24", "fd00::3/64"]
    assert [(r.dst, r.gw) for r in result.routes] == [("0.0.0.0/0", ""), ("::/0", "fd00::1")]
    assert to_json(result, "0.2.0") == OLD


def test_new_results() -> None:
    result = from_json(NEW)
    assert result.routes[0] == Route("0.0.0.0/0", "", 1300, 1260, 7, 100, 0)
    assert result.interfaces[1].pci_id == "0000:00:1f.6"
    assert (result.ips[0].ip, result.ips[0].family) == ("10.1.2.3", 4)
    assert to_json(result, "1.1.0") == NEW


def test_what_a_version_cannot_say_is_left_out() -> None:
    answer = to_json(from_json(NEW), "0.4.0")
    assert answer["ips"] == [
        {"version": "4", "interface": 1, "address": "10.1.2.3/24", "gateway": "10.1.2.1"}
    ]
    assert answer["routes"] == [{"dst": "0.0.0.0/0"}]
    assert answer["interfaces"][0] == {"name": "cni0", "mac": "02:00:00:00:00:01"}


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        "text",
        {"cniVersion": "7.0.0"},
        {"cniVersion": "1.0.0", "ips": {}},
        {"cniVersion": "1.0.0", "ips": [7]},
        {"cniVersion": "1.0.0", "ips": [{}]},
        {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1"}]},
        {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.256/8"}]},
        {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1/8", "gateway": "here"}]},
        {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1/8", "interface": 3}]},
        {"cniVersion": "1.0.0", "interfaces": [{"name": 7}]},
        {"cniVersion": "1.0.0", "routes": [{"dst": "everywhere"}]},
        {"cniVersion": "1.0.0", "dns": "1.1.1.1"},
        {"cniVersion": "0.2.0", "ip4": {"gateway": "10.0.0.1"}},
    ],
    ids=str,
)
def test_what_is_no_result(raw: object) -> None:
    with pytest.raises(PluginError) as caught:
        from_json(raw)
    assert caught.value.code == 6


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["ips", "interfaces", "routes", "dns", "ip4", "ip6"]), JSON),
    st.sampled_from(VERSIONS),
)
def test_rubbish_is_refused_in_one_way(raw: dict[str, Any], version: str) -> None:
    with suppress(PluginError):
        from_json({**raw, "cniVersion": version})


def test_results_of_networks_are_put_together() -> None:
    one = Result((Interface("br"), Interface("eth0")), (Ip("10.0.0.2/8", interface=1),))
    two = Result((Interface("eth1"),), (Ip("10.0.0.3/8", interface=0),), dns=Dns(("1.1.1.1",)))
    both = merge([one, two])
    assert [both.interfaces[ip.interface or 0].name for ip in both.ips] == ["eth0", "eth1"]
    assert both.dns.nameservers == ("1.1.1.1",)


def test_versions_in_order() -> None:
    assert at_least("1.1.0", "0.4.0")
    assert not at_least("0.3.1", "0.4.0")
