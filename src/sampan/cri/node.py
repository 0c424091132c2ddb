"""What the CRI says of this node: Status, RuntimeConfig, UpdateRuntimeConfig."""

from __future__ import annotations

import ipaddress
import json
import logging
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.concurrency import to_thread
from sampan.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["runtime_config", "status", "update_runtime_config"]

log = logging.getLogger(__name__)

_TEMPLATED: Final = "10-containerd-net"
_RANGE: Final = re.compile(
    r"{{\s*range (?:(?P<index>\$\w+),\s*\$\w+\s*:=\s*)?\.PodCIDRRanges\s*}}"
    r"(?P<body>(?:{{\s*if.*?{{\s*end\s*}}|.)*?){{\s*end\s*}}",
    re.DOTALL,
)


async def status(cri: Cri, request: pb.StatusRequest) -> pb.StatusResponse:
    """Tell whether pods can be run, and what the runtime handlers can do."""
    answer = pb.StatusResponse()
    network = await cri.networks.status()
    conditions = answer.status.conditions
    conditions.add(type="RuntimeReady", status=True)
    reason, message = ("", "") if network.ready else (network.reason, network.message)
    conditions.add(type="NetworkReady", status=network.ready, reason=reason, message=message)
    conditions.add(type="ContainerdHasNoDeprecationWarnings", status=True)
    for name in ("", *cri.settings.runtime.containerd.runtimes):
        handler = answer.runtime_handlers.add(name=name)
        handler.features.recursive_read_only_mounts = True
        handler.features.user_namespaces = user_namespaces()
    answer.features.supplemental_groups_policy = True
    answer.features.user_namespaces_host_network = user_namespaces()
    answer.features.mount_options = True
    if request.verbose:
        answer.info["config"] = json.dumps(msgspec.to_builtins(cri.settings, enc_hook=float))
        answer.info["cniconfig"] = json.dumps({"Networks": list(network.networks)})
        answer.info["golang"] = "none: sampan is written in Python"
        answer.info["lastCNILoadStatus"] = "OK" if network.ready else network.message
    return answer


@cache
def user_namespaces() -> bool:
    """Tell whether this kernel makes user namespaces."""
    try:
        return int(Path("/proc/sys/user/max_user_namespaces").read_text()) > 0
    except (OSError, ValueError):
        return False


def runtime_config(cri: Cri) -> pb.RuntimeConfigResponse:
    """Tell who manages cgroups."""
    handler = cri.settings.handler("")
    systemd = handler is not None and handler.runc_options().systemd_cgroup
    answer = pb.RuntimeConfigResponse()
    answer.linux.cgroup_driver = pb.SYSTEMD if systemd else pb.CGROUPFS
    return answer


async def update_runtime_config(
    cri: Cri, request: pb.UpdateRuntimeConfigRequest
) -> pb.UpdateRuntimeConfigResponse:
    """Write the CNI configuration from its template, now that kubelet knows the pods' ranges.

    The template is containerd's: `{{.PodCIDR}}`, and `{{range .PodCIDRRanges}}...{{end}}`.

    Raises:
      InvalidArgument: a range is none.
      FailedPrecondition: the template cannot be read.
    """
    cni = cri.settings.runtime.cni
    cidr = request.runtime_config.network_config.pod_cidr
    if not cidr:
        return pb.UpdateRuntimeConfigResponse()
    ranges = [one.strip() for one in cidr.split(",")]
    for one in ranges:
        try:
            ipaddress.ip_network(one)
        except ValueError as err:
            raise InvalidArgument(f"pod range {one!r}: {err}") from err
    if not cni.conf_template:
        log.info("pod ranges are known, and no CNI template is to be filled: %s", cidr)
        return pb.UpdateRuntimeConfigResponse()
    await to_thread(_write_template, Path(cni.conf_template), Path(cni.conf_dir), ranges)
    return pb.UpdateRuntimeConfigResponse()


def _write_template(template: Path, folder: Path, ranges: list[str]) -> None:
    try:
        text = template.read_text("utf-8")
    except OSError as err:
        raise FailedPrecondition(f"CNI template {template}: {err.strerror}") from err
    if any(not one.name.startswith(_TEMPLATED) for one in _configurations(folder)):
        log.info("CNI template is not used: %s has a configuration of its own", folder)
        return
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = folder / f".{_TEMPLATED}"
    temporary.write_text(filled(text, ranges), "utf-8")
    temporary.rename(folder / f"{_TEMPLATED}.conflist")


def _configurations(folder: Path) -> list[Path]:
    return [one for end in ("conf", "conflist", "json") for one in folder.glob(f"*.{end}")]


def filled(text: str, ranges: list[str]) -> str:
    """Return a CNI template with its fields filled in."""

    def repeated(match: re.Match[str]) -> str:
        parts = [re.sub(r"{{\s*\.\s*}}", one, match["body"]) for one in ranges]
        if match["index"]:
            # `{{if $i}}, {{end}}`: what stands between two of them.
            name = re.escape(match["index"])
            between = re.compile(rf"{{{{\s*if {name}\s*}}}}(.*?){{{{\s*end\s*}}}}", re.DOTALL)
            parts = [between.sub(r"\1" if turn else "", one) for turn, one in enumerate(parts)]
        return "".join(parts)

    text = _RANGE.sub(repeated, text)
    return re.sub(r"{{\s*\.PodCIDR\s*}}", ranges[0], text)
