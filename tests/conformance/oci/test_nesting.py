"""A container runtime in our container: ours again, and runc; privileged, as docker-in-docker."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sampan
from sampan.linux import capabilities
from sampan.testing import Bundle, Runtime, requires
from sampan.testing.bundle import default_config
from sampan.testing.rootfs import copy_rootfs
from sampan.testing.runtimes import sampan_oci

pytestmark = requires("root", "busybox")


def make_privileged(bundle: Bundle, busybox: Path) -> None:
    """Show the host's programs and our package, and take all limits away."""
    everything = list(capabilities.NAMES)
    bundle.process["capabilities"] = dict.fromkeys(
        ("bounding", "effective", "permitted"), everything
    )
    bundle.process["noNewPrivileges"] = False
    bundle.linux.update({"maskedPaths": [], "readonlyPaths": []})
    bundle.linux["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
    bundle.linux["namespaces"].append({"type": "cgroup"})
    for mount in bundle.config["mounts"]:
        if mount["destination"] == "/sys":
            mount["options"] = ["nosuid", "noexec", "nodev"]
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "rw")
    bundle.mount("/tmp", "tmpfs", "tmpfs", "mode=1777")
    bundle.bind_host_programs()
    for path in {Path(sys.prefix), Path(sampan.__file__).parents[1]}:
        if not path.is_relative_to("/usr"):
            bundle.mount(str(path), "bind", str(path), "rbind", "ro")
    inner = bundle.path / "inner"
    inner.mkdir()
    copy_rootfs(busybox, inner / "rootfs")
    config = default_config(("sh", "-c", "id -u; hostname; cat /proc/1/comm"), cgroup="/inner")
    config["hostname"] = "innermost"
    config["linux"]["resources"]["pids"] = {"limit": 20}
    (inner / "config.json").write_text(json.dumps(config))
    bundle.mount("/inner", "bind", str(inner), "rbind", "rw")


@pytest.mark.parametrize("inner", ["sampan", "runc"])
@pytest.mark.parametrize("outer", ["sampan-exec", "sampan-fork"])
def test_one_inside_the_other(
    make_runtime: Callable[[str], Runtime], bundle: Bundle, busybox: Path, outer: str, inner: str
) -> None:
    make_privileged(bundle, busybox)
    program = sampan_oci() if inner == "sampan" else (shutil.which("runc") or "/usr/sbin/runc",)
    command = [*program, "--root", "/tmp/state", "run", "--bundle", "/inner", "c1"]
    bundle.process["env"] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SAMPAN_STATE=/tmp/sampan"]
    result = make_runtime(outer).run(bundle, *command, timeout_s=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[:2] == ["0", "innermost"]
