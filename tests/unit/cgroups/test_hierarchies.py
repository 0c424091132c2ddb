"""Paths of cgroups are kept below the root, and rules for devices are boiled down."""

import pytest

from sampan.cgroups.hierarchies import clean
from sampan.cgroups.v1.devices import boil_down
from sampan.cgroups.v2.cpu import weight_of_shares
from sampan.cgroups.v2.memory import swap_alone
from sampan.errors import InvalidArgument
from sampan.model.runtime.resources import DeviceRule


@pytest.mark.parametrize(
    ("given", "kept"),
    [("/a/b", "/a/b"), ("a//b/", "/a/b"), ("/../../x", "/x"), ("a/../..", "/"), ("/a/./b", "/a/b")],
)
def test_clean(given: str, kept: str) -> None:
    assert clean(given) == kept


def test_rules_boil_down_to_default_and_exceptions() -> None:
    deny_all = DeviceRule(allow=False, access="rwm")
    null = DeviceRule(allow=True, type="c", major=1, minor=3, access="rwm")
    some = DeviceRule(allow=True, type="c", major=5, access="rw")
    less = DeviceRule(allow=False, type="c", major=1, minor=3, access="w")
    assert boil_down((deny_all, null, some)) == (False, {"c 1:3 rwm", "c 5:* rw"})
    assert boil_down((deny_all, null, less)) == (False, {"c 1:3 rm"})
    assert boil_down((null, deny_all)) == (False, set())
    assert boil_down((DeviceRule(allow=True), less)) == (True, {"c 1:3 w"})


def test_v1_units_become_v2() -> None:
    assert [weight_of_shares(s) for s in (2, 1024, 262144)] == [1, 39, 10000]
    assert swap_alone(100, 150) == "50"
    assert swap_alone(100, -1) == "max"
    assert swap_alone(100, None) is None
    with pytest.raises(InvalidArgument):
        swap_alone(100, 50)
