"""Containerd's configuration from version 2 to 3 to 4, one file's tables at a time.

    2 → 3   io.containerd.grpc.v1.cri  is split in three: images, runtime, streaming server
            the cgroups monitor and the restart monitor get new names
    3 → 4   [grpc] [ttrpc] [metrics] and the socket of [debug] become plugins of type server

What a file does not say stays unsaid, so that migrating twice changes nothing.

Source: containerd docs/containerd-2.0.md (version 3), docs/man/containerd-config.toml.5.md (4).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from sampan.engine import cri, schema

__all__ = ["LATEST", "migrated"]

LATEST: Final = 4

_RENAMED: Final = {
    "io.containerd.internal.v1.restart": "io.containerd.monitor.container.v1.restart",
    "io.containerd.monitor.v1.cgroups": "io.containerd.monitor.task.v1.cgroups",
}
_IMAGES: Final = (
    *("image_decryption", "image_pull_progress_timeout", "image_pull_with_sync_fs"),
    *("max_concurrent_downloads", "registry", "stats_collect_period"),
)
"""Keys of version 2's CRI section that belong to images."""
_IMAGES_CONTAINERD: Final = (
    *("snapshotter", "disable_snapshot_annotations", "discard_unpacked_layers"),
)
"""The same, below `containerd` there."""
_STREAMING: Final = (
    *("disable_tcp_service", "stream_server_address", "stream_server_port"),
    *("stream_idle_timeout", "enable_tls_streaming", "x509_key_pair_streaming"),
)
_GONE: Final = ("systemd_cgroup",)
_GONE_CONTAINERD: Final = ("no_pivot",)
_OLD_RUNTIMES: Final = {"default_runtime": "default", "untrusted_workload_runtime": "untrusted"}


def migrated(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's tables as version 4 would have them; the input is not changed."""
    result = copy.deepcopy(dict(table))
    if result.get("version") == 2:
        _to_3(result)
    if result.get("version") == 3:
        _to_4(result)
    return result


def _to_3(table: dict[str, Any]) -> None:
    table["version"] = 3
    plugins = table.get("plugins")
    if not isinstance(plugins, dict):
        return
    for old, new in _RENAMED.items():
        if old in plugins:
            plugins.setdefault(new, plugins.pop(old))
    for key in ("disabled_plugins", "required_plugins"):
        table.update({key: [_RENAMED.get(one, one) for one in table[key]]} if key in table else {})
    section = plugins.get(cri.STREAMING)
    if isinstance(section, dict):
        _split(plugins, section)


def _split(plugins: dict[str, Any], old: dict[str, Any]) -> None:
    images: dict[str, Any] = dict(plugins.get(cri.IMAGES, {}))
    streaming = {key: old[key] for key in _STREAMING if key in old}
    runtime = {
        key: value
        for key, value in old.items()
        if key not in (*_STREAMING, *_IMAGES, *_GONE, "sandbox_image", "containerd")
    }
    images |= {key: old[key] for key in _IMAGES if key in old}
    if "sandbox_image" in old:
        images.setdefault("pinned_images", {})["sandbox"] = old["sandbox_image"]
    inner = old.get("containerd")
    if isinstance(inner, dict):
        images |= {key: inner[key] for key in _IMAGES_CONTAINERD if key in inner}
        runtime["containerd"] = _runtimes(inner)
        _platforms(runtime["containerd"], images)
    elif "containerd" in old:
        runtime["containerd"] = inner
    plugins.pop(cri.STREAMING)
    for uri, found in ((cri.IMAGES, images), (cri.RUNTIME, runtime), (cri.STREAMING, streaming)):
        if found:
            plugins[uri] = {**plugins.get(uri, {}), **found}


def _runtimes(old: Mapping[str, Any]) -> dict[str, Any]:
    dropped = (*_IMAGES_CONTAINERD, *_GONE_CONTAINERD, *_OLD_RUNTIMES)
    result = {key: value for key, value in old.items() if key not in dropped}
    for key, name in _OLD_RUNTIMES.items():
        found = old.get(key)
        if isinstance(found, Mapping) and found.get("runtime_type"):
            result.setdefault("runtimes", {}).setdefault(name, found)
            if name == "default":
                result["default_runtime_name"] = name
    return result


def _platforms(containerd: Mapping[str, Any], images: dict[str, Any]) -> None:
    """A handler's snapshotter belongs to the images, too: they are unpacked for it."""
    runtimes = containerd.get("runtimes")
    for name, one in runtimes.items() if isinstance(runtimes, Mapping) else ():
        snapshotter = one.get("snapshotter") if isinstance(one, Mapping) else None
        if snapshotter:
            images.setdefault("runtime_platforms", {}).setdefault(
                name, {"snapshotter": snapshotter}
            )


def _to_4(table: dict[str, Any]) -> None:
    table["version"] = 4
    plugins = table.setdefault("plugins", {})
    old = {key: table.pop(key, {}) for key in ("grpc", "ttrpc", "metrics")}
    debug = table.get("debug", {})
    if not isinstance(plugins, dict) or not all(
        isinstance(one, dict) for one in (*old.values(), debug)
    ):
        table.update(old)
        return
    grpc, ttrpc, metrics = old["grpc"], old["ttrpc"], old["metrics"]
    sizes = ("max_recv_message_size", "max_send_message_size")
    owners = ("uid", "gid")
    _move(plugins, schema.GRPC, grpc, "address", (*owners, *sizes))
    tcp = {key.removeprefix("tcp_"): value for key, value in grpc.items()}
    tcp["address"] = grpc.get("tcp_address", "")
    tls = ("tls_ca", "tls_cert", "tls_key", "tls_common_name")
    _move(plugins, schema.GRPC_TCP, tcp, "address", (*tls, *sizes))
    if not ttrpc.get("address") and grpc.get("address"):
        # Before version 4 the one followed from the other.
        ttrpc = {**grpc, **ttrpc, "address": f"{grpc['address']}.ttrpc"}
    _move(plugins, schema.TTRPC, ttrpc, "address", owners)
    _move(plugins, schema.METRICS, metrics, "address", ())
    histogram = "io.containerd.metrics.v1.grpc-prometheus"
    _move(plugins, histogram, metrics, "grpc_histogram", ())
    if debug.get("address"):
        _move(plugins, schema.DEBUG, debug, "address", owners)
        table["debug"] = {key: debug[key] for key in ("level", "format") if key in debug}
    if not plugins:
        del table["plugins"]


def _move(
    plugins: dict[str, Any], uri: str, old: Mapping[str, Any], key: str, others: tuple[str, ...]
) -> None:
    if old.get(key) and uri not in plugins:
        plugins[uri] = {one: old[one] for one in (key, *others) if one in old}
