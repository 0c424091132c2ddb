"""Our D-Bus client and the real dbus-daemon."""

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.cgroups.systemd.bus import Bus, BusError
from sampan.errors import Unavailable
from sampan.testing import requires

pytestmark = requires("dbus-daemon")
DBUS = "org.freedesktop.DBus"


@pytest.fixture
def address(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    command = ["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address"]
    with subprocess.Popen(
        [*command, f"--address=unix:path={short_path}/bus"], stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdout is not None
        line = daemon.stdout.readline().strip()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", line)
        yield line
        daemon.terminate()


def test_calls_answers_and_errors(address: str) -> None:
    with Bus.connect(user=False) as bus:
        there = functools.partial(
            bus.call, path="/org/freedesktop/DBus", interface=DBUS, destination=DBUS
        )
        (names,) = there("ListNames")
        assert DBUS in names
        (reply,) = there("RequestName", "su", ["org.example.Sampan", 0])
        assert reply == 1
        with pytest.raises(BusError, match=r"org\.example\.Nobody") as caught:
            there("GetNameOwner", "s", ["org.example.Nobody"])
        assert caught.value.name == "org.freedesktop.DBus.Error.NameHasNoOwner"
        with pytest.raises(BusError, match="systemd1"):
            bus.property("ControlGroup")


def test_nobody_there(monkeypatch: pytest.MonkeyPatch, short_path: Path) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={short_path}/none")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    with pytest.raises(Unavailable, match="no connection to the user's systemd"):
        Bus.connect(user=True)
