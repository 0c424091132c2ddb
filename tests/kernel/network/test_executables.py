"""Plugins as programs: finding them, and what they say of themselves."""

import subprocess
import sys
from pathlib import Path

import pytest

from sampan.errors import NotFound
from sampan.network import PluginError, chain
from sampan.network.cache import Entry
from sampan.network.calls import Call
from sampan.network.configs import parse
from sampan.network.executables import execute, find, supported_versions
from sampan.network.subnets import free_subnet, subnets_of
from sampan.testing import requires
from sampan.testing.networks import ORIGINALS, Host, need_originals

pytestmark = requires("root")


def test_only_executables_of_the_folders(tmp_path: Path) -> None:
    (tmp_path / "a").touch(mode=0o644)
    (tmp_path / "b").touch(mode=0o755)
    (tmp_path / "c").mkdir()
    assert find("b", ["/nowhere", str(tmp_path)]) == str(tmp_path / "b")
    for name in ("a", "c", "missing", "../b", "/bin/sh", ""):
        with pytest.raises(NotFound, match="in none of"):
            find(name, [str(tmp_path)])


@requires("iptables")
async def test_versions_of_originals_and_ours(host: Host) -> None:
    need_originals()
    theirs = await supported_versions(str(ORIGINALS / "bridge"), "bridge", timeout_s=30)
    assert "1.0.0" in theirs
    host.networks("ours by exec")
    ours = await supported_versions(str(host.tmp / "bin/bridge"), "bridge", timeout_s=30)
    assert ours[-1] == "1.1.0"
    host.plugin("old", 'cat >/dev/null; echo \'{"code": 4, "msg": "unknown CNI_COMMAND"}\'; exit 1')
    assert await supported_versions(str(host.tmp / "bin/old"), "old", timeout_s=30) == ("0.1.0",)


async def test_an_executable_that_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(b"\x7fELF rubbish")
    path.chmod(0o755)
    with pytest.raises(PluginError, match="cannot be executed"):
        await execute(str(path), Call(command="ADD", conf={"type": "odd"}), timeout_s=5)


@pytest.mark.parametrize(
    ("argv", "stdin", "env", "match"),
    [
        (["bridge"], "{", {"CNI_COMMAND": "ADD"}, "stdin holds no JSON"),
        (["bridge"], "{}", {}, "CNI_COMMAND missing"),
        (["nonsense"], "{}", {"CNI_COMMAND": "ADD"}, "no plugin 'nonsense'"),
        (["bridge"], "{}", {"CNI_COMMAND": "ADD"}, "CNI_CONTAINERID"),
        (["bridge"], '{"cniVersion": "8"}', {"CNI_COMMAND": "ADD"}, "incompatible CNI versions"),
        (["bridge"], '{"cniVersion": "1.0.0"}', {"CNI_COMMAND": "GC"}, "does not allow GC"),
        (["bridge"], '{"cniVersion": "1.0.0"}', {"CNI_COMMAND": "NEW"}, "unknown CNI_COMMAND"),
        (
            ["bridge"],
            '{"cniVersion": "1.0.0", "hairpinMode": true, "promiscMode": true}',
            {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c", "CNI_IFNAME": "eth0"},
            "hairpin mode and promiscuous mode",
        ),
        (
            ["portmap"],
            '{"cniVersion": "1.0.0", "runtimeConfig": {"portMappings": [{"hostPort": "x"}]}}',
            {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c", "CNI_IFNAME": "eth0"},
            "protocol",
        ),
        (
            ["firewall"],
            '{"cniVersion": "1.0.0"}',
            {
                "CNI_COMMAND": "ADD",
                "CNI_CONTAINERID": "c",
                "CNI_IFNAME": "eth0",
                "CNI_NETNS": "/proc/self/ns/net",
            },
            "chained plugin",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_errors_of_our_programs(
    argv: list[str], stdin: str, env: dict[str, str], match: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sampan.network.plugins", *argv],
        input=stdin,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert match in done.stdout
    assert '"code"' in done.stdout


async def test_an_unwanted_check_and_old_deletions() -> None:
    """What is not asked of plugins, by version and by flags."""
    called = []

    class Caller:
        path = ""

        async def __call__(self, call: Call) -> None:
            called.append((call.command, call.conf.get("prevResult")))

    entry = Entry(network="n", id="c", ifname="eth0", result={"cniVersion": "0.3.1"})
    old = parse(b'{"cniVersion": "0.3.1", "name": "n", "plugins": [{"type": "a"}]}')
    await chain.delete(old, entry, Caller())
    assert called == [("DEL", None)]
    await chain.status(old, Caller())
    await chain.collect(old, (entry,), Caller())
    quiet = parse(
        b'{"cniVersion": "1.1.0", "name": "n", "disableCheck": true, "disableGC": true,'
        b' "plugins": [{"type": "a"}]}'
    )
    await chain.check(quiet, entry, Caller())
    await chain.collect(quiet, (entry,), Caller())
    assert called == [("DEL", None)]


def test_free_subnets() -> None:
    first = free_subnet([], version=4, prefix=16, name="x")
    assert str(first) == "10.88.0.0/16"
    assert str(free_subnet([first], version=4, prefix=16, name="x")) == "10.89.0.0/16"
    six = free_subnet([], version=6, prefix=64, name="x")
    assert six == free_subnet([], version=6, prefix=64, name="x")
    assert six != free_subnet([six], version=6, prefix=64, name="x")
    nested = {"a": [{"subnet": "10.1.0.0/16"}], "subnet": "fd00::/64", "b": {"subnet": 7}}
    assert [str(one) for one in subnets_of(nested)] == ["10.1.0.0/16", "fd00::/64"]
