"""Networks over plugins that misbehave, folders that come and go, and daemons that are killed."""

# ruff: noqa: ASYNC240  nothing else runs in the loop of a test
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from sampan.network import PluginError, Request
from sampan.testing import requires
from sampan.testing.networks import Host

pytestmark = requires("root", "iptables", "nft")

RESULT = '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24"}], "dns": {}}'
SAYS = f"""cat > "$(dirname "$0")/../stdin.$CNI_COMMAND"
env | sort > "$(dirname "$0")/../env.$CNI_COMMAND"
ls -l /proc/$$/fd > "$(dirname "$0")/../fds.$CNI_COMMAND"
[ $CNI_COMMAND = ADD ] && echo '{RESULT}'
exit 0"""


async def test_what_a_plugin_is_given(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the daemon")
    host.plugin("says", SAYS)
    host.configure(
        "net", [{"type": "says", "capabilities": {"mac": True, "dns": False}, "key": "value"}]
    )
    path = await host.namespaces.create("c")
    request = Request(
        id="c", netns=path, mac="02:00:00:00:00:01", args={"K8S_POD_NAME": "p"}, ips=("10.1.2.3",)
    )
    networks = host.networks()
    result = await networks.set_up(request)
    assert result.ips[0].address == "10.1.2.3/24"
    await networks.tear_down(Request(id="c"))
    env = dict(line.split("=", 1) for line in (host.tmp / "env.ADD").read_text().splitlines())
    for name in ("PWD", "SHLVL", "_", "OLDPWD"):
        env.pop(name, None)
    assert env.pop("PATH").startswith("/usr/local/sbin")
    assert env == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c",
        "CNI_NETNS": path,
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=p",
        "CNI_PATH": f"{host.tmp}/bin:/usr/lib/cni",
    }
    conf = json.loads((host.tmp / "stdin.ADD").read_bytes())
    assert conf["runtimeConfig"] == {"mac": "02:00:00:00:00:01"}
    assert (conf["name"], conf["cniVersion"], conf["key"]) == ("net", "1.0.0", "value")
    assert json.loads((host.tmp / "stdin.DEL").read_bytes())["prevResult"] == json.loads(RESULT)
    listed = (host.tmp / "fds.ADD").read_text()
    assert "socket" not in listed
    assert host.inventory() == set()


async def test_results_are_passed_on_and_undone_backwards(host: Host) -> None:
    log = host.tmp / "log"
    for name in ("a", "b", "c"):
        host.plugin(name, f"cat >/dev/null; echo $CNI_COMMAND {name} >> {log}; echo '{RESULT}'")
    host.plugin(
        "broken",
        f"""cat >/dev/null; echo $CNI_COMMAND broken >> {log}
        [ $CNI_COMMAND = DEL ] && exit 0
        echo '{{"cniVersion": "1.0.0", "code": 107, "msg": "no luck", "details": "today"}}'
        exit 1""",
    )
    host.configure("net", [{"type": name} for name in ("a", "b", "broken", "c")])
    path = await host.namespaces.create("c")
    with pytest.raises(PluginError, match="no luck; today") as caught:
        await host.networks().set_up(Request(id="c", netns=path))
    assert (caught.value.code, caught.value.plugin) == (107, "broken")
    assert log.read_text().splitlines() == [
        "ADD a",
        "ADD b",
        "ADD broken",
        "DEL c",
        "DEL broken",
        "DEL b",
        "DEL a",
    ]
    assert host.inventory() == set()


@pytest.mark.parametrize(
    ("says", "match"),
    [
        ("echo rubbish", "no JSON"),
        ("echo '[1]'", "no JSON object"),
        ("true", "no result"),
        ('echo \'{"cniVersion": "9.9.9"}\'', "unknown version"),
        ('echo \'{"cniVersion": "1.0.0", "ips": [{"address": "nine"}]}\'', "malformed"),
        ('echo \'{"cniVersion": "1.0.0", "ips": 7}\'', "malformed"),
        ("echo rubbish; echo oh dear >&2; exit 3", "oh dear"),
        ("kill -9 $$", "signal 9"),
        ("yes | head -c 9000000", "no JSON"),
    ],
)
async def test_a_plugin_that_prints_rubbish(host: Host, says: str, match: str) -> None:
    host.plugin("odd", f"cat >/dev/null; [ $CNI_COMMAND = DEL ] && exit 0; {says}")
    host.configure("net", [host.bridge(), {"type": "odd"}])
    path = await host.namespaces.create("c")
    with pytest.raises(PluginError, match=match):
        await host.networks().set_up(Request(id="c", netns=path))
    assert host.inventory() == set()


