"""Interfaces of the host that move into the container, judged inside and after it has ended."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.testing import Bundle, Runtime, requires
from sampan.testing.runtimes import ExecEntry, sampan_oci

pytestmark = requires("root", "busybox", "ip", "nsenter")


@pytest.fixture
def place() -> Iterator[str]:
    """A network namespace that stands for the host's, with a pair of interfaces."""
    holder = subprocess.Popen(["unshare", "-n", "sleep", "100"])
    space = f"/proc/{holder.pid}/ns/net"
    while os.stat(space).st_ino == os.stat("/proc/self/ns/net").st_ino:
        os.sched_yield()
    ip(space, "link", "add", "name", "dev0", "type", "veth", "peer", "name", "peer0")
    yield space
    holder.kill()
    holder.wait(10)


def ip(space: str, *words: str) -> str:
    command = ["nsenter", f"--net={space}", "ip", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def runtime(place: str, short_path: Path) -> Iterator[Runtime]:
    folder = short_path / "state"
    folder.mkdir(mode=0o711)
    made = Runtime("sampan-exec", ExecEntry("nsenter", f"--net={place}", *sampan_oci()), folder)
    yield made
    made.close()


def test_it_keeps_what_it_was(runtime: Runtime, place: str, bundle: Bundle) -> None:
    """Name, hardware address, MTU and addresses of global scope; and it is up."""
    ip(place, "link", "set", "dev0", "address", "02:11:22:33:44:55", "mtu", "1400", "up")
    ip(place, "addr", "add", "10.1.2.3/24", "dev", "dev0")
    ip(place, "addr", "add", "fd00::5/64", "dev", "dev0", "nodad")
    bundle.linux["netDevices"] = {"dev0": {}}
    result = runtime.run(bundle, "sh", "-c", "ip link show dev0; ip addr show dev0")
    assert result.returncode == 0, result.stderr
    for words in ("02:11:22:33:44:55", "mtu 1400", "10.1.2.3/24", "fd00::5/64", "UP"):
        assert words in result.stdout


def test_it_may_be_renamed(runtime: Runtime, place: str, bundle: Bundle) -> None:
    bundle.linux["netDevices"] = {"dev0": {"name": "eth0"}}
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    assert "eth0" in runtime.exec(name, "ip", "link").stdout
    assert "dev0" not in ip(place, "link")
    runtime.delete(name, force=True)


def test_with_users_of_ones_own(runtime: Runtime, place: str, bundle: Bundle) -> None:
    ip(place, "addr", "add", "10.1.2.3/24", "dev", "dev0")
    os.chown(bundle.rootfs, 100_000, 100_000)
    bundle.path.chmod(0o755)
    ids = [{"containerID": 0, "hostID": 100_000, "size": 65536}]
    bundle.linux["namespaces"].append({"type": "user"})
    bundle.linux.update({"uidMappings": ids, "gidMappings": ids, "netDevices": {"dev0": {}}})
    result = runtime.run(bundle, "ip", "addr", "show", "dev0")
    assert "10.1.2.3/24" in result.stdout, result.stderr


def test_one_that_fails_brings_back_the_others(
    runtime: Runtime, place: str, bundle: Bundle
) -> None:
    bundle.linux["netDevices"] = {"dev0": {"name": "moved"}, "nothere": {}}
    result = runtime.run(bundle, "true")
    assert result.returncode != 0
    assert "cannot move network device nothere" in result.stderr
    assert "dev0" in ip(place, "link")


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ({"dev0": {"name": "a/b"}}, "no name for a network device"),
        ({"dev0": {"name": "sixteen-letters0"}}, "no name for a network device"),
        ({"dev0": {"name": "x"}, "peer0": {"name": "x"}}, "the same name"),
    ],
)
def test_names_are_checked(
    runtime: Runtime, bundle: Bundle, devices: dict[str, object], words: str
) -> None:
    bundle.linux["netDevices"] = devices
    result = runtime.run(bundle, "true")
    assert result.returncode == 1
    assert words in result.stderr


def test_there_must_be_somewhere_to_go(
    make_runtime: Callable[[str], Runtime], bundle: Bundle
) -> None:
    kinds = [n for n in bundle.linux["namespaces"] if n["type"] != "network"]
    bundle.linux.update({"namespaces": kinds, "netDevices": {"dev0": {}}})
    result = make_runtime("sampan-fork").run(bundle, "true")
    assert "without a network namespace" in result.stderr
