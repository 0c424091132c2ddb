"""Started by every engine, imported by none that needs no network."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sampan.network import NETWORK_NAMESPACES, NETWORK_STORE, NETWORKS
from sampan.network.plugins import serves
from sampan.network.registrations import bridge, cni, pinned
from sampan.plugin import Registration, start


async def test_they_start_and_stay_unmade(tmp_path: Path) -> None:
    registrations: list[Registration[Any, Any]] = [bridge, pinned, cni]
    started = {
        one.registration.type.name: one
        async for one in start(
            registrations,
            root=tmp_path / "root",
            state=tmp_path / "state",
            configs={cni.uri: {"conf_dir": str(tmp_path / "net.d"), "default_network": False}},
        )
    }
    assert all(one.ok for one in started.values()), started
    networks = started[NETWORKS.name].value
    status = await networks.status()  # type: ignore[attr-defined]
    assert not status.ready
    namespaces = started[NETWORK_NAMESPACES.name].value
    assert namespaces.path("x").startswith(str(tmp_path / "state"))  # type: ignore[attr-defined]
    store = started[NETWORK_STORE.name].value
    assert await store.list() == []  # type: ignore[attr-defined]
    for one in started.values():
        await one.value.close()  # type: ignore[attr-defined]


def test_importing_them_imports_none_of_it() -> None:
    script = (
        "import sys, sampan.network.registrations;"
        "print([n for n in sys.modules if n.startswith('sampan.network')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['sampan.network', 'sampan.network.registrations']"


@pytest.mark.parametrize(
    ("conf", "ours"),
    [
        ({"type": "bridge"}, True),
        ({"type": "bridge", "macspoofchk": True}, False),
        ({"type": "bridge", "enabledad": True}, False),
        ({"type": "bridge", "vlan": 5}, True),
        ({"type": "bridge", "vlan": 5, "isGateway": True}, False),
        ({"type": "portmap"}, True),
        ({"type": "portmap", "conditionsV4": ["-s", "10.0.0.0/8"]}, False),
        ({"type": "firewall", "backend": "firewalld"}, False),
        ({"type": "firewall", "ingressPolicy": "isolated"}, False),
        ({"type": "tuning"}, True),
        ({"type": "macvlan"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_what_is_built_in(conf: dict[str, Any], ours: bool) -> None:
    assert serves(conf) is ours
