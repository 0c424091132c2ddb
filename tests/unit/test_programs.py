"""What each program loads when it starts: start-up is where Sampan wins or loses."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

SLOW = {"asyncio", "grpclib", "google.protobuf", "sqlite3", "msgspec", "aiohttp", "rich", "typing"}
"""Never loaded by `oci`, `shim` and `zygote`, which start cold or are forked by the hundred."""

OCI_ROOMS = {"oci", "linux", "cgroups", "model", "errors"}

PROGRAMS = {
    "sampan.oci.main": (OCI_ROOMS, SLOW | {"logging", "re", "subprocess", "dataclasses"}),
    "sampan.zygote.server": ({"zygote", "linux", "errors"}, SLOW | {"logging", "subprocess"}),
    "sampan.shim.main": (
        OCI_ROOMS | {"shim", "rpc", "zygote", "api"},
        (SLOW - {"google.protobuf", "typing"}) | {"subprocess"},
    ),
    "sampan.cli.main": (
        {"cli", "client", "errors", "model", "context"},
        {"grpclib", "sqlite3", "aiohttp", "google.protobuf"},
    ),
    "sampan.model.runtime.spec": ({"model", "errors"}, SLOW | {"re", "dataclasses"}),
}
"""Module to the rooms it may load, and the modules it must not."""

LOADED = """
import json, sys
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.mark.parametrize("module", PROGRAMS)
def test_it_loads_only_what_is_allowed(module: str) -> None:
    if _absent(module):
        pytest.skip(f"no module {module}")
    rooms, banned = PROGRAMS[module]
    code = f"import sys; sys.path[:0] = {sys.path!r};" + LOADED.format(module=module)
    out = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert out.returncode == 0, out.stderr
    loaded = set(json.loads(out.stdout))
    assert loaded & banned == set()
    own = {name.split(".")[1] for name in loaded if name.startswith("sampan.")}
    assert own <= rooms


def test_the_package_itself_loads_nothing() -> None:
    code = LOADED.format(module="sampan")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name for name in json.loads(out.stdout) if name.startswith("sampan")} == {"sampan"}


def _absent(module: str) -> bool:
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:
        return True
