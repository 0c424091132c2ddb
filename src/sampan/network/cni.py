"""Networks by CNI: which ones, in what order; remembered before ADD, undone when one fails."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

from sampan.concurrency import Limit, shielded, to_thread
from sampan.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SampanError,
)
from sampan.linux.mounts import statfs_type
from sampan.linux.namespaces import NSFS_MAGIC
from sampan.network import Attachment, Request, Result, Status, chain
from sampan.network.arguments import capabilities_of
from sampan.network.cache import Cache, Entry
from sampan.network.configs import NAME, Folder, NetworkConf, parse
from sampan.network.errors import on_disk
from sampan.network.results import from_json, merge

if TYPE_CHECKING:
    from sampan.network.calls import Call

__all__ = ["CniConfig", "CniNetworks", "call_on_disk"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_IFNAME: Final = re.compile(r"(?!\.{1,2}$)[^\s/:\0]{1,15}")
_ARGUMENT: Final = re.compile(r"[^;=\x00-\x1f\x7f]*")
_FILES: Final = Limit("network-files", 4)
_BUILTIN: Final = Limit("network", 8)
_NOT_READY: Final = "NetworkPluginNotReady"


@dataclass(frozen=True, slots=True, kw_only=True)
class CniConfig:
    """Where things are, and what is allowed."""

    root: Path
    """`<root>/network` of the engine: what survives a reboot."""
    conf_dir: Path = Path("/etc/cni/net.d")
    bin_dirs: tuple[str, ...] = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
    cache_dir: Path = Path("/var/lib/cni")
    max_conf_num: int = 1
    """How many networks of `conf_dir` a request gets that names none; 0 is all."""
    builtin: bool = True
    """Serve the types of `network.plugins` in process."""
    default_network: bool = True
    """Make a bridge network where `conf_dir` has none."""
    timeout_s: float = 60.0
    """For each call of an executable."""


class CniNetworks:
    """`Networks` over a folder of configurations."""

    def __init__(self, config: CniConfig) -> None:
        self.config = config
        self._system = Folder(config.conf_dir)
        self._own = Folder(config.root / "networks")
        self._cache = Cache(config.cache_dir, config.root / "attachments")
        self._caller = _Dispatch(config)

    async def set_up(self, request: Request) -> Result:
        """Attach to each network of the request; undo everything if one fails."""
        _check(request)
        if not request.netns:
            raise InvalidArgument(f"network of {request.id}: no network namespace is given")
        networks = await call_on_disk(self.select, request.networks)
        entries = [_entry(request, network, turn) for turn, network in enumerate(networks)]
        await to_thread(_loopback_up, request.netns, limit=_BUILTIN)
        done: list[Attachment] = []
        begun: list[tuple[NetworkConf, Entry]] = []
        try:
            for network, entry in zip(networks, entries, strict=True):
                await self._begin(entry)
                begun.append((network, entry))
                raw = await chain.add(network, entry, self._caller)
                await call_on_disk(self._cache.finish, replace(entry, result=raw))
                done.append(Attachment(network.name, entry.ifname, from_json(raw)))
        except BaseException as error:
            for network, entry in reversed(begun):
                try:
                    await shielded(self._undo_s(network), self._detach(network, entry))
                except SampanError as second:
                    error.add_note(f"undoing failed, too: {second}")
            raise
        merged = merge([one.result for one in done])
        return replace(merged, attachments=tuple(done))

    async def tear_down(self, request: Request) -> None:
        """Detach `request.id` from all it is attached to, as it was attached."""
        _check(request)
        entries = await call_on_disk(self._known, request)
        failed: SampanError | None = None
        for entry in entries:
            try:
                network = self._network_of(entry)
                await self._detach(network, self._present(entry, request.netns))
            except SampanError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def check(self, request: Request) -> None:
        """Ask all plugins whether the attachments of the id are as they were made."""
        _check(request)
        entries = await call_on_disk(self._known, request)
        if not entries:
            raise NotFound(f"{request.id} is attached to no network")
        for entry in reversed(entries):
            network = self._network_of(entry)
            netns = request.netns or entry.netns
            await chain.check(network, replace(entry, netns=netns), self._caller)

    async def gc(self, valid: Collection[str], *, gone_only: bool = False) -> None:
        """Tear down attachments made by us whose id is not in `valid`; let plugins do likewise."""
        keep = frozenset(valid)
        failed: SampanError | None = None

        async def detach(entry: Entry) -> None:
            nonlocal failed
            try:
                async with at_once:
                    await self._detach(self._network_of(entry), self._present(entry, ""))
                log.info("attachment collected: network=%s id=%s", entry.network, entry.id)
            except SampanError as error:
                failed = failed or error

        at_once = asyncio.Semaphore(_BUILTIN.count)
        async with asyncio.TaskGroup() as group:
            for entry in await call_on_disk(self._cache.ours):
                if entry.id not in keep and not (gone_only and _alive(entry.netns)):
                    group.create_task(detach(entry))
        # Plugins may only be asked by somebody who knows all that is attached: a caller that sweeps
        # up after the dead does not speak for other users of the same networks.
        for network in () if gone_only else await call_on_disk(self.all):
            try:
                others = await call_on_disk(self._cache.everyones, network.name)
                mine = await call_on_disk(self._cache.ours, network.name)
                valid_ones = {one.key: one for one in (*others, *mine)}
                await chain.collect(network, tuple(valid_ones.values()), self._caller)
            except SampanError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def status(self, *, plugins: bool = True) -> Status:
        """Return whether the default network could be used now."""
        try:
            chosen, names = await call_on_disk(self._usable)
            for network in chosen if plugins else ():
                await chain.status(network, self._caller)
        except SampanError as error:
            problems = "; ".join(self._system.problems)
            return Status(False, _NOT_READY, f"{error}{'; ' if problems else ''}{problems}")
        return Status(True, networks=names)

    async def close(self) -> None:
        """Close what is kept for later use; networks may be used again all the same."""
        import sys

        if (ruleset := sys.modules.get("sampan.network.plugins.ruleset")) is not None:
            await to_thread(ruleset.drain)

    def all(self) -> Sequence[NetworkConf]:
        """Return every network: those of the CNI folder, then those made by people; blocks."""
        found: dict[str, NetworkConf] = {}
        for one in (*self._system.networks(), *self._own.networks()):
            found.setdefault(one.name, one)
        return tuple(found.values())

    def select(self, names: Sequence[str]) -> Sequence[NetworkConf]:
        """Return the networks named, or the default ones; blocks.

        Raises:
          NotFound: there is no such network, or none at all.
        """
        if names:
            known = {one.name: one for one in self.all()}
            if "sampan" in names and "sampan" not in known and self.config.default_network:
                known["sampan"] = self._make_default()
            for name in names:
                if name not in known:
                    raise NotFound(f"network {name}: neither {self._system.path} has it nor we")
            return [known[name] for name in names]
        found = list(self._system.networks())
        if found:
            return found[: self.config.max_conf_num or None]
        if not self.config.default_network:
            raise NotFound(f"no network is configured in {self._system.path}")
        for network in self._own.networks():
            if network.name == "sampan":
                return [network]
        return [self._make_default()]

    def _usable(self) -> tuple[Sequence[NetworkConf], tuple[str, ...]]:
        """Return the default networks, whose plugins are all there, and the names of all."""
        chosen = self.select(())
        for network in chosen:
            self._caller.find(network)
        return chosen, tuple(dict.fromkeys(one.name for one in (*chosen, *self.all())))

    def _make_default(self) -> NetworkConf:
        from sampan.network.subnets import make_default

        make_default(self.config.root / "networks")
        for network in self._own.networks():
            if network.name == "sampan":
                return network
        raise FailedPrecondition(
            f"the default network in {self.config.root / 'networks'} is unreadable; remove its file"
        )

    async def _begin(self, entry: Entry) -> None:
        """Write the record; what a crash or a reboot left under the same name is cleaned first."""
        if await call_on_disk(self._cache.begin, entry):
            return
        old = await call_on_disk(self._cache.find, entry.network, entry.id, entry.ifname)
        if old is not None and _alive(old.netns):
            raise AlreadyExists(
                f"{entry.id} is attached to network {entry.network} by {entry.ifname} already"
            )
        if old is not None:
            await self._detach(self._network_of(old), self._present(old, ""))
        if not await call_on_disk(self._cache.begin, entry):
            raise AlreadyExists(f"{entry.id} is just being attached to network {entry.network}")

    async def _detach(self, network: NetworkConf, entry: Entry) -> None:
        await chain.delete(network, entry, self._caller)
        await call_on_disk(self._cache.forget, entry)

    def _undo_s(self, network: NetworkConf) -> float:
        return self.config.timeout_s * len(network.plugins) + 10

    def _known(self, request: Request) -> Sequence[Entry]:
        """Return what is attached by us, or else by others on the networks of the request."""
        found = self._cache.attached(request.id)
        if found:
            return found
        try:
            networks = self.select(request.networks)
        except NotFound:
            return ()
        entries = []
        for turn, network in enumerate(networks):
            entry = self._cache.find(network.name, request.id, _ifname(request.ifname, turn))
            if entry is not None:
                entries.append(entry)
        return entries[::-1]

    def _network_of(self, entry: Entry) -> NetworkConf:
        """Return the list of plugins that an entry was made with, or what is there by its name."""
        if entry.config:
            try:
                return parse(entry.config)
            except InvalidArgument as error:
                log.warning("record of an attachment holds no network: %s", error)
        return self.select((entry.network,))[0]

    @staticmethod
    def _present(entry: Entry, netns: str) -> Entry:
        """Return the entry with the namespace that is there now, if any."""
        for path in (netns, entry.netns):
            if path and _alive(path):
                return replace(entry, netns=path)
        return replace(entry, netns="")


class _Dispatch:
    """Serves a call in process where we can, else by an executable."""

    def __init__(self, config: CniConfig) -> None:
        self._config = config
        self.path = ":".join(config.bin_dirs)

    async def __call__(self, call: Call) -> Mapping[str, Any] | None:
        if self._builtin(call.conf):
            from sampan.network.plugins import serve

            return await to_thread(serve, call, limit=_BUILTIN)
        from sampan.network import executables

        path = await to_thread(executables.find, call.type, self._config.bin_dirs, limit=_FILES)
        timeout_s = self._config.timeout_s
        try:
            return await executables.execute(path, call, timeout_s=timeout_s)
        except DeadlineExceeded as error:
            raise DeadlineExceeded(
                f"CNI plugin {call.type} did not answer {call.command} for "
                f"{call.container_id or 'the node'} within {timeout_s:g} s and was killed"
            ) from error

    def find(self, network: NetworkConf) -> None:
        """Raise NotFound if a plugin of the network is neither built in nor executable."""
        from sampan.network.executables import find

        for plugin in network.plugins:
            if not self._builtin(plugin.raw):
                find(plugin.type, self._config.bin_dirs)

    def _builtin(self, conf: Mapping[str, Any]) -> bool:
        from sampan.network.plugins import serves

        return self._config.builtin and serves(conf)


async def call_on_disk(fn: Callable[[*Ts], T], *args: *Ts) -> T:
    """Call something that reads and writes our files, in a thread."""
    with on_disk("files of networks"):
        return await to_thread(fn, *args, limit=_FILES)


def _check(request: Request) -> None:
    if not NAME.fullmatch(request.id):
        raise InvalidArgument(f"container id {request.id!r}: only letters, digits and _.- please")
    if not _IFNAME.fullmatch(request.ifname):
        raise InvalidArgument(f"interface name {request.ifname!r}: 1 to 15 bytes, no / and no :")
    for key, value in request.args.items():
        # One value must not smuggle in another argument.
        if not _ARGUMENT.fullmatch(key) or not _ARGUMENT.fullmatch(value):
            raise InvalidArgument(f"CNI_ARGS of {request.id}: {key}={value!r} holds ; = or worse")


def _entry(request: Request, network: NetworkConf, turn: int) -> Entry:
    return Entry(
        network=network.name,
        id=request.id,
        ifname=_ifname(request.ifname, turn),
        netns=request.netns,
        config=network.raw,
        args=(("IgnoreUnknown", "1"), *((k, v) for k, v in request.args.items())),
        capabilities=capabilities_of(request, first=turn == 0),
    )


def _ifname(first: str, turn: int) -> str:
    """Return the name of interface `turn`, counted on from the first: eth0, eth1, ..."""
    if turn == 0:
        return first
    stem = first.rstrip("0123456789")
    return f"{stem}{int(first[len(stem) :] or 0) + turn}"


def _alive(netns: str) -> bool:
    try:
        return bool(netns) and statfs_type(netns) == NSFS_MAGIC
    except OSError:
        return False


def _loopback_up(netns: str) -> None:
    from sampan.network.plugins.loopback import switch_on

    try:
        switch_on(netns)
    except FileNotFoundError as error:
        raise NotFound(f"network namespace {netns}") from error
    except OSError as error:
        raise InvalidArgument(
            f"network namespace {netns} cannot be entered: {os.strerror(error.errno or 0)}"
        ) from error
