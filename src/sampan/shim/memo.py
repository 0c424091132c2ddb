"""A note in the bundle of which runtime has the container, for `delete` behind a dead shim.

<bundle>/sampan-runtime.json    ["runc", "/run/containerd/runc/default"]; "" is sampan.oci
"""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument
from sampan.model.runtime.document import dumps, loads

__all__ = ["recall", "remember"]

_NAME = "sampan-runtime.json"


def remember(bundle: str, binary: str, root: str) -> None:
    """Note it, before the runtime makes anything.

    Raises:
      InvalidArgument: the bundle is not there, or cannot be written to.
    """
    try:
        with open(os.path.join(bundle, _NAME), "w") as file:
            file.write(dumps([binary, root]))
    except OSError as err:
        raise InvalidArgument(f"create: bundle {bundle}: {err.strerror}") from err


def recall(bundle: str, root: str) -> tuple[str, str]:
    """Return binary and root; sampan.oci and `root` where nothing was noted."""
    try:
        with open(os.path.join(bundle, _NAME), "rb") as file:
            binary, noted = loads(file.read())
    except (OSError, ValueError, TypeError):
        return "", root
    return str(binary), str(noted)
