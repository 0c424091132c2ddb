"""Generated modules load one by one, and say on the wire what their peers say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import sampan.api

API = Path(sampan.api.__file__).parent
GROUPS = sorted(path.name for path in API.iterdir() if (path / "__init__.py").exists())

LOAD_ALL = """
import importlib, pathlib, sys
top = pathlib.Path(sys.argv[1])
for path in sorted(top.rglob("*.py")):
    parts = path.relative_to(top.parent).with_suffix("").parts
    importlib.import_module(".".join(("sampan", *parts)))
"""

LOADED_BY = """
import json, sys
import {module}
print(json.dumps([name for name in sys.modules if name.startswith("sampan.api")]))
"""


@pytest.mark.parametrize("group", GROUPS)
def test_every_module_imports(group: str) -> None:
    code = LOAD_ALL.replace("top.rglob", f"(top / {group!r}).rglob")
    subprocess.run([sys.executable, "-c", code, str(API)], check=True, timeout=60)


def test_a_service_does_not_load_another() -> None:
    code = LOADED_BY.format(module="sampan.api.containerd.services.content.v1.content_grpc")
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
    services = {name for name in json.loads(out.stdout) if name.endswith(("_pb2", "_grpc"))}
    assert {name for name in services if ".services." in name} == {
        "sampan.api.containerd.services.content.v1.content_grpc",
        "sampan.api.containerd.services.content.v1.content_pb2",
    }


def test_names_on_the_wire_are_the_peers() -> None:
    """The package in front of a service is its path over HTTP/2, whatever folder holds the file."""
    from sampan.api.containerd.services.version.v1 import version_pb2
    from sampan.api.cri.v1 import api_pb2

    service = version_pb2.DESCRIPTOR.services_by_name["Version"]
    assert service.full_name == "containerd.services.version.v1.Version"
    assert api_pb2.DESCRIPTOR.services_by_name["ImageService"].full_name == (
        "runtime.v1.ImageService"
    )
    response = version_pb2.VersionResponse(version="v1")
    assert response.SerializeToString() == b"\x0a\x02v1"
