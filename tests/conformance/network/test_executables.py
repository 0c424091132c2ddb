"""The built-in plugins as programs, which anyone may call: `sampan-cni-TYPE`."""

from typing import Any

import pytest

from sampan.network import PluginError, Request
from sampan.testing import requires
from sampan.testing.networks import Host

from .test_plugins import PORTS, _plugins

pytestmark = requires("root", "iptables", "ip")


async def test_executables_of_ours(own_network: None, tmp_path: Any) -> None:
    """The same plugins as programs, which anyone may call."""
    host = Host(tmp_path, "ours by exec")
    host.configure("net", _plugins(host, {}))
    path = await host.namespaces.create("c")
    networks = host.networks()
    request = Request(id="c", netns=path, ports=PORTS[:2])
    result = await networks.set_up(request)
    assert result.ips[0].address == "10.99.0.2/16"
    await networks.check(request)
    with pytest.raises(PluginError, match=r"already exists|has been allocated"):
        await host.networks().set_up(Request(id="d", netns=path))
    await networks.tear_down(request)
    assert host.inventory() == set()
    await host.namespaces.remove("c")
    await host.close()
