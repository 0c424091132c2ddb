"""Platforms: which of an index's images runs here, and which runs best.

    default()                      -> linux/amd64
    parse("linux/aarch64")         -> linux/arm64
    Matcher(default()).best(list)  -> the index of the best one, or None

A matcher is an ordered list of acceptable platforms: an amd64 host also runs 386, arm64 also 32-bit
arm, and an `arm/v7` host runs v6 and v5; the earlier, the better.

Source: image-spec image-index.md#platform-variants, and containerd's platforms package.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from sampan.errors import InvalidArgument

__all__ = ["Matcher", "Platform", "default", "normalize", "parse"]

_COMPONENT: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_ARCHITECTURES: Final = {
    "i386": ("386", ""),
    "i686": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "loongarch64": ("loong64", ""),
    "mips64el": ("mips64le", ""),
}
_KNOWN_OS: Final = frozenset(
    [
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "illumos",
        "ios",
        "js",
        "linux",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "wasip1",
        "windows",
        "zos",
    ]
)
_KNOWN_ARCH: Final = frozenset(
    [
        "386",
        "amd64",
        "arm",
        "arm64",
        "loong64",
        "mips",
        "mipsle",
        "mips64",
        "mips64le",
        "ppc64",
        "ppc64le",
        "riscv64",
        "s390x",
        "sparc64",
        "wasm",
    ]
)


class Platform(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"os_version": "os.version", "os_features": "os.features"},
):
    """Operating system and processor, in Go's words. Unset fields of content are empty."""

    architecture: str = ""
    os: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    variant: str = ""

    def __str__(self) -> str:
        if not self.os:
            return "unknown"
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


class Matcher:
    """Says which platforms are acceptable, and which of two is the better."""

    def __init__(self, wanted: Platform, *, strict: bool = False) -> None:
        """Prefer `wanted`; with `strict`, take nothing but that."""
        self.wanted: Final = normalize(wanted)
        self._vector: Final = [self.wanted] if strict else _vector(self.wanted)

    def rank(self, platform: Platform) -> int | None:
        """Return 0 for the best, greater for worse, None for what does not run."""
        platform = normalize(platform)
        for rank, ours in enumerate(self._vector):
            if (ours.os, ours.architecture, ours.variant) != (
                platform.os,
                platform.architecture,
                platform.variant,
            ):
                continue
            if set(platform.os_features) <= set(ours.os_features) and (
                not ours.os_version or ours.os_version == platform.os_version
            ):
                return rank
        return None

    def match(self, platform: Platform) -> bool:
        """Tell whether it runs at all."""
        return self.rank(platform) is not None

    def best(self, platforms: Iterable[Platform | None]) -> int | None:
        """Return the position of the best one, the first of equals; None when nothing runs.

        None in the list stands for an unnamed platform, which is never chosen here.
        """
        ranked = [
            (rank, position)
            for position, platform in enumerate(platforms)
            if platform is not None and (rank := self.rank(platform)) is not None
        ]
        return min(ranked)[1] if ranked else None


def default() -> Platform:
    """Return the platform of this host."""
    uname = os.uname()
    return normalize(Platform(os=uname.sysname, architecture=uname.machine))


def parse(text: str) -> Platform:
    """Return `os`, `arch`, `os/arch` or `os/arch/variant` as a platform, the rest from this host.

    Raises:
      InvalidArgument: another number of parts, other characters, or an unknown single word.
    """
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(_COMPONENT.fullmatch(part) for part in parts):
        raise InvalidArgument(f"platform {text[:100]!r}: give os/arch or os/arch/variant")
    if len(parts) == 1:
        return _parse_word(text)
    variant = parts[2] if len(parts) == 3 else ""
    return normalize(Platform(os=parts[0], architecture=parts[1], variant=variant))


def normalize(platform: Platform) -> Platform:
    """Return the same platform in Go's names; variants that say nothing are emptied."""
    os_name = platform.os.lower()
    os_name = {"macos": "darwin", "": os.uname().sysname.lower()}.get(os_name, os_name)
    architecture, variant = platform.architecture.lower(), platform.variant.lower()
    if architecture in _ARCHITECTURES:
        architecture, implied = _ARCHITECTURES[architecture]
        variant = variant or implied
    if variant.isdigit():
        variant = f"v{variant}"
    if (architecture, variant) in {("arm64", "v8"), ("arm64", "v8.0"), ("amd64", "v1")}:
        variant = ""
    if (architecture, variant) == ("arm", ""):
        variant = "v7"
    return msgspec.structs.replace(platform, os=os_name, architecture=architecture, variant=variant)


def _parse_word(word: str) -> Platform:
    lower = word.lower()
    here = default()
    if lower == "macos" or lower in _KNOWN_OS:
        return normalize(Platform(os=lower, architecture=here.architecture, variant=here.variant))
    if lower in _ARCHITECTURES or lower in _KNOWN_ARCH:
        return normalize(Platform(os=here.os, architecture=lower))
    raise InvalidArgument(f"platform {word!r}: neither an operating system nor an architecture")


def _vector(wanted: Platform) -> list[Platform]:
    def also(architecture: str, *variants: str) -> list[Platform]:
        return [
            msgspec.structs.replace(wanted, architecture=architecture, variant=variant)
            for variant in variants
        ]

    found = [wanted]
    match wanted.architecture:
        case "amd64":
            level = wanted.variant.removeprefix("v")
            if level.isdigit() and level.isascii() and len(level) == 1:
                found += also("amd64", *(f"v{n}" for n in range(int(level) - 1, 1, -1)), "")
            found += also("386", "")
        case "arm64":
            if wanted.variant:
                found += also("arm64", "")
            found += also("arm", "v8", "v7", "v6", "v5")
        case "arm":
            below = {"v8": 8, "v7": 7, "v6": 6}.get(wanted.variant, 5)
            found += also("arm", *(f"v{n}" for n in range(below - 1, 4, -1)))
    return found
