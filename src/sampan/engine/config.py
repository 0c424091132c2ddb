"""Where an engine lives and how it is set up: flags, environment, config.toml, defaults.

    flag  >  SAMPAN_* variable  >  key in config.toml  >  default

    flag         variable          as root                  otherwise
    --root       SAMPAN_ROOT       /var/lib/sampan          $XDG_DATA_HOME/sampan
    --state      SAMPAN_STATE      /run/sampan              $XDG_RUNTIME_DIR/sampan
    --address    SAMPAN_ADDRESS    <state>/sampan.sock      the same
    --config     SAMPAN_CONFIG     /etc/sampan/config.toml  $XDG_CONFIG_HOME/sampan/config.toml
    --hosts-dir  SAMPAN_HOSTS_DIR  /etc/sampan/certs.d      $XDG_CONFIG_HOME/sampan/certs.d
    --log-level  SAMPAN_LOG_LEVEL  warning                  the same

A config file named by flag or variable must exist; the default one may be missing. It is strict: an
unknown key or a wrong type is an error that names the file and the key.

The file may be containerd's, too (`containerd`): its address is then ours, so that its clients find
us, while root and state are the folder `sampan` below its own, so that neither touches the other's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan.errors import InvalidArgument, PermissionDenied

if TYPE_CHECKING:
    from sampan.engine.file import ConfigFile
    from sampan.engine.schema import ProxyPlugin, StreamProcessor

__all__ = ["LOG_LEVELS", "NAMES", "Settings", "absolute", "level", "resolve"]

LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_LEVELS: Final = {"trace": "debug", "warn": "warning", "fatal": "critical", "panic": "critical"}
"""Containerd's names, and ours for them."""

NAMES: Final = ("root", "state", "address", "config", "hosts_dir", "log_level")
"""Settings that every program takes, as `--name` and as SAMPAN_NAME."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What one engine runs with; every path is absolute."""

    root: Path
    """What must survive a reboot: blobs, snapshots, the database."""
    state: Path
    """What need not: bundles, sockets, pids. Two engines that share a root share their state."""
    address: Path
    """The daemon's socket."""
    hosts_dir: Path
    """certs.d: a folder for each registry with its hosts.toml."""
    log_level: str = "warning"
    config: Path | None = None
    """The file that was read, if any."""
    plugins: Mapping[str, object] = field(default_factory=dict)
    """Tables of config.toml by plugin URI, as parsed; each plugin checks its own."""
    runtime: str = "io.containerd.sampan.v2"
    """Runtime of containers that ask for none."""
    snapshotter: str = "overlayfs"
    """Snapshotter of containers that ask for none."""
    exec_oci: bool = False
    """Shims exec `sampan-oci` in place of running the OCI runtime in process."""
    foreign_runtimes: tuple[str, ...] = ()
    """Names of runtimes that are left to the foreign binary, though we would answer them."""
    log_format: str = "text"
    """`text` or `json`."""
    ttrpc_address: Path | None = None
    """Where shims publish; None is beside `address`."""
    foreign: bool = False
    """The config file is containerd's: what we do not know there is a warning."""
    disabled_plugins: tuple[str, ...] = ()
    required_plugins: tuple[str, ...] = ()
    proxy_plugins: Mapping[str, ProxyPlugin] = field(default_factory=dict)
    """By id."""
    stream_processors: Mapping[str, StreamProcessor] = field(default_factory=dict)
    timeouts: Mapping[str, float] = field(default_factory=dict)
    """Seconds by containerd's names, such as io.containerd.timeout.shim.load."""
    oom_score: int = 0
    """For the daemon itself; 0 leaves it as it is."""
    cgroup: str = ""
    """Where the daemon puts itself; empty leaves it where it is."""
    warnings: tuple[str, ...] = ()
    """About the config file, to be logged when there is a log."""

    @property
    def ttrpc(self) -> Path:
        """The socket to which shims publish their events."""
        return self.ttrpc_address or Path(f"{self.address}.ttrpc")


