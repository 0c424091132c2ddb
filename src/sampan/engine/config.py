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
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.errors import InvalidArgument, PermissionDenied

if TYPE_CHECKING:
    from sampan.engine.file import ConfigFile

__all__ = ["LOG_LEVELS", "NAMES", "Settings", "resolve"]

LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")

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
    path = _absolute("config", named) if named else home.config / "config.toml"
    file = _read(path, required=named is not None)

    def pick(name: str, fallback: Path) -> Path:
        value = given(name) or (getattr(file, name) if file else "")
        return _absolute(name, value) if value else fallback

    state = pick("state", home.state)
    level = given("log_level") or (file.log_level if file else "") or "warning"
    if level not in LOG_LEVELS:
        raise InvalidArgument(f"log level {level!r} is none of {', '.join(LOG_LEVELS)}")
    return Settings(
        root=pick("root", home.root),
        state=state,
        address=pick("address", state / "sampan.sock"),
        hosts_dir=pick("hosts_dir", home.config / "certs.d"),
        log_level=level,
        config=path if file else None,
        plugins=dict(file.plugins) if file else {},
        runtime=(file.runtime if file else "") or "io.containerd.sampan.v2",
        snapshotter=(file.snapshotter if file else "") or "overlayfs",
        exec_oci=file.exec_oci if file else False,
        foreign_runtimes=file.foreign_runtimes if file else (),
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
        self.state = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}") / "sampan"
        self.config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "sampan"


def _absolute(name: str, value: str) -> Path:
    if "\0" in value:
        raise InvalidArgument(f"{name} must be a path, and {value!r} contains a NUL")
    if value.startswith("unix://"):
        value = value.removeprefix("unix://")
    return Path(os.path.normpath(Path.cwd() / value))


def _read(path: Path, *, required: bool) -> ConfigFile | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if required:
            raise InvalidArgument(
                f"config file {path} does not exist: create it, or name none"
            ) from None
        return None
    except NotADirectoryError:
        if required:
            raise InvalidArgument(f"config file {path} is below something not a folder") from None
        return None
    except PermissionError as err:
        if not required:  # such as that of another user whose HOME we were given
            return None
        raise PermissionDenied(f"config file {path} cannot be read: {err.strerror}") from err
    except OSError as err:
        raise InvalidArgument(f"config file {path} cannot be read: {err.strerror}") from err
    # tomllib and msgspec cost 25 ms, and most machines have no such file.
    from sampan.engine.file import parse

    return parse(text, path)
