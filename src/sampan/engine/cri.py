"""What configuration says of the CRI plugin, typed: `cri_settings(settings)`.

    io.containerd.cri.v1.images     images: snapshotter, pinned images, registry, downloads
    io.containerd.cri.v1.runtime    pods: runtimes, CNI, security, logs, devices
    io.containerd.grpc.v1.cri       the streaming server

Names and defaults are containerd's, of version 3 and 4; version 2's one section is split into these
three before (`migrate`). Spans of time are seconds here and `"4h0m0s"` in the file.

Source: containerd docs/cri/config.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.model.durations import Duration

if TYPE_CHECKING:
    from sampan.engine.config import Settings

__all__ = [
    "IMAGES",
    "RUNTIME",
    "STREAMING",
    "CniConfig",
    "ContainerdConfig",
    "CriSettings",
    "ImagesConfig",
    "Registry",
    "RuncOptions",
    "RuntimeConfig",
    "RuntimeHandler",
    "StreamingConfig",
    "cri_settings",
]

IMAGES: Final = "io.containerd.cri.v1.images"
RUNTIME: Final = "io.containerd.cri.v1.runtime"
STREAMING: Final = "io.containerd.grpc.v1.cri"

_CERTS: Final = ("/etc/containerd/certs.d", "/etc/docker/certs.d")


class RegistryTls(msgspec.Struct, frozen=True, kw_only=True):
    """Of `registry.configs`, deprecated by containerd in favour of hosts.toml."""

    insecure_skip_verify: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class RegistryAuth(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials of one registry, deprecated by containerd but still read."""

    username: str = ""
    password: str = ""
    auth: str = ""
    """Base64 of `user:password`."""
    identitytoken: str = ""


class RegistryHost(msgspec.Struct, frozen=True, kw_only=True):
    """`registry.configs.<host>`."""

    auth: RegistryAuth | None = None
    tls: RegistryTls | None = None


class RegistryMirror(msgspec.Struct, frozen=True, kw_only=True):
    """`registry.mirrors.<host>`."""

    endpoint: tuple[str, ...] = ()


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """Where registries are described."""

    config_path: str = ""
    """Folders of `<host>/hosts.toml`, separated by colons; empty is containerd's and docker's."""
    headers: dict[str, list[str]] = {}
    """Sent with every request to a registry."""
    mirrors: dict[str, RegistryMirror] = {}
    configs: dict[str, RegistryHost] = {}
    auths: dict[str, RegistryAuth] = {}


class ImageDecryption(msgspec.Struct, frozen=True, kw_only=True):
    """Whose keys decrypt images."""

    key_model: str = "node"


class RuntimePlatform(msgspec.Struct, frozen=True, kw_only=True):
    """What a runtime handler wants of images."""

    platform: str = ""
    snapshotter: str = ""


class ImagesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.cri.v1.images"]."""

    snapshotter: str = "overlayfs"
    disable_snapshot_annotations: bool = True
    discard_unpacked_layers: bool = False
    max_concurrent_downloads: int = 3
    concurrent_layer_fetch_buffer: int = 0
    """Bytes; 0 leaves it to us."""
    image_pull_progress_timeout: Duration = Duration(300)
    image_pull_with_sync_fs: bool = False
    stats_collect_period: int = 10
    """Seconds."""
    use_local_image_pull: bool = False
    pinned_images: dict[str, str] = msgspec.field(
        default_factory=lambda: {"sandbox": "registry.k8s.io/pause:3.10.2"}
    )
    runtime_platforms: dict[str, RuntimePlatform] = {}
    registry: Registry = Registry()
    image_decryption: ImageDecryption = ImageDecryption()


