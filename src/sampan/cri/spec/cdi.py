"""CDI: devices by the names that vendors give them, such as `nvidia.com/gpu=0`.

A file in one of the CDI folders describes devices of a kind and what each needs of a container:
nodes, mounts, environment, hooks. Later folders win; within one folder a device may stand once.

Source: CDI specification 1.0.0, cncf-tags/container-device-interface SPEC.md.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from sampan.errors import FailedPrecondition, InvalidArgument
from sampan.model.runtime.hooks import Hook, Hooks
from sampan.model.runtime.linux import Device
from sampan.model.runtime.process import Process
from sampan.model.runtime.resources import DeviceRule, Resources
from sampan.model.runtime.spec import Mount, Spec

__all__ = ["ANNOTATION_PREFIX", "injected", "names_in"]

ANNOTATION_PREFIX: Final = "cdi.k8s.io/"
_NAME: Final = re.compile(
    r"(?P<kind>[a-zA-Z0-9][\w.-]*/[a-zA-Z][\w.-]*)=(?P<device>[a-zA-Z0-9][\w.:-]*)", re.ASCII
)
_FILE_MAX: Final = 8 << 20
_HOOKS: Final = {
    "prestart": "prestart",
    "createRuntime": "create_runtime",
    "createContainer": "create_container",
    "startContainer": "start_container",
    "poststart": "poststart",
    "poststop": "poststop",
}

Json = dict[str, Any]


def names_in(devices: Iterable[str], annotations: Mapping[str, str]) -> list[str]:
    """Return the devices that are asked for, each once: by the request, and by annotations."""
    found = list(devices)
    for key, value in annotations.items():
        if key.startswith(ANNOTATION_PREFIX):
            found += [one.strip() for one in value.split(",") if one.strip()]
    return list(dict.fromkeys(found))


def injected(spec: Spec, names: Sequence[str], folders: Sequence[str]) -> Spec:
    """Return the spec with these devices.

    Args:
      spec: As it is without them.
      names: `vendor/class=device` each.
      folders: Where vendors put their files, those that win last.

    Raises:
      InvalidArgument: a name is no name of a device.
      FailedPrecondition: there is no such device, or its file is wrong.
    """
    if not names:
        return spec
    known = _devices(folders)
    edits: list[Json] = []
    files = set()
    for name in names:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"CDI device {name!r} is not vendor/class=device")
        if name not in known:
            raise FailedPrecondition(
                f"CDI device {name!r} is unresolvable: no file in {', '.join(folders)} has it"
            )
        path, common, own = known[name]
        if path not in files:
            files.add(path)
            edits.append(common)
        edits.append(own)
    for one in edits:
        spec = _edited(spec, one)
    return spec


def _devices(folders: Sequence[str]) -> dict[str, tuple[Path, Json, Json]]:
    found: dict[str, tuple[Path, Json, Json]] = {}
    for folder in folders:
        here: dict[str, tuple[Path, Json, Json]] = {}
        for path in _files(Path(folder)):
            document = _load(path)
            kind, common = str(document.get("kind", "")), document.get("containerEdits") or {}
            for device in document.get("devices") or ():
                name = f"{kind}={device.get('name', '')}"
                if name in here:
                    raise FailedPrecondition(
                        f"CDI device {name!r} is in {here[name][0]} and in {path}: remove one"
                    )
                here[name] = (path, common, device.get("containerEdits") or {})
        found.update(here)
    return found


def _files(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [folder / name for name in names if name.endswith((".json", ".yaml", ".yml"))]


def _load(path: Path) -> Json:
    try:
        data = path.read_bytes()
        if len(data) > _FILE_MAX:
            raise FailedPrecondition(f"CDI file {path} is larger than {_FILE_MAX} bytes")
        values = json.loads(data) if path.suffix == ".json" else _yaml(path, data)
    except (OSError, ValueError) as err:
        raise FailedPrecondition(f"CDI file {path} cannot be read: {err}") from err
    if not isinstance(values, dict) or not values.get("cdiVersion"):
        raise FailedPrecondition(f"CDI file {path} is no CDI document: cdiVersion is missing")
    return values


def _yaml(path: Path, data: bytes) -> object:
    try:
        yaml: Any = import_module("yaml")
    except ImportError:
        raise FailedPrecondition(
            f"CDI file {path} is YAML, for which the package PyYAML is not installed"
        ) from None
    try:
        return yaml.safe_load(data)
    except yaml.YAMLError as err:
        raise ValueError(str(err)) from err


def _edited(spec: Spec, edits: Json) -> Spec:
    process, linux = spec.process, spec.linux
    assert process is not None  # noqa: S101
    assert linux is not None  # noqa: S101
    nodes, rules = list(linux.devices), []
    for wanted in edits.get("deviceNodes") or ():
        node, rule = _node(wanted)
        nodes = [one for one in nodes if one.path != node.path] + [node]
        rules.append(rule)
    resources = linux.resources or Resources()
    resources = resources.replace(devices=(*resources.devices, *rules))
    mounts = list(spec.mounts)
    for one in edits.get("mounts") or ():
        mount = Mount(
            destination=one["containerPath"],
            type=one.get("type") or "bind",
            source=one["hostPath"],
            options=tuple(one.get("options") or ("rbind", "rprivate", "ro")),
        )
        mounts = [other for other in mounts if other.destination != mount.destination] + [mount]
    return spec.replace(
        process=_process(process, edits),
        linux=linux.replace(devices=tuple(nodes), resources=resources),
        mounts=tuple(mounts),
        hooks=_hooks(spec.hooks, edits.get("hooks") or ()),
    )


def _process(process: Process, edits: Json) -> Process:
    values = dict(pair.partition("=")[::2] for pair in process.env)
    for pair in edits.get("env") or ():
        name, equals, value = str(pair).partition("=")
        if not name or not equals:
            raise FailedPrecondition(f"CDI: environment variable {pair!r} is not NAME=VALUE")
        values[name] = value
    groups = process.user.additional_gids
    more = tuple(gid for gid in edits.get("additionalGids") or () if gid and gid not in groups)
    return process.replace(
        env=tuple(f"{name}={value}" for name, value in values.items()),
        user=process.user.replace(additional_gids=(*groups, *more)),
    )


def _node(wanted: Json) -> tuple[Device, DeviceRule]:
    path = wanted["path"]
    source = wanted.get("hostPath") or path
    kind, major, minor = wanted.get("type"), wanted.get("major"), wanted.get("minor")
    mode, uid, gid = wanted.get("fileMode"), wanted.get("uid"), wanted.get("gid")
    if not kind or (major is None and kind != "p"):
        try:
            status = os.stat(source)
        except OSError as err:
            raise FailedPrecondition(f"CDI device node {source}: {err.strerror}") from err
        if not stat.S_ISCHR(status.st_mode) and not stat.S_ISBLK(status.st_mode):
            raise FailedPrecondition(f"CDI device node {source} is no device")
        kind = "c" if stat.S_ISCHR(status.st_mode) else "b"
        major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        mode = stat.S_IMODE(status.st_mode) if mode is None else mode
        uid = status.st_uid if uid is None else uid
        gid = status.st_gid if gid is None else gid
    device = Device(
        path=path, type=kind, major=major or 0, minor=minor or 0, file_mode=mode, uid=uid, gid=gid
    )
    access = wanted.get("permissions") or "rwm"
    return device, DeviceRule(allow=True, type=kind, major=major, minor=minor, access=access)


def _hooks(hooks: Hooks | None, wanted: Iterable[Json]) -> Hooks | None:
    for one in wanted:
        name = _HOOKS.get(one.get("hookName", ""))
        if name is None:
            raise FailedPrecondition(f"CDI: there is no hook {one.get('hookName')!r}")
        hook = Hook(
            path=one["path"],
            args=tuple(one.get("args") or ()),
            env=tuple(one.get("env") or ()),
            timeout=one.get("timeout"),
        )
        hooks = hooks or Hooks()
        hooks = hooks.replace(**{name: (*getattr(hooks, name), hook)})
    return hooks
