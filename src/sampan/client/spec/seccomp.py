"""A seccomp profile that somebody wrote: docker's format, or the runtime-spec's own.

Docker's has `archMap` in place of `architectures`, a `name` beside `names`, and `includes` and
`excludes` that keep a rule only for some capabilities, architectures and kernels.
Source: docs.docker.com/engine/security/seccomp; config-linux.md#seccomp.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final

from sampan.errors import InvalidArgument
from sampan.model.runtime.seccomp import Seccomp

__all__ = ["profile_of"]

_MAX_BYTES: Final = 1 << 20
_ARCHITECTURES: Final = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
}


def profile_of(text: str, capabilities: tuple[str, ...]) -> Seccomp:
    """Return what a profile's JSON text means for a container with these capabilities.

    Raises:
      InvalidArgument: it is no such document.
    """
    if len(text) > _MAX_BYTES:
        raise InvalidArgument(f"seccomp profile of {len(text)} bytes: at most {_MAX_BYTES}")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise InvalidArgument(f"seccomp profile is no JSON: {err}") from err
    if not isinstance(document, dict) or not isinstance(document.get("syscalls", []), list):
        raise InvalidArgument("seccomp profile: want an object with a list `syscalls`")
    go_name, own = _ARCHITECTURES.get(os.uname().machine, ("", ""))
    plain = {key: value for key, value in document.items() if key != "archMap"}
    if "archMap" in document:
        if document.get("architectures"):
            raise InvalidArgument("seccomp profile: archMap and architectures exclude each other")
        plain["architectures"] = _architectures(document["archMap"], own)
    facts = _Facts(frozenset(capabilities), go_name, _kernel())
    rules = [rule for rule in document.get("syscalls") or () if _applies(rule, facts)]
    plain["syscalls"] = [_rule(rule) for rule in rules]
    return Seccomp.from_json(plain)


class _Facts:
    def __init__(self, capabilities: frozenset[str], arch: str, kernel: tuple[int, int]) -> None:
        self.capabilities = capabilities
        self.arch = arch
        self.kernel = kernel


def _kernel() -> tuple[int, int]:
    return _version(os.uname().release) or (0, 0)


def _version(text: str) -> tuple[int, int] | None:
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0]
    digits = "".join(letter for letter in minor if letter.isascii() and letter.isdigit())
    if not (major.isascii() and major.isdigit() and digits):
        return None
    return int(major), int(digits)


def _architectures(table: Any, own: str) -> list[str]:
    if not isinstance(table, list):
        raise InvalidArgument("seccomp profile: archMap is no list")
    for row in table:
        if isinstance(row, dict) and row.get("architecture") == own:
            return [own, *(row.get("subArchitectures") or ())]
    return []


def _applies(rule: Any, facts: _Facts) -> bool:
    if not isinstance(rule, dict):
        raise InvalidArgument("seccomp profile: a rule of `syscalls` is no object")
    wanted, unwanted = rule.get("includes") or {}, rule.get("excludes") or {}
    if any(name not in facts.capabilities for name in wanted.get("caps") or ()):
        return False
    if wanted.get("arches") and facts.arch not in wanted["arches"]:
        return False
    least = wanted.get("minKernel")
    if least and facts.kernel < (_version(str(least)) or (0, 0)):
        return False
    if any(name in facts.capabilities for name in unwanted.get("caps") or ()):
        return False
    if facts.arch in (unwanted.get("arches") or ()):
        return False
    until = unwanted.get("minKernel")
    return not (until and facts.kernel >= (_version(str(until)) or (0, 0)))


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    kept = {key: rule[key] for key in ("action", "errnoRet", "args") if rule.get(key) is not None}
    names = rule.get("names") or ([rule["name"]] if rule.get("name") else [])
    return {**kept, "names": names}
