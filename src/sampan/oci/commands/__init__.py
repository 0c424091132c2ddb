"""The commands of `sampan-oci`, each a function of the global flags and its own words.

Each group loads on its first use: a start that only has to start imports nothing else.
"""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.oci.arguments import Flags

__all__ = ["find", "is_rootless", "load_all", "one_id", "print_line", "state_root"]

_HOMES = {
    "create": "births", "run": "births", "exec": "births",
    "start": "life", "kill": "life", "delete": "life", "pause": "life", "resume": "life",
    "state": "reports", "list": "reports", "ps": "reports", "events": "reports",
    "features": "reports",
    "update": "changes", "spec": "changes",
    "checkpoint": "checkpoints", "restore": "checkpoints",
}  # fmt: skip
_NAMES = {"exec": "exec_", "list": "list_"}


def find(command: str) -> Callable[[Flags, list[str]], int]:
    """Return the function of a command.

    Raises:
      InvalidArgument: there is no such command.
    """
    home = _HOMES.get(command)
    if home is None:
        raise InvalidArgument(f"No help topic for '{command}'")
    module = __import__(f"{__name__}.{home}", fromlist=[home])
    found: Callable[[Flags, list[str]], int] = getattr(module, _NAMES.get(command, command))
    return found


def load_all() -> None:
    """Load every group, for processes that import nothing later."""
    for command in _HOMES:
        find(command)


def state_root(flags: Flags) -> str:
    """Return the folder of all states: --root, or the user's own."""
    given = flags.get("root")
    if given:
        return os.path.realpath(given)
    if os.geteuid() != 0 and os.environ.get("XDG_RUNTIME_DIR"):
        return os.environ["XDG_RUNTIME_DIR"] + "/sampan-oci"
    return "/run/sampan-oci"


def is_rootless(flags: Flags) -> bool:
    """Return whether cgroups that we may not make are to be done without: --rootless."""
    wanted = flags.get("rootless", "auto")
    if wanted not in ("true", "false", "auto"):
        raise InvalidArgument(f"--rootless is true, false or auto, not {wanted!r}")
    return wanted == "true" or (wanted == "auto" and os.geteuid() != 0)


def one_id(flags: Flags, command: str) -> str:
    """Return the only plain word."""
    if len(flags.rest) != 1:
        raise InvalidArgument(f'sampan-oci: "{command}" requires exactly 1 argument(s)')
    return flags.rest[0]


def print_line(line: str) -> None:
    """Write a line to stdout, at once."""
    os.write(1, line.encode(errors="surrogateescape") + b"\n")