def resolve(
    flags: Mapping[str, str | None], environ: Mapping[str, str], *, uid: int | None = None
) -> Settings:
    """Return the settings that flags, environment and config.toml amount to.

    Args:
      flags: by the names in `NAMES`; None or missing is not given.
      environ: the environment of the program; only SAMPAN_*, XDG_* and HOME are read.
      uid: whose defaults; by default the effective user's.

    Raises:
      InvalidArgument: a value or the config file is wrong; the message names the key.
      PermissionDenied: the config file cannot be read.
    """
    home = _Home(os.geteuid() if uid is None else uid, environ)

    def given(name: str) -> str | None:
        return flags.get(name) or environ.get(f"SAMPAN_{name.upper()}") or None

    named = given("config")
    path = absolute("config", named) if named else home.config / "config.toml"
    table = _read(path, required=named is not None)
    if table is not None:
        from sampan.engine.containerd import is_foreign

        if is_foreign(table):
            from sampan.engine.foreign import settings_of

            return settings_of(path, table, given)
    return _own(path, table, given, home)


def _own(
    path: Path, table: Mapping[str, Any] | None, given: Callable[[str], str | None], home: _Home
) -> Settings:
    file: ConfigFile | None = None
    if table is not None:
        from sampan.engine.file import parse

        file = parse(table, path)

    def pick(name: str, fallback: Path) -> Path:
        value = given(name) or (getattr(file, name) if file else "")
        return absolute(name, value) if value else fallback

    state = pick("state", home.state)
    base = Settings(
        root=pick("root", home.root),
        state=state,
        address=pick("address", state / "sampan.sock"),
        hosts_dir=pick("hosts_dir", home.config / "certs.d"),
        log_level=level(given("log_level") or (file.log_level if file else "")),
    )
    if file is None:
        return base
    return replace(
        base,
        config=path,
        plugins=dict(file.plugins),
        runtime=file.runtime or base.runtime,
        snapshotter=file.snapshotter or base.snapshotter,
        exec_oci=file.exec_oci,
        foreign_runtimes=file.foreign_runtimes,
        log_format=file.log_format or base.log_format,
        disabled_plugins=file.disabled_plugins,
        required_plugins=file.required_plugins,
        proxy_plugins=file.proxy_plugins,
        stream_processors=file.stream_processors,
        timeouts=file.timeouts,
    )


class _Home:
    """The default folders of one user."""

    def __init__(self, uid: int, environ: Mapping[str, str]) -> None:
        if uid == 0:
            self.root = Path("/var/lib/sampan")
            self.state = Path("/run/sampan")
            self.config = Path("/etc/sampan")
            return
        home = Path(environ.get("HOME") or "/")
        self.root = Path(environ.get("XDG_DATA_HOME") or home / ".local/share") / "sampan"
        self.state = _runtime_folder(uid, environ)
        self.config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "sampan"


def _runtime_folder(uid: int, environ: Mapping[str, str]) -> Path:
    """Return where an ordinary user's state lies; without a login session, below /tmp."""
    if given := environ.get("XDG_RUNTIME_DIR"):
        return Path(given) / "sampan"
    if Path(f"/run/user/{uid}").is_dir():
        return Path(f"/run/user/{uid}") / "sampan"
    return Path(environ.get("TMPDIR") or "/tmp") / f"sampan-{uid}"  # noqa: S108 - its owner is checked


def level(name: str) -> str:
    """Return a log level by our name or containerd's; the empty one is the default.

    Raises:
      InvalidArgument: there is none of that name.
    """
    result = _LEVELS.get(name, name) or "warning"
    if result not in LOG_LEVELS:
        raise InvalidArgument(f"log level {name!r} is none of {', '.join(LOG_LEVELS)}")
    return result


def absolute(name: str, value: str) -> Path:
    """Return a path of the configuration, made absolute; `unix://` before it is fine."""
    if "\0" in value:
        raise InvalidArgument(f"{name} must be a path, and {value!r} contains a NUL")
    if value.startswith("unix://"):
        value = value.removeprefix("unix://")
    return Path(os.path.normpath(Path.cwd() / value))


def _read(path: Path, *, required: bool) -> dict[str, Any] | None:
    """Return the tables of the config file, None if it may be missing and is."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if required:
            raise InvalidArgument(
                f"config file {path} does not exist: create it, or name none"
            ) from None
        return None
    except PermissionError as err:
        if not required:  # such as that of another user whose HOME we were given
            return None
        raise PermissionDenied(f"config file {path} cannot be read: {err.strerror}") from err
    except OSError as err:
        raise InvalidArgument(f"config file {path} cannot be read: {err.strerror}") from err
    # tomllib and msgspec cost 25 ms, and most machines have no such file.
    from sampan.engine.toml import loads

    return loads(data, path)
