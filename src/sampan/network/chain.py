"""One network, called plugin by plugin: what libcni does with a list.

ADD     p1 → p2 → p3      each is given what the one before answered as prevResult
CHECK   p1 → p2 → p3      each is given the last result of ADD
DEL     p3 → p2 → p1      likewise; goes on after an error and raises the first one
GC STATUS                 to each, from version 1.1.0 on
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sampan.errors import SampanError, Unimplemented
from sampan.network.cache import Entry
from sampan.network.calls import Call
from sampan.network.configs import NetworkConf, PluginConf
from sampan.network.errors import DECODING_FAILURE, PluginError
from sampan.network.results import at_least, from_json, to_json, version_of

__all__ = ["Caller", "add", "check", "collect", "delete", "status"]

log = logging.getLogger(__name__)


class Caller(Protocol):
    """Serves calls of plugins, in process or by exec, within a deadline of its own."""

    @property
    def path(self) -> str:
        """CNI_PATH."""
        ...

    async def __call__(self, call: Call) -> Mapping[str, Any] | None: ...


async def add(network: NetworkConf, entry: Entry, caller: Caller) -> Mapping[str, Any]:
    """Attach; return the last plugin's result in the network's version. Undoes nothing."""
    result: Mapping[str, Any] | None = None
    for plugin in network.plugins:
        answer = await caller(_call("ADD", network, plugin, entry, caller, result))
        if answer is None:
            raise PluginError(DECODING_FAILURE, "ADD printed no result", plugin=plugin.type)
        result = _in_version(answer, network.version, plugin.type)
    assert result is not None  # noqa: S101  a network has at least one plugin
    return result


async def check(network: NetworkConf, entry: Entry, caller: Caller) -> None:
    """Ask each plugin; the first that finds something amiss raises."""
    if network.disable_check:
        return
    if not at_least(network.version, "0.4.0"):
        raise Unimplemented(
            f"network {network.name} is of version {network.version}: CHECK came with 0.4.0"
        )
    result = _previous(network, entry)
    for plugin in network.plugins:
        await caller(_call("CHECK", network, plugin, entry, caller, result))


async def delete(network: NetworkConf, entry: Entry, caller: Caller) -> None:
    """Detach: every plugin has its turn, the last one first; then raise the first error."""
    result = _previous(network, entry) if at_least(network.version, "0.4.0") else None
    failed: SampanError | None = None
    for plugin in reversed(network.plugins):
        try:
            await caller(_call("DEL", network, plugin, entry, caller, result))
        except SampanError as error:
            log.warning("plugin failed at DEL: network=%s id=%s %s", network.name, entry.id, error)
            if failed is None:
                failed = error
            else:
                failed.add_note(f"and then: {error}")
    if failed is not None:
        raise failed


async def collect(network: NetworkConf, valid: Sequence[Entry], caller: Caller) -> None:
    """Tell each plugin which attachments are valid, so that it removes what belongs to others."""
    if network.disable_gc or not at_least(network.version, "1.1.0"):
        return
    attachments = [{"containerID": one.id, "ifname": one.ifname} for one in valid]
    failed: SampanError | None = None
    for plugin in network.plugins:
        conf = {
            **_conf(network, plugin),
            "cni.dev/valid-attachments": attachments,
            "cni.dev/attachments": attachments,
        }
        try:
            await caller(Call(command="GC", conf=conf, path=caller.path))
        except SampanError as error:
            failed = failed or error
    if failed is not None:
        raise failed


async def status(network: NetworkConf, caller: Caller) -> None:
    """Ask each plugin whether it could serve ADD now; one that could not raises."""
    if not at_least(network.version, "1.1.0"):
        return
    for plugin in network.plugins:
        conf = _conf(network, plugin)
        await caller(Call(command="STATUS", conf=conf, path=caller.path))


def _conf(network: NetworkConf, plugin: PluginConf) -> dict[str, Any]:
    return {**plugin.raw, "name": network.name, "cniVersion": network.version}


def _call(
    command: str,
    network: NetworkConf,
    plugin: PluginConf,
    entry: Entry,
    caller: Caller,
    previous: Mapping[str, Any] | None,
) -> Call:
    conf = _conf(network, plugin)
    wanted = plugin.capabilities
    runtime = {name: value for name, value in entry.capabilities.items() if name in wanted}
    if runtime:
        conf["runtimeConfig"] = runtime
    if previous is not None:
        conf["prevResult"] = previous
    return Call(
        command=command,
        conf=conf,
        container_id=entry.id,
        netns=entry.netns,
        ifname=entry.ifname,
        args=";".join(f"{key}={value}" for key, value in entry.args),
        path=caller.path,
    )


def _previous(network: NetworkConf, entry: Entry) -> Mapping[str, Any] | None:
    if entry.result is None:
        return None
    return _in_version(entry.result, network.version, network.name)


def _in_version(answer: Mapping[str, Any], version: str, plugin: str) -> Mapping[str, Any]:
    """Return a result in the network's version, checked; as it came, if it is of that already."""
    try:
        value = from_json(answer, version)
    except PluginError as error:
        raise error.named(plugin) from error
    if version_of(answer, version) == version:
        return {"cniVersion": version, **answer}
    return to_json(value, version)
