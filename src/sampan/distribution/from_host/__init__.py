"""An image made of this host's own files: programs with all that they need, and folders.

    plan     which files: programs, their libraries and interpreters, trees, the links between
      elf      what an ELF file asks the dynamic loader for
      loader   where the loader would find it: RPATH, RUNPATH, ld.so.cache, default folders
    layer    files to tar to a compressed blob, the same bytes for the same files
    image    layers and config to the content store, or to an OCI layout

Nothing of the host is executed: libraries are found as ld.so(8) finds them, from the files alone.
Symbolic links stay links, on the way to a file as well (`/bin` -> `usr/bin`).

    image = await build(content, Recipe(groups=(("/usr/bin/python3", "/bin/sh"),)))
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.distribution.from_host.image import build, build_layout

__all__ = ["Recipe", "build", "build_layout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the image shall hold, and how it is run. Policy."""

    groups: tuple[tuple[str, ...], ...]
    """Absolute paths, or names of programs on `search_path`; each group is a layer, from below."""
    split: int = 1
    """Divide each group into so many layers of about the same size."""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    """Empty, with an empty entrypoint, is the first path if that is a program."""
    env: tuple[str, ...] = ()
    """`PATH` is added when missing."""
    working_dir: str = ""
    user: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    ca_certificates: bool = False
    """Add the host's bundle of certificate authorities."""
    base: bool = True
    """Add a minimal /etc/passwd, group, nsswitch.conf and an empty /tmp."""
    compression: str = "gzip"
    """`gzip`, `zstd`, or nothing."""
    source_date_epoch: int | None = None
    """Latest time in the image, in seconds; None keeps the files' own."""
    search_path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def __getattr__(name: str) -> object:
    if name not in {"build", "build_layout"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.image")
    globals()["build"], globals()["build_layout"] = module.build, module.build_layout
    value: object = globals()[name]
    return value
