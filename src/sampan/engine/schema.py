"""The tables of configuration that we know: top level of containerd's file, and each plugin's.

What is not here is unknown: a warning in containerd's file, an error in ours. Some of these are
accepted so that a file need not change, and mean nothing to us; `IGNORED` says so to the reader.

Source: containerd docs/man/containerd-config.toml.5.md, docs/cri/config.md, docs/ops.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.engine import cri
from sampan.model.durations import Duration

__all__ = [
    "DEBUG",
    "GRPC",
    "GRPC_TCP",
    "IGNORED",
    "KNOWN",
    "METRICS",
    "SCHEDULER",
    "TTRPC",
    "ContainerdFile",
    "Listener",
    "ProxyPlugin",
    "StreamProcessor",
    "TcpListener",
    "known",
]

GRPC: Final = "io.containerd.server.v1.grpc"
GRPC_TCP: Final = "io.containerd.server.v1.grpc-tcp"
TTRPC: Final = "io.containerd.server.v1.ttrpc"
DEBUG: Final = "io.containerd.server.v1.debug"
METRICS: Final = "io.containerd.server.v1.metrics"
SCHEDULER: Final = "io.containerd.gc.v1.scheduler"

_MESSAGE_BYTES: Final = 16 << 20


class Table(msgspec.Struct, frozen=True):
    """A section that we accept whatever it says."""


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """A unix socket: gRPC, ttrpc, debug, or metrics, which takes `host:port` too."""

    address: str = ""
    uid: int = 0
    gid: int = 0
    max_recv_message_size: int = _MESSAGE_BYTES
    """Bytes, gRPC only."""
    max_send_message_size: int = _MESSAGE_BYTES


class TcpListener(msgspec.Struct, frozen=True, kw_only=True):
    """gRPC over TCP: `host:port`, and TLS unless the files are not given."""

    address: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_common_name: str = ""
    max_recv_message_size: int = _MESSAGE_BYTES
    max_send_message_size: int = _MESSAGE_BYTES


class OldGrpc(msgspec.Struct, frozen=True, kw_only=True):
    """[grpc] of versions 2 and 3."""

    address: str = ""
    tcp_address: str = ""
    tcp_tls_ca: str = ""
    tcp_tls_cert: str = ""
    tcp_tls_key: str = ""
    tcp_tls_common_name: str = ""
    uid: int = 0
    gid: int = 0
    max_recv_message_size: int = _MESSAGE_BYTES
    max_send_message_size: int = _MESSAGE_BYTES


class OldTtrpc(msgspec.Struct, frozen=True, kw_only=True):
    """[ttrpc] of versions 2 and 3."""

    address: str = ""
    uid: int = 0
    gid: int = 0


class Debug(msgspec.Struct, frozen=True, kw_only=True):
    """[debug]; its socket moved to a plugin in version 4."""

    level: str = ""
    format: str = ""
    address: str = ""
    uid: int = 0
    gid: int = 0


class OldMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """[metrics] of versions 2 and 3."""

    address: str = ""
    grpc_histogram: bool = False


class Cgroup(msgspec.Struct, frozen=True, kw_only=True):
    """[cgroup]: where the daemon puts itself."""

    path: str = ""


class ProxyPlugin(msgspec.Struct, frozen=True, kw_only=True):
    """`proxy_plugins.<name>`: a plugin of another process, over gRPC."""

    type: str = ""
    """snapshot, content, diff or sandbox."""
    address: str = ""
    """A unix socket."""
    platform: str = ""
    exports: dict[str, str] = {}
    capabilities: tuple[str, ...] = ()


class StreamProcessor(msgspec.Struct, frozen=True, kw_only=True):
    """`stream_processors.<name>`: a program that turns one media type into another."""

    accepts: tuple[str, ...] = ()
    returns: str = ""
    path: str = ""
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()


class ContainerdFile(msgspec.Struct, frozen=True, kw_only=True):
    """The top level of containerd's config.toml, versions 2 to 4."""

    version: int = 0
    root: str = ""
    state: str = ""
    temp: str = ""
    plugin_dir: str = ""
    disabled_plugins: tuple[str, ...] = ()
    required_plugins: tuple[str, ...] = ()
    oom_score: int = 0
    imports: tuple[str, ...] = ()
    grpc: OldGrpc = OldGrpc()
    ttrpc: OldTtrpc = OldTtrpc()
    debug: Debug = Debug()
    metrics: OldMetrics = OldMetrics()
    cgroup: Cgroup = Cgroup()
    timeouts: dict[str, Duration] = {}
    stream_processors: dict[str, StreamProcessor] = {}
    proxy_plugins: dict[str, ProxyPlugin] = {}
    plugins: dict[str, dict[str, Any]] = {}


