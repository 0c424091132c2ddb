"""Ranges of addresses: what is refused, and that each address has its turn once."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.network import PluginError
from sampan.network.plugins.ranges import Range, candidates, range_sets


def test_a_whole_subnet() -> None:
    one = Range.parse({"subnet": "10.1.0.0/29"})
    assert (str(one), str(one.gateway)) == ("10.1.0.1-10.1.0.6", "10.1.0.1")
    six = Range.parse({"subnet": "fd00::/125"})
    assert str(six) == "fd00::1-fd00::7"


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"subnet": "nonsense"},
        {"subnet": "10.1.0.1/24"},
        {"subnet": "10.1.0.0/31"},
        {"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"},
        {"subnet": "10.1.0.0/24", "rangeEnd": "fd00::1"},
        {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.8"},
        {"subnet": "10.1.0.0/24", "gateway": "door"},
    ],
    ids=str,
)
def test_what_is_no_range(raw: dict[str, Any]) -> None:
    with pytest.raises(PluginError):
        Range.parse(raw)


@pytest.mark.parametrize(
    "ipam",
    [
        {},
        {"ranges": [[]]},
        {"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]},
        {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/16"}]]},
        {"subnet": "10.1.0.0/24", "ranges": [[{"subnet": "10.1.0.0/24"}]]},
    ],
    ids=str,
)
def test_what_is_no_set(ipam: dict[str, Any]) -> None:
    with pytest.raises(PluginError):
        range_sets(ipam)


def test_sets_in_order() -> None:
    sets = range_sets(
        {"subnet": "10.1.0.0/24", "ranges": [[{"subnet": "fd00::/64"}]]},
        [[{"subnet": "10.2.0.0/24"}]],
    )
    assert [str(one[0].subnet) for one in sets] == ["10.1.0.0/24", "10.2.0.0/24", "fd00::/64"]


@given(st.integers(0, 40), st.sampled_from(["", "10.1.0.3", "10.9.0.5"]))
def test_each_address_once_and_the_gateway_never(last: int, gateway: str) -> None:
    ranges = (
        Range.parse({"subnet": "10.1.0.0/29", **({"gateway": gateway} if gateway else {})}),
        Range.parse({"subnet": "10.2.0.0/28", "rangeStart": "10.2.0.4", "rangeEnd": "10.2.0.9"}),
    )
    every = {
        str(address)
        for one in ranges
        for number in range(int(one.start), int(one.end) + 1)
        if (address := ipaddress.ip_address(number)) != one.gateway
    }
    start = ipaddress.ip_address("10.1.0.0") + last if last < 20 else None
    seen = [str(address) for _, address in candidates(ranges, start)]
    assert sorted(seen) == sorted(every)
    if start is not None and start in ranges[0] and (start + 1) in ranges[0]:
        assert int(ipaddress.ip_address(seen[0])) > int(start)
