"""A host for tests of networks: a network namespace of the test's own, with all its threads in it.

    host = Host(tmp_path, "originals")
    host.configure("net", [host.bridge()])
    path = await host.namespaces.create("c1")
    await host.networks().set_up(Request(id="c1", netns=path))
    host.inventory()      # links, addresses, routes, rules, queueing, files: nothing may be left

`private_host` moves the calling thread, and with it every thread of ours that is made meanwhile.
"""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from sampan.concurrency import Limit
from sampan.linux import namespaces as ns
from sampan.network import CniConfig, CniNetworks, PinnedNamespaces
from sampan.network.inside import inside
from sampan.network.plugins import ruleset

__all__ = ["ORIGINALS", "SERVED_BY", "Host", "need_originals", "private_host"]

ORIGINALS: Final = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins are."""

SERVED_BY: Final = ("originals", "built in")

_SHARED: Final = re.compile(
    r"-A (CNI-HOSTPORT-(MASQ|SETMARK)|CNI-ISOLATION-\S+) |"
    r"-j (CNI-HOSTPORT-(MASQ|DNAT)|CNI-ISOLATION-\S+|CNI-FORWARD)$|CNI firewall plugin admin"
)
"""Rules that the first container brings and all others use."""
_VOLATILE: Final = re.compile(r"\[\d+:\d+\]|packets \d+ bytes \d+")


def need_originals() -> None:
    """Skip the running test unless Debian's plugins are installed."""
    if not (ORIGINALS / "bridge").exists():
        pytest.skip("needs containernetworking-plugins")


@contextmanager
def private_host() -> Iterator[None]:
    """Work in a new network namespace; pools of threads are emptied before and after."""
    _empty_pools()
    before = ns.open_namespace("thread-self", "net")
    ns.unshare(ns.CLONE_NEWNET)
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        _empty_pools()
        ns.setns(before, ns.CLONE_NEWNET)
        os.close(before)


def _empty_pools() -> None:
    for one in gc.get_objects():
        if type(one) is Limit:
            one.close()


class Host:
    """Folders of a host's networks below `tmp`, and who serves the plugins."""

    def __init__(self, tmp: Path, served_by: str = "built in") -> None:
        """Take a folder and `originals`, `built in` or `ours by exec`."""
        self.tmp = tmp
        self.served_by = served_by
        self.conf_dir = tmp / "net.d"
        self.conf_dir.mkdir(parents=True, exist_ok=True)
        self.addresses = tmp / "addresses"
        self.namespaces = PinnedNamespaces(tmp / "netns")
        self._made: list[CniNetworks] = []

    def networks(self, served_by: str = "", **more: Any) -> CniNetworks:
        """Return networks of this host, served by someone else if given."""
        who = served_by or self.served_by
        folder = ORIGINALS if who == "originals" else self._executables()
        config: dict[str, Any] = {
            "root": self.tmp / "root",
            "conf_dir": self.conf_dir,
            "cache_dir": self.tmp / "cache",
            "bin_dirs": (str(folder), str(ORIGINALS)),
            "builtin": who == "built in",
            "timeout_s": 30.0,
        }
        made = CniNetworks(CniConfig(**(config | more)))
        self._made.append(made)
        return made

    async def close(self) -> None:
        """Remove the namespaces, and wait for what was put off."""
        for key in await self.namespaces.list():
            await self.namespaces.remove(key)
        await self.namespaces.close()
        for one in self._made:
            await one.close()
        ruleset.drain()

    def _executables(self) -> Path:
        """Return a folder of our plugins as executables."""
        from sampan.network.plugins import TYPES

        folder = self.tmp / "bin"
        if not folder.exists():
            folder.mkdir()
            for name in TYPES:
                path = folder / name
                path.write_text(
                    f'#!/bin/sh\nexec {sys.executable} -m sampan.network.plugins {name} "$@"\n'
                )
                path.chmod(0o755)
        return folder

    def plugin(self, name: str, script: str) -> None:
        """Make a plugin of a shell script."""
        path = self._executables() / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def configure(
        self, name: str, plugins: Sequence[Mapping[str, Any]], *, version: str = "1.0.0"
    ) -> Path:
        """Write a list of plugins."""
        path = self.conf_dir / f"{name}.conflist"
        path.write_text(json.dumps({"cniVersion": version, "name": name, "plugins": list(plugins)}))
        return path

    def bridge(self, *, ipv6: bool = True, **more: Any) -> dict[str, Any]:
        """Return a bridge of two families."""
        ranges = [[{"subnet": "10.99.0.0/16"}]]
        routes = [{"dst": "0.0.0.0/0"}]
        if ipv6:
            ranges.append([{"subnet": "fd00:99::/64"}])
            routes.append({"dst": "::/0"})
        ipam = {
            "type": "host-local",
            "ranges": ranges,
            "routes": routes,
            "dataDir": str(self.addresses),
        }
        return {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "ipam": ipam,
            **more,
        }

    def tell(self, *argv: str, netns: str = "") -> str:
        """Run a tool on the host or inside a namespace, and return what it prints."""

        def run() -> str:
            done = subprocess.run(argv, capture_output=True, text=True, check=True)
            return done.stdout

        return inside(netns, run) if netns else run()

    def rules(self) -> list[str]:
        """Return all rules of iptables and ip6tables, without counters, sorted by chain."""
        found = []
        for tool in ("iptables-save", "ip6tables-save"):
            table = ""
            for line in self.tell(tool).splitlines():
                if line.startswith("*"):
                    table = line[1:]
                elif line.startswith("-A") or (line.startswith(":") and " - " in line):
                    found.append(f"{tool[: -len('-save')]} {table} {_VOLATILE.sub('', line)}")
        return found

    def inventory(self) -> set[str]:
        """Return what there is on the host and in its folders; bridges and empty chains stay."""
        found = {
            f"rule {one}"
            for one in self.rules()
            if " -A " in one and ("CNI-DN-" in one or not _SHARED.search(one))
        }
        found |= {
            f"nft {line.strip()}"
            for line in self.tell("nft", "list", "ruleset").splitlines()
            if " comment " in line
        }
        for line in self.tell("ip", "-br", "link").splitlines():
            name = line.split()[0].split("@")[0]
            if name.startswith(("veth", "bwp", "ifb")):
                found.add(f"link {name}")
        for folder in ("addresses", "cache", "root/attachments", "root/hosts", "tuning"):
            found |= {
                f"file {path.relative_to(self.tmp)}"
                for path in (self.tmp / folder).rglob("*")
                if path.is_file() and path.name != "lock" and "last_reserved" not in path.name
                if path.name != ".lock"
            }
        return found