class Scheduler(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.gc.v1.scheduler"]."""

    pause_threshold: float = 0.02
    deletion_threshold: int = 0
    mutation_threshold: int = 100
    schedule_delay: Duration = Duration(0)
    startup_delay: Duration = Duration(0.1)


class Bolt(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.metadata.v1.bolt"]."""

    content_sharing_policy: str = "shared"
    no_sync: bool = False


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.monitor.container.v1.restart"]."""

    interval: Duration = Duration(10)


class Opt(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.internal.v1.opt"]: where `ctr install` puts programs."""

    path: str = "/opt/containerd"


class Verifier(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.image-verifier.v1.bindir"]."""

    bin_dir: str = "/opt/containerd/image-verifier/bin"
    max_verifiers: int = 10
    """-1 is all."""
    per_verifier_timeout: Duration = Duration(10)


class TaskRuntime(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.runtime.v2.task"]."""

    platforms: tuple[str, ...] = ("linux/amd64",)
    sched_core: bool = False


class TasksService(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.service.v1.tasks-service"]."""

    blockio_config_file: str = ""
    rdt_config_file: str = ""


class DiffService(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.service.v1.diff-service"]."""

    default: tuple[str, ...] = ("walking",)
    sync_fs: bool = False


class Cgroups(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.monitor.task.v1.cgroups"]."""

    no_prometheus: bool = False


class GrpcPrometheus(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.metrics.v1.grpc-prometheus"]."""

    grpc_histogram: bool = False


class Nri(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.nri.v1.nri"]."""

    disable: bool = False
    socket_path: str = "/var/run/nri/nri.sock"
    plugin_path: str = "/opt/nri/plugins"
    plugin_config_path: str = "/etc/nri/conf.d"
    plugin_registration_timeout: Duration = Duration(5)
    plugin_request_timeout: Duration = Duration(2)
    disable_connections: bool = False
    default_validator: dict[str, Any] = {}


KNOWN: Final[dict[str, type[msgspec.Struct]]] = {
    cri.IMAGES: cri.ImagesConfig,
    cri.RUNTIME: cri.RuntimeConfig,
    cri.STREAMING: cri.StreamingConfig,
    GRPC: Listener,
    GRPC_TCP: TcpListener,
    TTRPC: Listener,
    DEBUG: Listener,
    METRICS: Listener,
    SCHEDULER: Scheduler,
    "io.containerd.metadata.v1.bolt": Bolt,
    "io.containerd.monitor.container.v1.restart": Restart,
    "io.containerd.monitor.task.v1.cgroups": Cgroups,
    "io.containerd.metrics.v1.grpc-prometheus": GrpcPrometheus,
    "io.containerd.internal.v1.opt": Opt,
    "io.containerd.image-verifier.v1.bindir": Verifier,
    "io.containerd.runtime.v2.task": TaskRuntime,
    "io.containerd.service.v1.tasks-service": TasksService,
    "io.containerd.service.v1.diff-service": DiffService,
    "io.containerd.nri.v1.nri": Nri,
}
"""By URI. Built-in plugins that the graph starts bring their own types."""


def _cri_of_2() -> type[msgspec.Struct]:
    """Make the type of version 2's one CRI section from those of the three that followed."""

    def fields(kind: type[msgspec.Struct], *leave: str) -> dict[str, tuple[str, Any, Any]]:
        return {
            one.name: (one.name, one.type, one.default)
            if one.default_factory is msgspec.NODEFAULT
            else (one.name, one.type, msgspec.field(default_factory=one.default_factory))
            for one in msgspec.structs.fields(kind)
            if one.name not in leave
        }

    containerd = fields(cri.ContainerdConfig, "runtimes") | {
        "runtimes": ("runtimes", dict[str, cri.RuntimeHandler], {}),
        "default_runtime": ("default_runtime", cri.RuntimeHandler, cri.RuntimeHandler()),
        "untrusted_workload_runtime": (
            *("untrusted_workload_runtime", cri.RuntimeHandler, cri.RuntimeHandler()),
        ),
        "snapshotter": ("snapshotter", str, "overlayfs"),
        "disable_snapshot_annotations": ("disable_snapshot_annotations", bool, True),
        "discard_unpacked_layers": ("discard_unpacked_layers", bool, False),
        "no_pivot": ("no_pivot", bool, False),
    }
    inner = msgspec.defstruct("ContainerdOf2", list(containerd.values()), frozen=True, kw_only=True)
    whole = {
        **fields(cri.ImagesConfig, "snapshotter", "runtime_platforms"),
        **fields(cri.RuntimeConfig, "containerd", "stats_collect_period"),
        **fields(cri.StreamingConfig),
        "stats_collect_period": ("stats_collect_period", int, 10),
        "sandbox_image": ("sandbox_image", str, ""),
        "systemd_cgroup": ("systemd_cgroup", bool, False),
        "containerd": ("containerd", inner, inner()),
    }
    return msgspec.defstruct("CriOf2", list(whole.values()), frozen=True, kw_only=True)


def known(version: int) -> Mapping[str, type[msgspec.Struct]]:
    """Return the types of plugin sections in a file of this version, by URI."""
    if version != 2:
        return KNOWN
    return {
        **KNOWN,
        cri.STREAMING: _cri_of_2(),
        "io.containerd.internal.v1.restart": Restart,
        "io.containerd.monitor.v1.cgroups": Cgroups,
    }


IGNORED: Final = frozenset(
    {
        *(f"io.containerd.snapshotter.v1.{one}" for one in ("aufs", "btrfs", "devmapper", "zfs")),
        *(f"io.containerd.snapshotter.v1.{one}" for one in ("blockfile", "erofs")),
        "io.containerd.differ.v1.erofs",
        "io.containerd.internal.v1.tracing",
        "io.containerd.tracing.processor.v1.otlp",
        "io.containerd.runtime.v1.linux",
        "io.containerd.podsandbox.controller.v1.podsandbox",
        "io.containerd.sandbox.controller.v1.shim",
        "io.containerd.shim.v1.manager",
        "io.containerd.transfer.v1.local",
        "io.containerd.mount-manager.v1.bolt",
        "io.containerd.content.v1.content",
    }
)
"""Sections of containerd's own default files that say nothing to us, and deserve no warning."""
