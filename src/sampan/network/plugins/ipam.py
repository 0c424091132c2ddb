"""The plugin that a plugin takes its addresses from: host-local in process, others by exec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sampan.errors import SampanError
from sampan.network.calls import Call
from sampan.network.errors import INTERNAL, PLUGIN_NOT_AVAILABLE, PluginError
from sampan.network.plugins import host_local
from sampan.network.results import at_least, version_of

__all__ = ["ipam_add", "ipam_check", "ipam_collect", "ipam_delete"]

_TIMEOUT_S: Final = 60.0


def ipam_add(call: Call) -> Mapping[str, Any]:
    """Take addresses."""
    if _type(call) == "host-local":
        return host_local.add(call)
    answer = _execute(call, "ADD")
    if answer is None:
        raise PluginError(INTERNAL, f"IPAM plugin {_type(call)} printed no result")
    return answer


def ipam_delete(call: Call) -> None:
    """Give them back."""
    if _type(call) == "host-local":
        host_local.delete(call)
    else:
        _execute(call, "DEL")


def ipam_check(call: Call) -> None:
    """Complain if they are not there any more."""
    if _type(call) == "host-local":
        host_local.check(call)
    else:
        _execute(call, "CHECK")


def ipam_collect(call: Call) -> None:
    """Give back what belongs to attachments that are not valid."""
    if _type(call) == "host-local":
        host_local.collect(call)
    elif at_least(version_of(call.conf), "1.1.0"):
        _execute(call, "GC")


def _type(call: Call) -> str:
    return str(call.conf["ipam"]["type"])


def _execute(call: Call, command: str) -> Mapping[str, Any] | None:
    """Run the plugin; we are in a thread without an event loop, so one is made for it."""
    import asyncio

    from sampan.network import executables

    kind = _type(call)
    try:
        path = executables.find(kind, call.path.split(":"))
        delegated = replace(call, command=command)
        return asyncio.run(executables.execute(path, delegated, timeout_s=_TIMEOUT_S))
    except PluginError:
        raise
    except SampanError as error:
        raise PluginError(PLUGIN_NOT_AVAILABLE, f"IPAM plugin {kind}: {error}") from error
