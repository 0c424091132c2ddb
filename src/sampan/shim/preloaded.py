"""For the zygote: importing this loads all that a shim will ever need.

zygote = Zygote.start(preload=("sampan.shim.preloaded",))
zygote.fork("sampan.shim.preloaded:worker", config.to_json(), fds)
"""

from __future__ import annotations

from sampan.model.runtime import process, resources
from sampan.shim.serve import worker

__all__ = ["process", "resources", "worker"]
