"""Settings from containerd's config.toml: an unchanged file puts us in containerd's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sampan.engine import schema
from sampan.engine.config import Settings, absolute, level
from sampan.engine.containerd import DEFAULT_ADDRESS, DEFAULT_ROOT, DEFAULT_STATE, Loaded
from sampan.engine.cri import cri_settings
from sampan.engine.discovery import uris
from sampan.engine.file import SampanSection
from sampan.engine.sections import section
from sampan.errors import InvalidArgument

__all__ = ["SECTION", "settings_of"]

SECTION: Final = "io.sampan.engine.v1.settings"
_BELOW: Final = "sampan"
"""Containerd's folders may hold what containerd left there, and ours must not be taken for that."""


def settings_of(
    path: Path, table: Mapping[str, Any], given: Callable[[str], str | None]
) -> Settings:
    """Return the settings of a file of containerd's.

    Args:
      path: The file.
      table: What it says.
      given: Answers for a name in `NAMES` what flags and environment say.

    Raises:
      InvalidArgument: the file is wrong; names file and key.
    """
    loaded = Loaded.of(path, table, (*uris(), SECTION))
    file = loaded.file

    def pick(name: str, fallback: str) -> Path:
        return absolute(name, given(name) or fallback)

    base = Settings(
        root=pick("root", f"{file.root or DEFAULT_ROOT}/{_BELOW}"),
        state=pick("state", f"{file.state or DEFAULT_STATE}/{_BELOW}"),
        address=Path(DEFAULT_ADDRESS),
        hosts_dir=Path(),
        log_level=level(given("log_level") or file.debug.level),
        log_format=_format(path, file.debug.format),
        config=path,
        plugins=dict(file.plugins),
        foreign=True,
        disabled_plugins=file.disabled_plugins,
        required_plugins=file.required_plugins,
        proxy_plugins=file.proxy_plugins,
        stream_processors=file.stream_processors,
        timeouts=file.timeouts,
        oom_score=file.oom_score,
        cgroup=file.cgroup.path,
        warnings=tuple(loaded.warnings),
    )
    ours = section(base, SECTION, SampanSection)
    cri = cri_settings(base)
    grpc = section(base, schema.GRPC, schema.Listener)
    ttrpc = section(base, schema.TTRPC, schema.Listener)
    address = pick("address", grpc.address or DEFAULT_ADDRESS)
    certs = next((one for one in cri.certs if one.is_dir()), cri.certs[0])
    return replace(
        base,
        address=address,
        # Told another address on the command line, the other socket goes with it.
        ttrpc_address=Path(ttrpc.address) if ttrpc.address and not given("address") else None,
        hosts_dir=pick("hosts_dir", ours.hosts_dir or str(certs)),
        runtime=ours.runtime or base.runtime,
        snapshotter=ours.snapshotter or cri.images.snapshotter,
        exec_oci=ours.exec_oci,
        foreign_runtimes=ours.foreign_runtimes,
    )


def _format(path: Path, name: str) -> str:
    if name not in ("", "text", "json"):
        raise InvalidArgument(
            f"config file {path} is refused: debug.format: {name!r} is none of text, json"
        )
    return name or "text"
