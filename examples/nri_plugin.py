"""An NRI plugin in Python: gives each container a scratch folder of its own and tells what it did.

Install it with an entry point, and turn NRI on:

    [project.entry-points."sampan.nri"]
    "10-scratch" = "nri_plugin:Scratch"
"""

from __future__ import annotations

import logging

from sampan.api.nri.v1alpha1 import api_pb2 as pb

log = logging.getLogger(__name__)


class Scratch:
    """A tmpfs at /scratch, as large as the pod's annotation `scratch-size` says."""

    def create_container(
        self, pod: pb.PodSandbox, container: pb.Container
    ) -> pb.ContainerAdjustment:
        size = pod.annotations.get("scratch-size", "16m")
        if not size.rstrip("kmg").isdigit():
            raise ValueError(f"scratch-size {size!r} is no size")  # refuses the container
        adjust = pb.ContainerAdjustment()
        adjust.mounts.add(
            destination="/scratch",
            type="tmpfs",
            source="tmpfs",
            options=["nosuid", "nodev", f"size={size}"],
        )
        adjust.env.add(key="SCRATCH", value="/scratch")
        return adjust

    async def stop_container(self, pod: pb.PodSandbox, container: pb.Container) -> None:
        log.info("%s of pod %s has ended: code %d", container.name, pod.name, container.exit_code)
