"""AppArmor profiles, where the kernel has AppArmor."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.errors import InvalidArgument

__all__ = ["apparmor_of", "enabled"]

_PREFIX: Final = "localhost/"
_PROFILES: Final = Path("/sys/kernel/security/apparmor/profiles")


@cache
def enabled() -> bool:
    """Tell whether the kernel enforces AppArmor profiles."""
    try:
        return Path("/sys/module/apparmor/parameters/enabled").read_text().startswith("Y")
    except OSError:
        return False


def apparmor_of(security: pb.LinuxContainerSecurityContext, *, disabled: bool) -> str:
    """Return the profile's name; empty is none.

    Raises:
      InvalidArgument: a profile of this node is asked for, and there is none of that name.
    """
    name = _wanted(security)
    if security.privileged and not security.HasField("apparmor"):
        return ""
    if disabled or not enabled():
        if name:
            raise InvalidArgument(
                f"AppArmor profile {name!r}: AppArmor is not enabled on this node"
            )
        return ""
    if not name:
        return ""
    loaded = {line.rpartition(" (")[0] for line in _PROFILES.read_text().splitlines()}
    if name not in loaded:
        raise InvalidArgument(f"AppArmor profile {name!r} is not loaded on this node")
    return name


def _wanted(security: pb.LinuxContainerSecurityContext) -> str:
    if security.HasField("apparmor"):
        profile = security.apparmor
        if profile.profile_type != pb.SecurityProfile.Localhost:
            return ""
        if not profile.localhost_ref:
            raise InvalidArgument("AppArmor profile of type Localhost needs localhost_ref")
        return profile.localhost_ref.removeprefix(_PREFIX)
    text = security.apparmor_profile
    if text in ("", "unconfined", "runtime/default"):
        return ""
    if not text.startswith(_PREFIX):
        raise InvalidArgument(f"invalid AppArmor profile {text!r}")
    return text.removeprefix(_PREFIX)
