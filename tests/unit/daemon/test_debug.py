"""What the debug socket says, as data; tests/integration/daemon/test_serve.py asks a real one."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sampan.daemon import debug
from sampan.daemon.served import instances
from sampan.engine import resolve


async def test_plugins_and_configuration(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[plugins."io.containerd.gc.v1.scheduler"]\nstartup_delay = "1s"\n')
    engine: Any = SimpleNamespace(settings=resolve({"config": str(file)}, {}, uid=0))
    routes = debug.routes(engine, instances())
    assert set(routes) == {"/stacks", "/tasks", "/plugins", "/config"}
    plugins = json.loads((await routes["/plugins"]()).body)
    task = next(one for one in plugins if one["id"] == "task")
    assert (task["type"], task["error"]) == ("io.containerd.runtime.v2", "")
    said = tomllib.loads((await routes["/config"]()).body.decode())
    assert said["root"] == "/var/lib/sampan"
    assert said["plugins"]["io.containerd.gc.v1.scheduler"] == {"startup_delay": "1s"}
