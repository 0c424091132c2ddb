"""examples/nri_plugin.py does what it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError

from sampan.cri.nri import NriConfig
from sampan.cri.plugged import Plugged
from sampan.testing import requires

EXAMPLE = Path(__file__).parents[4] / "examples" / "nri_plugin.py"


def scratch() -> Any:
    found = importlib.util.spec_from_file_location("nri_plugin", EXAMPLE)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    plugin = module.Scratch()
    plugin.index = "10"
    return plugin


@requires("root", "busybox")
async def test_scratch(kubelet: Any, tmp_path: Path) -> None:
    config = NriConfig(listen=False, plugins=tmp_path, plugin_config=tmp_path)
    kubelet.cri.plugged = Plugged(kubelet.cri, config, [scratch()])
    await kubelet.cri.plugged.start()
    wanted = kubelet.pod_config()
    wanted.annotations["scratch-size"] = "1m"
    pod = await kubelet.run_pod(wanted)
    script = "df -k $SCRATCH | tail -1 | awk '{print $2}'"
    assert await kubelet.output(pod, "sh", "-c", script) == "1024\n"
    wanted = kubelet.pod_config()
    wanted.annotations["scratch-size"] = "a lot"
    pod = await kubelet.run_pod(wanted)
    with pytest.raises(GRPCError, match="no size"):
        await kubelet.create(pod, kubelet.container_config())
