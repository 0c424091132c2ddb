"""What remains when a shim has died: killed, unmounted, deleted, in a worker of the zygote."""

from __future__ import annotations

import contextlib
import json
import os

from sampan import oci
from sampan.errors import NotFound
from sampan.shim import rootfs

__all__ = ["worker"]


def worker(payload: bytes, fds: list[int]) -> int:
    """Clean up behind the container that `payload` names.

    Its `oci_root`, `namespace`, `id` and `bundle` are those of the shim's `Config`.
    """
    for fd in fds:
        os.close(fd)
    values = json.loads(payload)
    with contextlib.suppress(NotFound):
        root = os.path.join(values["oci_root"], values["namespace"])
        oci.load(root, values["id"]).delete(force=True)
    rootfs.unmount_all(os.path.join(values["bundle"], "rootfs"))
    return 0
