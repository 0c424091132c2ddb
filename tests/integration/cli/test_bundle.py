"""`sampan bundle unpack`, and `run --bundle`: the folder is good for runc, too."""

import json
import os
import subprocess
from pathlib import Path

from sampan.testing import requires, unique_name

from .conftest import Sampan


def with_args(bundle: Path, *args: str) -> None:
    file = bundle / "config.json"
    spec = json.loads(file.read_text())
    spec["process"]["args"] = list(args)
    file.write_text(json.dumps(spec))


@requires("runc")
def test_a_bundle_runs_here_and_under_runc(sampan: Sampan, small: str, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    sampan("bundle", "unpack", small, str(bundle)).ok()
    assert sorted(os.listdir(bundle)) == ["config.json", "image.json", "rootfs"]
    assert sampan("run", "--rm", "--bundle", str(bundle)).ok() == "default\n"
    with_args(bundle, "sh", "-c", "echo $0; echo kept > /kept; exit 3")
    done = sampan("run", "--rm", "--bundle", str(bundle))
    assert (done.status, done.stdout) == (3, "sh\n")
    assert (bundle / "rootfs/kept").read_text() == "kept\n"
    with_args(bundle, "sh", "-c", "echo under runc")
    name = unique_name("bundle")
    command = ["runc", "--root", str(tmp_path / "runc"), "run", "-b", str(bundle), name]
    peer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert peer.stdout == "under runc\n", peer.stderr


def test_bad_bundles_are_one_sentence(sampan: Sampan, small: str, tmp_path: Path) -> None:
    assert "config.json" in sampan("run", "--rm", "--bundle", str(tmp_path)).stderr
    (tmp_path / "config.json").write_text("{}")
    assert sampan("run", "--rm", "--bundle", str(tmp_path)).status == 125
    refused = sampan("bundle", "unpack", small, str(tmp_path))
    assert (refused.status, "not empty" in refused.stderr) == (1, True)
    assert os.listdir(tmp_path) == ["config.json"]
    both = sampan("run", "--rm", "--bundle", str(tmp_path), small)
    assert (both.status, both.stderr.count("\n")) == (125, 1)
    assert sampan("run", "--rm").status == 125
    assert sampan.containers() == []
