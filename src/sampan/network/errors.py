"""What a CNI plugin says when it refuses, with its own code.

Source: CNI specification 1.1.0, section 5 "Result types", "Error".
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from sampan.errors import FailedPrecondition, ResourceExhausted, Unavailable, Unknown

__all__ = [
    "DECODING_FAILURE",
    "INCOMPATIBLE_VERSION",
    "INTERNAL",
    "INVALID_CONFIG",
    "INVALID_ENVIRONMENT",
    "IO_FAILURE",
    "LIMITED_CONNECTIVITY",
    "PLUGIN_NOT_AVAILABLE",
    "TRY_AGAIN_LATER",
    "UNKNOWN_CONTAINER",
    "UNSUPPORTED_FIELD",
    "PluginError",
    "on_disk",
]

INCOMPATIBLE_VERSION: Final = 1
UNSUPPORTED_FIELD: Final = 2
UNKNOWN_CONTAINER: Final = 3
INVALID_ENVIRONMENT: Final = 4
IO_FAILURE: Final = 5
DECODING_FAILURE: Final = 6
INVALID_CONFIG: Final = 7
TRY_AGAIN_LATER: Final = 11
PLUGIN_NOT_AVAILABLE: Final = 50
LIMITED_CONNECTIVITY: Final = 51
INTERNAL: Final = 999


class PluginError(Unknown):
    """A CNI plugin refused."""

    def __init__(self, code: int, message: str, details: str = "", *, plugin: str = "") -> None:
        self.code = code
        self.message = message
        self.details = details
        self.plugin = plugin
        """Its type; empty while it speaks for itself."""
        where = f"CNI plugin {plugin}: " if plugin else ""
        more = f"; {details}" if details else ""
        super().__init__(f"{where}{message}{more} (code {code})")

    def json(self, version: str) -> Mapping[str, object]:
        """Return it as a plugin prints it."""
        said: dict[str, object] = {
            "cniVersion": version,
            "code": self.code,
            "msg": self.message,
        }
        if self.details:
            said["details"] = self.details
        return said

    def named(self, plugin: str) -> PluginError:
        """Return the same with the plugin's type in its message."""
        return PluginError(self.code, self.message, self.details, plugin=plugin)


@contextmanager
def on_disk(what: str) -> Iterator[None]:
    """Translate what the file system says while `what` was tried.

    Raises:
      ResourceExhausted: the disk or a quota is full.
      FailedPrecondition: it is read-only, or we may not write there.
      Unavailable: anything else.
    """
    try:
        yield
    except OSError as error:
        kind: type[ResourceExhausted | FailedPrecondition | Unavailable] = Unavailable
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            kind = ResourceExhausted
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            kind = FailedPrecondition
        where = f" {error.filename}" if error.filename else ""
        raise kind(f"{what}:{where}: {os.strerror(error.errno or 0)}") from error
