"""The built-in checks of what plugins want: an administrator's limits for all of them.

Source: containerd/nri plugins/default-validator.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.cri.nri import NriConfig
from sampan.cri.nri.owners import Owners
from sampan.errors import FailedPrecondition, InvalidArgument, PermissionDenied

__all__ = ["REQUIRED_ANNOTATION", "check", "required"]

REQUIRED_ANNOTATION = "required-plugins.nri.io"
"""A list of names; `/container.NAME` or `/pod` after it narrows it down."""


def check(
    config: NriConfig,
    pod: pb.PodSandbox,
    container: pb.Container,
    owners: Owners,
    plugins: Iterable[str],
) -> None:
    """Refuse adjustments that the configuration does not allow, and missing plugins.

    Raises:
      PermissionDenied: a plugin has changed what none may change.
      FailedPrecondition: a required plugin has not registered.
    """
    id = container.id  # noqa: A001 - the API's word
    hooks = owners.owner(id, pb.Field.OciHooks)
    if hooks and not config.allow_hooks:
        raise PermissionDenied(f"NRI plugin {hooks} may not add OCI hooks to container {id}")
    seccomp = owners.owner(id, pb.Field.SeccompPolicy)
    if seccomp:
        kind = _seccomp_of(container)
        if kind in config.refuse_seccomp:
            raise PermissionDenied(
                f"NRI plugin {seccomp} may not set seccomp of container {id}: it is {kind}"
            )
    for field, allowed, what in (
        (pb.Field.Namespace, config.allow_namespaces, "namespaces"),
        (pb.Field.Sysctl, config.allow_sysctl, "sysctls"),
    ):
        entries = owners.entries(id, field)
        if entries and not allowed:
            who = ", ".join(sorted({owner.lstrip("-") for owner in entries.values()}))
            raise PermissionDenied(f"NRI plugin {who} may not change {what} of container {id}")
    missing = sorted(set(required(config, pod, container)) - set(plugins))
    if missing:
        raise FailedPrecondition(
            f"container {id} needs NRI plugins that are not registered: {', '.join(missing)}"
        )


def _seccomp_of(container: pb.Container) -> str:
    if not container.linux.HasField("seccomp_profile"):
        return "unconfined"
    kind = container.linux.seccomp_profile.profile_type
    return pb.SecurityProfile.ProfileType.Name(kind).lower()


def required(config: NriConfig, pod: pb.PodSandbox, container: pb.Container) -> list[str]:
    """Return the names of the plugins without which a container must not be made.

    Raises:
      InvalidArgument: the pod's annotation is no list of names.
    """
    names = list(config.required_plugins)
    for key in (
        f"{REQUIRED_ANNOTATION}/container.{container.name}",
        f"{REQUIRED_ANNOTATION}/pod",
        REQUIRED_ANNOTATION,
    ):
        if key in pod.annotations:
            return names + _names(key, pod.annotations[key])
    return names


def _names(key: str, text: str) -> list[str]:
    """Return a list in JSON, or in YAML's two simple forms."""
    stripped = text.strip()
    try:
        found = json.loads(stripped)
    except (ValueError, RecursionError):
        if stripped.startswith("[") and stripped.endswith("]"):
            found = [item.strip(" \"'") for item in stripped[1:-1].split(",") if item.strip()]
        else:
            lines = [line.strip() for line in stripped.splitlines() if line.strip()]
            if not all(line.startswith("- ") for line in lines):
                raise InvalidArgument(f"annotation {key}: {text!r} is no list of names") from None
            found = [line[2:].strip(" \"'") for line in lines]
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise InvalidArgument(f"annotation {key}: {text!r} is no list of names")
    return found
