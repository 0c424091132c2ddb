"""A shim that was told to go when its container has ended."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any as Untyped

from sampan.linux.process import pidfd_wait
from sampan.rpc.client import Client
from sampan.rpc.messages import task
from sampan.shim import farewell
from sampan.shim.config import Config
from sampan.testing import requires
from sampan.zygote import Zygote

pytestmark = requires("root", "busybox")

SERVICE = "containerd.task.v2.Task"


def test_it_writes_down_how_it_ended_and_leaves_nothing(
    folder: Path, make_bundle: Callable[..., None]
) -> None:
    assert farewell.Farewell.__module__ == "sampan.shim.farewell"
    bundle = folder / "bundle"
    bundle.mkdir()
    make_bundle(bundle, "sh", "-c", "read x; exit 5")
    ours, theirs = socket.socketpair()
    config = Config(
        id="c1", namespace="t", bundle=str(bundle), oci_root=str(folder / "oci"),
        connection_fd=0, rest_s=0.02, leave_after_s=0.1,
    )  # fmt: skip

    def call(client: Client, method: str, **fields: object) -> Untyped:
        request, answer = task.METHODS[method]
        return client.call(SERVICE, method, request(**fields), answer, timeout_s=20)

    with Zygote.start(("sampan.oci", "sampan.shim.preloaded")) as zygote:
        with theirs:
            fds = [theirs.fileno()]
            worker = zygote.fork("sampan.shim.serve:worker", config.to_json(), fds)
        with worker, Client(ours) as client:
            pid = call(client, "Create", id="c1", bundle=str(bundle)).pid
            call(client, "Start", id="c1")
            assert call(client, "Wait", id="c1").exit_status == 5
            assert pidfd_wait(worker.pidfd, 20)
            assert worker.wait(0) == 0
    noted = json.loads((bundle / "exit").read_text())
    assert (noted["pid"], noted["status"]) == (pid, 5)
    assert not (bundle / "ended").exists()
    assert not list((folder / "oci").glob("t/*"))
