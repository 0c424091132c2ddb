"""Seccomp profiles: the default one, a file of this node, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.client.spec.seccomp import profile_of
from sampan.errors import InvalidArgument
from sampan.model.runtime.defaults_seccomp import default_seccomp
from sampan.model.runtime.seccomp import Seccomp

__all__ = ["seccomp_of"]

_PREFIX: Final = "localhost/"


def seccomp_of(
    security: pb.LinuxContainerSecurityContext, capabilities: tuple[str, ...], unset: str
) -> Seccomp | None:
    """Return the filter of a container; None is none.

    Args:
      security: The request's.
      capabilities: What the container may: the default profile allows more to those who may more.
      unset: The profile of those who ask for none: `unset_seccomp_profile` of the configuration.

    Raises:
      InvalidArgument: there is no such profile, or it cannot be read.
    """
    if security.privileged:
        return None
    kind, reference = _wanted(security, unset)
    if kind == pb.SecurityProfile.Unconfined:
        return None
    if kind == pb.SecurityProfile.RuntimeDefault:
        return default_seccomp(capabilities)
    if not reference:
        raise InvalidArgument("seccomp profile of type Localhost needs localhost_ref")
    path = Path(reference)
    if not path.is_absolute():
        raise InvalidArgument(f"seccomp profile {reference!r} is no absolute path")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidArgument(f"seccomp profile {path} cannot be loaded: {err}") from err
    return profile_of(text, capabilities)


def _wanted(security: pb.LinuxContainerSecurityContext, unset: str) -> tuple[int, str]:
    if security.HasField("seccomp"):
        profile = security.seccomp
        if profile.profile_type != pb.SecurityProfile.Localhost and profile.localhost_ref:
            raise InvalidArgument("seccomp: localhost_ref is for profiles of type Localhost")
        return profile.profile_type, profile.localhost_ref.removeprefix(_PREFIX)
    text = security.seccomp_profile_path or unset
    if text in ("", "unconfined"):
        return pb.SecurityProfile.Unconfined, ""
    if text in ("runtime/default", "docker/default"):
        return pb.SecurityProfile.RuntimeDefault, ""
    if not text.startswith(_PREFIX):
        raise InvalidArgument(f"invalid seccomp profile {text!r}")
    return pb.SecurityProfile.Localhost, text.removeprefix(_PREFIX)
