"""A call of a plugin, whoever serves it: an executable, or our own code in process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["SEARCH_PATH", "Call"]

SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of one plugin, whoever serves it."""

    command: str
    conf: Mapping[str, Any]
    """What stands on stdin, prevResult and runtimeConfig included."""
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    args: str = ""
    path: str = ""
    """CNI_PATH: folders of executables, by colons."""

    @property
    def type(self) -> str:
        """Of the plugin."""
        return str(self.conf.get("type", ""))

    def environment(self) -> dict[str, str]:
        """Return the whole environment for the executable."""
        env = {"PATH": SEARCH_PATH, "CNI_COMMAND": self.command, "CNI_PATH": self.path}
        if self.command in ("ADD", "DEL", "CHECK"):
            env |= {
                "CNI_CONTAINERID": self.container_id,
                "CNI_NETNS": self.netns,
                "CNI_IFNAME": self.ifname,
                "CNI_ARGS": self.args,
            }
        return env