async def test_a_plugin_that_hangs_is_killed_with_its_children(host: Host) -> None:
    """Its child holds the pipe open, and would for an hour."""
    host.plugin("hangs", "[ $CNI_COMMAND = DEL ] && exit 0; sleep 3600 & echo $! > $0.pid; wait")
    host.configure("net", [host.bridge(), {"type": "hangs"}])
    path = await host.namespaces.create("c")
    with pytest.raises(DeadlineExceeded, match=r"hangs did not answer ADD for c within 0.5 s"):
        await host.networks(timeout_s=0.5).set_up(Request(id="c", netns=path))
    child = int((host.tmp / "bin/hangs.pid").read_text())
    assert (
        not Path(f"/proc/{child}/stat").exists() or " Z " in Path(f"/proc/{child}/stat").read_text()
    )
    assert host.inventory() == set()


async def test_cancelled_in_the_middle(host: Host) -> None:
    fifo = host.tmp / "fifo"
    os.mkfifo(fifo)
    host.plugin("waits", f"[ $CNI_COMMAND = DEL ] && exit 0; echo up > {fifo}; sleep 3600")
    host.configure("net", [host.bridge(), {"type": "waits"}])
    path = await host.namespaces.create("c")
    networks = host.networks()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(networks.set_up(Request(id="c", netns=path)))
        await asyncio.get_running_loop().run_in_executor(None, fifo.read_text)
        task.cancel()
    assert task.cancelled()
    assert host.inventory() == set()


async def test_a_plugin_that_fails_at_del_is_tried_again(host: Host) -> None:
    host.plugin(
        "stubborn",
        f"""cat >/dev/null; [ $CNI_COMMAND = ADD ] && echo '{RESULT}' && exit 0
        [ -e {host.tmp}/now ] && exit 0; echo not yet >&2; exit 1""",
    )
    host.configure("net", [host.bridge(), {"type": "stubborn"}])
    path = await host.namespaces.create("c")
    networks = host.networks()
    await networks.set_up(Request(id="c", netns=path))
    with pytest.raises(PluginError, match="not yet"):
        await networks.tear_down(Request(id="c", netns=path))
    # The bridge had its turn all the same; what is left is our memory of it.
    left = host.inventory()
    assert left == {"file root/attachments/net-c-eth0", "file cache/results/net-c-eth0"}
    (host.tmp / "now").touch()
    await networks.tear_down(Request(id="c", netns=path))
    assert host.inventory() == set()
    await networks.tear_down(Request(id="c", netns=path))


async def test_taken_down_as_it_was_made_though_its_file_is_gone(host: Host) -> None:
    conf = host.configure("net", [host.bridge(), {"type": "firewall"}])
    path = await host.namespaces.create("c")
    networks = host.networks()
    await networks.set_up(Request(id="c", netns=path))
    conf.write_text('{"cniVersion": "1.0.0", "name": "net", "type": "loopback"}')
    await host.namespaces.remove("c")
    await host.networks().tear_down(Request(id="c"))
    assert host.inventory() == set()


async def test_the_folder_changes_vanishes_and_returns(host: Host) -> None:
    networks = host.networks(default_network=False)
    assert not (await networks.status()).ready
    host.configure("b", [host.bridge()])
    assert (await networks.status()).networks == ("b",)
    host.configure("a", [host.bridge()])
    assert (await networks.status()).networks == ("a", "b")
    shutil.rmtree(host.conf_dir)
    status = await networks.status()
    assert (status.ready, status.reason) == (False, "NetworkPluginNotReady")
    path = await host.namespaces.create("c")
    with pytest.raises(NotFound, match="no network is configured"):
        await networks.set_up(Request(id="c", netns=path))
    host.conf_dir.mkdir()
    (host.conf_dir / "0.conflist").write_text("{ rubbish")
    status = await networks.status()
    assert not status.ready
    assert "0.conflist is no JSON" in status.message
    host.configure("c", [{"type": "nowhere-to-be-found"}])
    status = await networks.status()
    assert "'nowhere-to-be-found' is in none of" in status.message
    host.configure("c", [host.bridge()])
    assert (await networks.status()).ready


async def test_status_asks_the_plugins(host: Host) -> None:
    host.plugin(
        "moody",
        """cat >/dev/null
        [ $CNI_COMMAND = STATUS ] || exit 0
        echo '{"cniVersion": "1.1.0", "code": 50, "msg": "the controller is away"}'; exit 1""",
    )
    host.configure("net", [{"type": "moody"}], version="1.1.0")
    status = await host.networks().status()
    assert not status.ready
    assert "the controller is away" in status.message
    assert (await host.networks().status(plugins=False)).ready


