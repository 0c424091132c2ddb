"""The manager: plans, makes, records and undoes activations."""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sampan import context
from sampan.concurrency import Completed, Limit, run, shielded, to_thread
from sampan.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SampanError,
    Unimplemented,
)
from sampan.model import filters, identifiers
from sampan.model.mounts import Mount
from sampan.runtime.mounting import Activation, ActiveMount
from sampan.runtime.mounting.kernel import mount_at, unmount_at
from sampan.runtime.mounting.plan import Plan, planned
from sampan.runtime.mounting.templates import filled
from sampan.runtime.mounting.transforms import make_file_system, make_folders

__all__ = ["LocalMounts"]

log = logging.getLogger(__name__)

_MOUNTS: Final = Limit("mounts", 4)
_RECORD: Final = "record.json"
_UNDO_S: Final = 30.0
_MKFS_S: Final = 60.0
_MOUNTS_MAX: Final = 255


class LocalMounts:
    """See `mounting.MountManager`. Its folder belongs to one process."""

    def __init__(self, folder: Path, roots: Sequence[Path]) -> None:
        """Keep activations in `folder`; file systems and folders are made below `roots` alone."""
        self._folder = folder
        self._roots = (folder, *roots)
        self._locks: dict[Path, asyncio.Lock] = {}

    async def recover(self) -> None:
        """Undo what a process that died left half made."""
        await to_thread(self._recover, limit=_MOUNTS)

    def _recover(self) -> None:
        if not self._folder.is_dir():
            return
        for home in self._folder.iterdir():
            if not (home / _RECORD).exists():
                try:
                    _undo(home)
                except (SampanError, OSError) as err:
                    log.warning("mounts half made are left behind: folder=%s: %s", home, err)

    async def activate(
        self,
        name: str,
        mounts: Sequence[Mount],
        *,
        labels: Mapping[str, str] | None = None,
        temporary: bool = False,
    ) -> Activation:
        """See `MountManager.activate`."""
        home = self._home(name)
        if len(mounts) > _MOUNTS_MAX:
            raise InvalidArgument(f"activation {name!r}: {_MOUNTS_MAX} mounts are the most")
        plan = planned(mounts, temporary=temporary)
        if not plan.needed:
            raise Unimplemented("no mount needs the mount manager: not implemented")
        async with self._locked(home):
            if await to_thread((home / _RECORD).exists):
                raise AlreadyExists(f'mount "{name}": already exists')
            work = _Work(home, name, dict(labels or {}), self._roots)
            try:
                return await to_thread(work.make, list(mounts), plan, temporary, limit=_MOUNTS)
            except BaseException:
                await shielded(_UNDO_S, to_thread(_undo, home, limit=_MOUNTS))
                raise

    async def deactivate(self, name: str) -> None:
        """See `MountManager.deactivate`."""
        home = self._home(name)
        async with self._locked(home):
            await to_thread(_read, home, name)
            await to_thread(_undo, home, limit=_MOUNTS)

    async def info(self, name: str) -> Activation:
        """See `MountManager.info`."""
        return await to_thread(_read, self._home(name), name)

    async def update(self, activation: Activation, fields: Sequence[str] = ()) -> Activation:
        """See `MountManager.update`."""
        home = self._home(activation.name)
        async with self._locked(home):
            old = await to_thread(_read, home, activation.name)
            labels = dict(old.labels)
            for field in fields or ("labels",):
                head, _, key = field.partition(".")
                if head != "labels":
                    raise InvalidArgument(f'cannot update field "{field}" of an activation')
                if not key:
                    labels = dict(activation.labels)
                elif key in activation.labels:
                    labels[key] = activation.labels[key]
                else:
                    labels.pop(key, None)
            new = replace(old, labels=labels)
            await to_thread(_write, home, new)
            return new

    async def list(self, *texts: str) -> builtins.list[Activation]:
        """See `MountManager.list`."""
        wanted = filters.parse_all(texts)
        found = await to_thread(self._all, _namespace())
        return [one for one in found if wanted.match(one)]

    def _all(self, namespace: str) -> builtins.list[Activation]:
        found = []
        for record in sorted(self._folder.glob(f"*/{_RECORD}")):
            try:
                values = json.loads(record.read_bytes())
            except FileNotFoundError:
                continue
            if values["namespace"] == namespace:
                found.append(_activation(values))
        return sorted(found, key=lambda one: one.name)

    def _home(self, name: str) -> Path:
        if not name:
            raise InvalidArgument("activation has no name")
        text = f"{_namespace()}\0{name}".encode()
        return self._folder / hashlib.sha256(text).hexdigest()[:32]

    @asynccontextmanager
    async def _locked(self, home: Path) -> Any:
        lock = self._locks.setdefault(home, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._locks.pop(home, None)


class _Work:
    """One activation on its way; blocking."""

    def __init__(
        self, home: Path, name: str, labels: dict[str, str], roots: Sequence[Path]
    ) -> None:
        self._home = home
        self._name = name
        self._labels = labels
        self._roots = roots
        self._loop = asyncio.get_running_loop()

    def _run(self, argv: Sequence[str], fd: int) -> Completed:
        """Run a program from our thread: the loop is who may start and wait for one."""
        started = run(argv, pass_fds=(fd,), timeout_s=_MKFS_S)
        return asyncio.run_coroutine_threadsafe(started, self._loop).result()

    def make(self, mounts: list[Mount], plan: Plan, temporary: bool) -> Activation:
        _undo(self._home)
        self._home.mkdir(mode=0o700, parents=True)
        active: list[ActiveMount] = []
        for at in range(plan.ours):
            mount = self._transformed(mounts[at], plan.chains[at], active)
            # Names in the order of unmounting: what dies here is undone by the folder alone.
            place = self._home / str(plan.ours - at)
            mount_at(mount, place)
            active.append(ActiveMount(mount, str(place), time.time_ns()))
        system = mounts[plan.ours :]
        if system:
            system[0] = self._transformed(system[0], plan.chains[plan.ours], active)
        if temporary and active:
            system.append(Mount("bind", active[-1].mount_point, "", ("rbind",)))
        made = Activation(self._name, active, system, self._labels)
        _write(self._home, made)
        return made

    def _transformed(
        self, mount: Mount, chain: Sequence[str], active: Sequence[ActiveMount]
    ) -> Mount:
        for step in chain:
            mount = replace(mount, type=mount.type.removeprefix(f"{step}/"))
            if step == "format":
                mount = filled(mount, active)
            elif step == "mkdir":
                mount = make_folders(mount, self._roots)
            else:
                mount = make_file_system(mount, self._roots, self._run)
        return mount


def _undo(home: Path) -> None:
    """Unmount everything in `home` and remove it; what is not there is fine."""
    if not home.is_dir():
        return
    places = [entry for entry in home.iterdir() if entry.name.isdigit()]
    for place in sorted(places, key=lambda one: int(one.name)):
        unmount_at(place)
    # Not rmtree: below a place that is still mounted lies somebody's file system.
    for name in (_RECORD, f".{_RECORD}"):
        (home / name).unlink(missing_ok=True)
    try:
        home.rmdir()
    except OSError as err:
        raise FailedPrecondition(f"{home} cannot be removed: {err.strerror}") from err


def _read(home: Path, name: str) -> Activation:
    try:
        return _activation(json.loads((home / _RECORD).read_bytes()))
    except FileNotFoundError:
        raise NotFound(f'mount "{name}": not found') from None


def _write(home: Path, made: Activation) -> None:
    values = {
        "version": 1,
        "namespace": _namespace(),
        "name": made.name,
        "labels": dict(made.labels),
        "active": [
            {"mount": _mount(one.mount), "at": one.mount_point, "when_ns": one.mounted_at_ns}
            for one in made.active
        ],
        "system": [_mount(one) for one in made.system],
    }
    temporary = home / f".{_RECORD}"
    temporary.write_text(json.dumps(values), "utf-8")
    os.replace(temporary, home / _RECORD)


def _mount(mount: Mount) -> list[Any]:
    return [mount.type, mount.source, mount.target, list(mount.options)]


def _mount_of(values: Sequence[Any]) -> Mount:
    kind, source, target, options = values
    return Mount(kind, source, target, tuple(options))


def _activation(values: Mapping[str, Any]) -> Activation:
    return Activation(
        values["name"],
        [
            ActiveMount(_mount_of(one["mount"]), one["at"], one["when_ns"])
            for one in values["active"]
        ],
        [_mount_of(one) for one in values["system"]],
        values["labels"],
    )


def _namespace() -> str:
    return identifiers.check(context.namespace(), "namespace")