class RuncOptions(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Options of `io.containerd.runc.v2` and of those that take the same."""

    binary_name: str = ""
    """An OCI runtime to exec in place of ours."""
    root: str = ""
    systemd_cgroup: bool = False
    shim_cgroup: str = ""
    no_new_keyring: bool = False
    no_pivot_root: bool = False
    io_uid: int = 0
    io_gid: int = 0
    criu_path: str = ""
    criu_image_path: str = ""
    criu_work_path: str = ""


class RuntimeHandler(msgspec.Struct, frozen=True, kw_only=True):
    """`containerd.runtimes.<name>`: what a pod's runtime handler means."""

    runtime_type: str = ""
    runtime_path: str = ""
    """Of the shim; absolute."""
    runtime_engine: str = ""
    runtime_root: str = ""
    pod_annotations: tuple[str, ...] = ()
    """Globs of pod annotations that are passed to the runtime."""
    container_annotations: tuple[str, ...] = ()
    options: dict[str, Any] = {}
    """The runtime's own; see `runc_options`."""
    privileged_without_host_devices: bool = False
    privileged_without_host_devices_all_devices_allowed: bool = False
    cgroup_writable: bool = False
    base_runtime_spec: str = ""
    cni_conf_dir: str = ""
    cni_max_conf_num: int = 0
    snapshotter: str = ""
    sandboxer: str = "podsandbox"
    io_type: str = ""
    """Empty or `fifo`, or `streaming`."""
    disable_pause_image_pull: bool = False

    def runc_options(self) -> RuncOptions:
        """Return the options as those of runc's shim; others' keys are left out.

        Raises:
          msgspec.ValidationError: a key has the wrong type.
        """
        return msgspec.convert(self.options, RuncOptions)


class ContainerdConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`containerd` below the runtime section."""

    default_runtime_name: str = "runc"
    ignore_blockio_not_enabled_errors: bool = False
    ignore_rdt_not_enabled_errors: bool = False
    runtimes: dict[str, RuntimeHandler] = msgspec.field(
        default_factory=lambda: {"runc": RuntimeHandler(runtime_type="io.containerd.runc.v2")}
    )


class CniConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`cni` below the runtime section."""

    bin_dir: str = ""
    """Of versions before 2.1; counts if `bin_dirs` is not given."""
    bin_dirs: tuple[str, ...] = ("/opt/cni/bin",)
    conf_dir: str = "/etc/cni/net.d"
    max_conf_num: int = 1
    """How many of the files are used; 0 is all."""
    setup_serially: bool = False
    conf_template: str = ""
    ip_pref: str = ""
    """`ipv4` (also empty), `ipv6` or `cni`."""
    use_internal_loopback: bool = False

    @property
    def folders(self) -> tuple[str, ...]:
        """Where plugins are looked for, in order."""
        return (self.bin_dir,) if self.bin_dir else self.bin_dirs


class RuntimeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.cri.v1.runtime"]."""

    enable_selinux: bool = False
    selinux_category_range: int = 1024
    max_container_log_line_size: int = 16384
    """Bytes; longer lines are split, and -1 is no limit."""
    disable_cgroup: bool = False
    disable_apparmor: bool = False
    restrict_oom_score_adj: bool = False
    disable_proc_mount: bool = False
    unset_seccomp_profile: str = ""
    tolerate_missing_hugetlb_controller: bool = True
    disable_hugetlb_controller: bool = True
    device_ownership_from_security_context: bool = False
    ignore_image_defined_volumes: bool = False
    netns_mounts_under_state_dir: bool = False
    enable_unprivileged_ports: bool = True
    enable_unprivileged_icmp: bool = True
    enable_cdi: bool = True
    cdi_spec_dirs: tuple[str, ...] = ("/etc/cdi", "/var/run/cdi")
    drain_exec_sync_io_timeout: Duration = Duration(0)
    ignore_deprecation_warnings: tuple[str, ...] = ()
    stats_collect_period: Duration = Duration(1)
    stats_retention_period: Duration = Duration(120)
    enable_criu: bool = True
    containerd: ContainerdConfig = ContainerdConfig()
    cni: CniConfig = CniConfig()


class KeyPair(msgspec.Struct, frozen=True, kw_only=True):
    """Files of a certificate and its key."""

    tls_cert_file: str = ""
    tls_key_file: str = ""


class StreamingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """[plugins."io.containerd.grpc.v1.cri"]."""

    disable_tcp_service: bool = True
    stream_server_address: str = "127.0.0.1"
    stream_server_port: str = "0"
    stream_idle_timeout: Duration = Duration(4 * 3600)
    enable_tls_streaming: bool = False
    x509_key_pair_streaming: KeyPair = KeyPair()


class CriSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All three sections."""

    images: ImagesConfig = ImagesConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    streaming: StreamingConfig = StreamingConfig()

    @property
    def sandbox_image(self) -> str:
        """The pause image."""
        return self.images.pinned_images.get("sandbox", "")

    @property
    def certs(self) -> tuple[Path, ...]:
        """Folders of `<host>/hosts.toml`, in order."""
        text = self.images.registry.config_path
        return tuple(Path(one) for one in (text.split(":") if text else _CERTS) if one)

    def handler(self, name: str) -> RuntimeHandler | None:
        """Return a runtime handler; the empty name is the default one's."""
        return self.runtime.containerd.runtimes.get(
            name or self.runtime.containerd.default_runtime_name
        )


def cri_settings(settings: Settings) -> CriSettings:
    """Return what the configuration of `settings` says of the CRI plugin.

    Raises:
      InvalidArgument: a key has the wrong type; names the file and the key.
    """
    from sampan.engine.sections import section

    return CriSettings(
        images=section(settings, IMAGES, ImagesConfig),
        runtime=section(settings, RUNTIME, RuntimeConfig),
        streaming=section(settings, STREAMING, StreamingConfig),
    )