async def test_gc_collects_ours_and_spares_what_others_attached(host: Host) -> None:
    host.configure("net", [host.bridge(), {"type": "firewall"}], version="1.1.0")
    ours, theirs = host.networks(), host.networks(root=host.tmp / "other-root")
    for who, name in ((ours, "keep"), (ours, "lost"), (theirs, "foreign")):
        path = await host.namespaces.create(name)
        await who.set_up(Request(id=name, netns=path))
    before = host.inventory()
    await ours.gc(["keep"])
    after = host.inventory()
    assert {one for one in before - after if "lost" not in one and "10.99.0.3" not in one} <= {
        one for one in before if "link" in one or "fd00" in one or "ACCEPT" in one
    }
    for name in ("keep", "foreign"):
        assert f"file cache/results/net-{name}-eth0" in after
    assert "file addresses/net/10.99.0.2" in after
    assert "file addresses/net/10.99.0.4" in after
    assert "file addresses/net/10.99.0.3" not in after
    await ours.gc([])
    await theirs.gc([])
    assert host.inventory() == set()


async def test_gc_of_what_is_gone_only(host: Host) -> None:
    host.configure("net", [host.bridge(), {"type": "firewall"}])
    networks = host.networks()
    for name in ("alive", "gone"):
        path = await host.namespaces.create(name)
        await networks.set_up(Request(id=name, netns=path))
    await host.namespaces.remove("gone")
    await networks.gc((), gone_only=True)
    await networks.check(Request(id="alive"))
    with pytest.raises(NotFound):
        await networks.check(Request(id="gone"))
    await networks.tear_down(Request(id="alive"))
    assert host.inventory() == set()


async def test_gc_hands_valid_attachments_to_plugins(host: Host) -> None:
    host.plugin("says", SAYS)
    host.configure("net", [{"type": "says"}], version="1.1.0")
    networks = host.networks()
    path = await host.namespaces.create("c")
    await networks.set_up(Request(id="c", netns=path))
    await networks.gc(["c"])
    given = json.loads((host.tmp / "stdin.GC").read_bytes())
    assert given["cni.dev/valid-attachments"] == [{"containerID": "c", "ifname": "eth0"}]
    await networks.tear_down(Request(id="c", netns=path))


async def test_several_networks_and_names(host: Host) -> None:
    host.configure("a", [host.bridge()])
    other = host.bridge(bridge="cni1", ipv6=False)
    other["ipam"] = {**other["ipam"], "ranges": [[{"subnet": "10.98.0.0/24"}]], "routes": []}
    host.configure("b", [other])
    networks = host.networks()
    path = await host.namespaces.create("c")
    result = await networks.set_up(Request(id="c", netns=path, networks=("b", "a")))
    assert [(one.network, one.ifname) for one in result.attachments] == [
        ("b", "eth0"),
        ("a", "eth1"),
    ]
    assert [one.ip for one in result.ips] == ["10.98.0.2", "10.99.0.2", "fd00:99::2"]
    names = [result.interfaces[one.interface or 0].name for one in result.ips]
    assert names == ["eth0", "eth1", "eth1"]
    with pytest.raises(AlreadyExists):
        await networks.set_up(Request(id="c", netns=path, networks=("a",), ifname="eth1"))
    with pytest.raises(NotFound, match="network z"):
        await networks.set_up(Request(id="d", netns=path, networks=("z",)))
    await networks.check(Request(id="c"))
    await networks.tear_down(Request(id="c"))
    assert host.inventory() == set()
    with pytest.raises(NotFound):
        await networks.check(Request(id="c"))


@pytest.mark.parametrize(
    "wrong",
    [
        Request(id="../c", netns="/x"),
        Request(id="c", netns="/x", ifname="a/b"),
        Request(id="c", netns="/x", ifname="a" * 16),
        Request(id="c"),
        Request(id="c", netns="/proc/self/ns/uts"),
        Request(id="c", netns="/x", args={"K8S_POD_NAME": "p;IP=10.99.0.9"}),
        Request(id="c", netns="/x", args={"A=B": "p"}),
    ],
    ids=lambda r: f"{r.id} {r.netns} {r.ifname}",
)
async def test_requests_that_cannot_be(host: Host, wrong: Request) -> None:
    host.configure("net", [host.bridge()])
    with pytest.raises((InvalidArgument, NotFound)):
        await host.networks().set_up(wrong)
    assert host.inventory() == set()


