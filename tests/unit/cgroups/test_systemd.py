"""The systemd driver's words: names of units, D-Bus' encoding, properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cgroups.systemd import wire
from sampan.cgroups.systemd.bus import _parse_address
from sampan.cgroups.systemd.names import expand_slice, parse_path
from sampan.cgroups.systemd.properties import bits_of_list, properties
from sampan.errors import InvalidArgument
from sampan.model.runtime.resources import CPU, DeviceRule, Memory, Pids, Resources


def test_slices_lie_in_each_other() -> None:
    assert expand_slice("-.slice") == "/"
    assert expand_slice("a.slice") == "/a.slice"
    assert expand_slice("a-b-c.slice") == "/a.slice/a-b.slice/a-b-c.slice"


@pytest.mark.parametrize(
    "name", ["", ".slice", "a", "-a.slice", "a-.slice", "a--b.slice", "a/b.slice", "../a.slice"]
)
def test_what_is_no_slice(name: str) -> None:
    with pytest.raises(InvalidArgument, match="no name for a systemd slice"):
        expand_slice(name)


def test_units_and_their_folders() -> None:
    unit = parse_path("machine.slice:libpod:c1", "id", default_slice="system.slice")
    assert (unit.unit, unit.folder) == ("libpod-c1.scope", "/machine.slice/libpod-c1.scope")
    unit = parse_path("", "id", default_slice="system.slice")
    assert unit.folder == "/system.slice/sampan-id.scope"
    unit = parse_path("a.slice::only", "id", default_slice="x.slice")
    assert unit.unit == "only.scope"
    unit = parse_path("a.slice:p:a-b.slice", "id", default_slice="x.slice")
    assert unit.is_slice
    assert unit.folder == "/a.slice/a-b.slice"


VALUES = st.recursive(
    st.one_of(
        st.tuples(st.just("s"), st.text(st.characters(exclude_characters="\0", codec="utf-8"))),
        st.tuples(st.just("u"), st.integers(0, (1 << 32) - 1)),
        st.tuples(st.just("t"), st.integers(0, (1 << 64) - 1)),
        st.tuples(st.just("x"), st.integers(-(1 << 63), (1 << 63) - 1)),
        st.tuples(st.just("b"), st.booleans()),
        st.tuples(st.just("ay"), st.lists(st.integers(0, 255))),
    ),
    lambda inner: st.one_of(
        inner.map(lambda one: ("v", one)),
        inner.map(lambda one: (f"({one[0]}y)", (one[1], 7))),
        inner.map(lambda one: (f"a{one[0]}", [one[1], one[1]])),
        inner.map(lambda one: (f"a{{s{one[0]}}}", {"key": one[1]})),
    ),
    max_leaves=6,
)


@given(st.lists(VALUES, max_size=4))
def test_messages_come_back_as_they_went(values: list[tuple[str, object]]) -> None:
    message = wire.Message(wire.METHOD_CALL, 17)
    message.path, message.interface, message.member = "/a/b", "a.b.C", "Do"
    message.signature = "".join(kind for kind, _ in values)
    message.body = [value for _, value in values]
    data = message.to_bytes()
    assert wire.size(data[:16]) == len(data)
    again = wire.decode(data)
    assert (again.path, again.member, again.serial) == ("/a/b", "Do", 17)
    assert again.body == message.body


@given(st.binary(max_size=200))
def test_garbage_is_refused_not_believed(data: bytes) -> None:
    try:
        wire.decode(b"l\1\0\1" + data)
    except InvalidArgument:
        return


def test_limits_become_properties() -> None:
    wanted = Resources(
        memory=Memory(limit=100, swap=300, reservation=50),
        cpu=CPU(shares=1024, quota=12_345, period=50_000, cpus="0-1,3"),
        pids=Pids(limit=-1),
        devices=(
            DeviceRule(allow=False),
            DeviceRule(allow=True, type="c", major=1, minor=3, access="rw"),
            DeviceRule(allow=True, type="c", access="m"),
        ),
    )
    found = {name: value for name, (_, value) in properties(wanted, v2=True)}
    assert found["MemoryMax"] == 100
    assert found["MemorySwapMax"] == 200
    assert found["MemoryLow"] == 50
    assert found["CPUWeight"] == 39
    assert found["CPUQuotaPerSecUSec"] == 250_000, "rounded up to 10 ms a second"
    assert found["CPUQuotaPeriodUSec"] == 50_000
    assert found["AllowedCPUs"] == [0b1011]
    assert found["TasksMax"] == (1 << 64) - 1
    assert found["DevicePolicy"] == "strict"
    assert set(found["DeviceAllow"]) == {("/dev/char/1:3", "rw"), ("char-*", "m")}
    legacy = {name: value for name, (_, value) in properties(wanted, v2=False)}
    assert legacy["MemoryLimit"] == 100
    assert legacy["CPUShares"] == 1024
    assert "AllowedCPUs" not in legacy


@pytest.mark.parametrize("text", ["", "a", "1-", "2-1", "0-9999", "+1", "1,,2"])
def test_lists_of_cpus_are_checked(text: str) -> None:
    with pytest.raises(InvalidArgument):
        bits_of_list(text)


def test_addresses_of_buses() -> None:
    text = "tcp:host=x;unix:path=/run/a%20b,guid=1;unix:abstract=/tmp/c"
    assert _parse_address(text) == ["/run/a b", "\0/tmp/c"]
