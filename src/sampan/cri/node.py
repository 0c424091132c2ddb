"""What the CRI says of this node: Status, RuntimeConfig, UpdateRuntimeConfig."""

from __future__ import annotations

import json
import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sampan.api.cri.v1 import api_pb2 as pb

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["runtime_config", "status", "update_runtime_config"]

log = logging.getLogger(__name__)


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
    """Write the CNI configuration from its template, once kubelet knows the pods' range."""
    template = cri.settings.runtime.cni.conf_template
    cidr = request.runtime_config.network_config.pod_cidr
    if not cidr or not template:
        log.info("pod range is noted, and there is no CNI template to write: cidr=%s", cidr)
    return pb.UpdateRuntimeConfigResponse()
