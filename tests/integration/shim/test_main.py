"""The program: what containerd runs behind a shim that was killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any as Untyped

import pytest

from sampan.linux.process import pidfd_open, pidfd_wait
from sampan.rpc.messages.task import DeleteResponse
from sampan.rpc.messages.types import RuntimeInfo
from sampan.testing import requires


@requires("root", "busybox")
@pytest.mark.parametrize("kind", ["native", pytest.param("runc", marks=requires("runc"))])
def test_delete_behind_a_killed_shim(
    new_shim: Callable[..., Untyped], kind: str, folder: Path
) -> None:
    shim = new_shim(kind, folder, "sleep", "100")
    try:
        pid = shim.create().pid
        shim.call("Start", id="c1")
        init = pidfd_open(pid)
        os.kill(shim.pid, signal.SIGKILL)
        assert pidfd_wait(shim.pidfd, 10)
        arguments = ["-namespace", "t", "-id", "c1", "-bundle", str(shim.bundle), "delete"]
        done = subprocess.run(
            [sys.executable, "-m", "sampan.shim.main", *arguments],
            capture_output=True, timeout=30, check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        answer = DeleteResponse.decode(done.stdout)
        assert (answer.pid, answer.exit_status) == (pid, 137)
        assert pidfd_wait(init, 10)
        os.close(init)
        assert list((folder / "root").glob("t/*")) == []
        assert not os.path.lexists(shim.address)
    finally:
        shim.close()


def test_info_tells_the_features() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sampan.shim.main", "-info"],
        capture_output=True, timeout=30, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    info = RuntimeInfo.decode(done.stdout)
    assert info.name == "io.containerd.sampan.v2"
    assert info.features is not None
    assert info.features.type_url.endswith("/features/Features")
    assert "rbind" in json.loads(info.features.value)["mountOptions"]