async def test_attached_again_after_a_reboot(host: Host) -> None:
    """The record survived, the namespace did not: the same id may come again."""
    host.configure("net", [host.bridge()])
    networks = host.networks()
    path = await host.namespaces.create("c")
    await networks.set_up(Request(id="c", netns=path))
    await host.namespaces.remove("c")
    again = await host.namespaces.create("c2")
    result = await networks.set_up(Request(id="c", netns=again))
    assert result.ips
    await networks.tear_down(Request(id="c", netns=again))
    assert host.inventory() == set()


async def test_a_full_disk(host: Host, tmp_path: Path) -> None:
    """Said in one clear class, and nothing half done is left."""
    full = tmp_path / "full"
    full.mkdir()
    host.tell("mount", "-t", "tmpfs", "-o", "nr_inodes=4,size=16k", "full", str(full))
    try:
        host.configure("net", [host.bridge()])
        path = await host.namespaces.create("c")
        for number in range(3):
            (full / str(number)).touch()
        for where in ("root", "cache_dir"):
            more: dict[str, Any] = {where: full / where}
            with pytest.raises(ResourceExhausted, match="No space left on device"):
                await host.networks(**more).set_up(Request(id="c", netns=path))
            assert host.inventory() == set()
        bridge = host.bridge()
        bridge["ipam"]["dataDir"] = str(full / "addresses")
        host.configure("net", [bridge])
        with pytest.raises(PluginError, match="No space left on device"):
            await host.networks().set_up(Request(id="c", netns=path))
        assert host.inventory() == set()
        host.tell("mount", "-o", "remount,ro", str(full))
        with pytest.raises(FailedPrecondition, match="Read-only file system"):
            await host.networks(root=full / "root").set_up(Request(id="c", netns=path))
    finally:
        host.tell("umount", str(full))


_DAEMON = """
import asyncio, random, sys
from pathlib import Path
from sampan.network import PortMapping, Request
from sampan.testing.networks import Host

async def one(host, networks, random, number):
    name = f"{sys.argv[2]}-{number}"
    path = await host.namespaces.create(name)
    port = (PortMapping(10000 + number, 80),)
    result = await networks.set_up(Request(id=name, netns=path, ports=port))
    print(name, *(ip.ip for ip in result.ips), flush=True)
    if random.random() < 0.3:
        await networks.tear_down(Request(id=name, netns=path))
        print("gone", name, flush=True)

async def main():
    host = Host(Path(sys.argv[1]))
    networks = host.networks()
    async with asyncio.TaskGroup() as group:
        for number in range(64):
            group.create_task(one(host, networks, random.Random(number), number))
    print("done", flush=True)
    await host.close()

asyncio.run(main())
"""


async def test_addresses_are_unique_under_64_set_ups_and_kills(host: Host) -> None:
    """Several daemons set up 64 containers each, and are killed on the way."""
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    host.configure("net", [host.bridge(), portmap, {"type": "firewall"}], version="1.1.0")
    networks = host.networks()
    held: dict[str, set[str]] = {}

    def start(name: str) -> subprocess.Popen[str]:
        script = _DAEMON.replace("    await host.close()\n", "")
        return subprocess.Popen(
            [sys.executable, "-c", script, str(host.tmp), name],
            stdout=subprocess.PIPE,
            text=True,
        )

    def follow(daemon: subprocess.Popen[str], until: int) -> None:
        assert daemon.stdout
        for count, line in enumerate(daemon.stdout, 1):
            words = line.split()
            if words[0] == "gone":
                held.pop(words[1])
            elif words[0] != "done":
                taken = [name for name, ips in held.items() if ips & set(words[1:])]
                assert not taken, f"{line} are {taken}'s already"
                held[words[0]] = set(words[1:])
            if count == until:
                break
        daemon.send_signal(signal.SIGKILL)
        daemon.communicate(timeout=30)

    loop = asyncio.get_running_loop()
    for turn, until in enumerate((3, 20, 1000)):
        daemon = start(f"d{turn}")
        await loop.run_in_executor(None, follow, daemon, until)
    assert len(held) > 40
    owners: dict[str, Any] = {}
    for path in (host.addresses / "net").glob("10.99.*"):
        content = path.read_bytes()
        assert content.count(b"\r\n") == 1
        owners[path.name] = content.split(b"\r\n")[0].decode()
    for name, ips in held.items():
        assert [owners[ip] for ip in ips if "." in ip] == [name]
    await networks.gc([])
    assert host.inventory() == set()
