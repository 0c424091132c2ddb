"""CNI plugins in Python: the usual ones, by netlink, without a process.

    serve(Call(command="ADD", conf={"type": "bridge", ...}, ...))      a result as JSON, or None

They take the configuration of the originals (containernetworking-plugins), answer as those do, and
leave the same traces: interfaces, files of host-local, rules of iptables by the same names. So an
original can DEL what ours has added, and the other way round; the same tests run on both.

Each module has `add(call)`, `delete(call)`, `check(call)`, and where there is something to do
`collect(call)` (GC) and `status(call)`. All block: they run in threads. `python -m
sampan.network.plugins TYPE` and the scripts `sampan-cni-TYPE` are the same as executables.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from sampan.network.calls import Call
from sampan.network.errors import (
    INCOMPATIBLE_VERSION,
    INVALID_CONFIG,
    INVALID_ENVIRONMENT,
    IO_FAILURE,
    PluginError,
)
from sampan.network.results import VERSIONS, at_least, version_of

__all__ = ["TYPES", "serve", "serves"]

TYPES: Final = {
    "bandwidth": "bandwidth",
    "bridge": "bridge",
    "firewall": "firewall",
    "host-local": "host_local",
    "loopback": "loopback",
    "portmap": "portmap",
    "tuning": "tuning",
}
"""Types that are built in, and their modules."""

_SINCE: Final = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}


def serves(conf: Mapping[str, Any]) -> bool:
    """Return whether a configuration asks for nothing but what is built in.

    Left to the originals: filters against forged hardware addresses (macspoofchk), detection of
    duplicate addresses (enabledad), gateways inside a VLAN, conditions in the words of iptables,
    firewalld, and rules beside those of a legacy iptables.
    """
    kind = conf.get("type")
    if kind not in TYPES:
        return False
    if kind == "bridge":
        gateway = conf.get("isGateway") or conf.get("isDefaultGateway")
        tagged = conf.get("vlan") or conf.get("vlanTrunk")
        return not (conf.get("macspoofchk") or conf.get("enabledad") or (tagged and gateway))
    if kind == "portmap":
        return not (conf.get("conditionsV4") or conf.get("conditionsV6"))
    if kind == "firewall":
        from sampan.network.plugins.iptables import iptables_is_legacy

        if conf.get("backend") not in (None, "", "iptables"):
            return False
        if conf.get("ingressPolicy") not in (None, "", "open", "same-bridge"):
            return False
        return not iptables_is_legacy()
    return True


def serve(call: Call) -> Mapping[str, Any] | None:
    """Do what a call asks, in this thread, and return what the plugin would print.

    Raises:
      PluginError: it is refused or has failed; names the plugin.
    """
    try:
        version = version_of(call.conf)
        if call.command == "VERSION":
            return {"cniVersion": version, "supportedVersions": list(VERSIONS)}
        _check(call, version)
        module = import_module(f"{__name__}.{TYPES[call.type]}")
        return _function(module, call)(call)
    except PluginError as error:
        raise error.named(call.type) from error
    except OSError as error:
        what = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        raise PluginError(
            IO_FAILURE, f"{call.command} of {call.container_id}: {what}{where}", plugin=call.type
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PluginError(
            INVALID_CONFIG, f"configuration is malformed: {error!r}", plugin=call.type
        ) from error


def _function(module: ModuleType, call: Call) -> Callable[[Call], Mapping[str, Any] | None]:
    names = {"ADD": "add", "DEL": "delete", "CHECK": "check", "GC": "collect", "STATUS": "status"}
    name = names.get(call.command)
    if name is None:
        raise PluginError(INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {call.command}")
    function: Callable[[Call], Mapping[str, Any] | None] = getattr(module, name, _nothing)
    return function


def _nothing(call: Call) -> None:
    """GC and STATUS of plugins that keep nothing."""


def _check(call: Call, version: str) -> None:
    if version not in VERSIONS:
        raise PluginError(
            INCOMPATIBLE_VERSION,
            "incompatible CNI versions",
            f"config is {version!r}, plugin supports {list(VERSIONS)}",
        )
    since = _SINCE.get(call.command)
    if since is not None and not at_least(version, since):
        raise PluginError(
            INCOMPATIBLE_VERSION, f"config version {version} does not allow {call.command}"
        )
    if call.command in ("ADD", "DEL", "CHECK"):
        missing = [
            name
            for name, value in (
                ("CNI_CONTAINERID", call.container_id),
                ("CNI_NETNS", call.netns or call.command == "DEL"),
                ("CNI_IFNAME", call.ifname),
            )
            if not value
        ]
        if missing:
            raise PluginError(
                INVALID_ENVIRONMENT, "required env variables " + ",".join(missing) + " missing"
            )
        if call.command != "DEL" and not os.path.exists(call.netns):
            raise PluginError(INVALID_ENVIRONMENT, f"no network namespace at {call.netns!r}")
