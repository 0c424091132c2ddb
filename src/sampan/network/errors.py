"""What a CNI plugin says when it refuses, with its own code.

Source: CNI specification 1.1.0, section 5 "Result types", "Error".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sampan.errors import Unknown

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
