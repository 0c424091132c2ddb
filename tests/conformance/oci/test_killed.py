"""SIGKILL of `sampan-oci create` at any moment: `delete --force` leaves nothing."""

from __future__ import annotations

import os
import random
import select
import subprocess
from collections.abc import Callable
from pathlib import Path

from sampan.testing import Bundle, Runtime, requires
from sampan.testing.runtimes import sampan_oci

ROUNDS = 1000 if os.environ.get("SAMPAN_SOAK") == "1" else 20


@requires("root", "busybox")
def test_what_a_killed_create_left_is_deleted(
    make_runtime: Callable[[str], Runtime], bundle: Bundle
) -> None:
    """`no_leaks` judges: cgroups, mounts, processes, files."""
    runtime = make_runtime("sampan-exec")
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    moments = random.Random(seed)
    bundle.write(bundle.with_changes(("sleep", "100")))
    command = (*sampan_oci(), "--root", str(runtime.root), "create", "--bundle", str(bundle.path))
    for _ in range(ROUNDS):
        made = subprocess.Popen([*command, bundle.id], stdout=-3, stderr=-3)
        pidfd = os.pidfd_open(made.pid)
        select.select([pidfd], [], [], moments.uniform(0.005, 0.06))
        os.close(pidfd)
        made.kill()
        made.wait(10)
        result = runtime.call("delete", "--force", bundle.id)
        assert result.returncode == 0, result.stderr
        assert not (Path(runtime.root) / bundle.id).exists()
        assert not Path(f"/sys/fs/cgroup/pids/{bundle.id}").exists()
