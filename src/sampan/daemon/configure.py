"""`sampand config`: containerd's words about configuration, answered by us.

sampand config default            what an empty file means, in full (version 4)
sampand -c FILE config dump       what FILE and its imports amount to, over the defaults
sampand -c FILE config migrate    what FILE says, as version 4; twice is once
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sampan.engine import toml
from sampan.engine.checking import builtins_of
from sampan.engine.containerd import Loaded, defaults, is_foreign
from sampan.engine.discovery import builtin, third_party
from sampan.engine.file import parse
from sampan.engine.foreign import SECTION

__all__ = ["ACTIONS", "answer"]

ACTIONS = ("default", "dump", "migrate")


def answer(action: str, path: Path) -> str:
    """Return what `sampand config ACTION` prints.

    Raises:
      InvalidArgument: the file is missing or wrong.
    """
    if action == "default":
        return toml.dumps(_defaults())
    table = toml.read(path)
    if not is_foreign(table):
        return _own(action, table, path)
    loaded = Loaded.of(path, table, (*_sections(), SECTION))
    if action == "migrate":
        return toml.dumps(loaded.table)
    whole = _defaults()
    whole["imports"] = []
    toml.merge(whole, loaded.table)
    return toml.dumps(whole)


def _own(action: str, table: Mapping[str, Any], path: Path) -> str:
    """Our own file has one version, so that there is nothing to migrate."""
    file = parse(table, path)
    if action == "migrate":
        return toml.dumps(table)
    whole = builtins_of(file)
    known = _defaults()["plugins"]
    server = "io.containerd.server."
    plugins = {uri: one for uri, one in known.items() if not uri.startswith(server)}
    merged = {"plugins": plugins}
    toml.merge(merged, {"plugins": whole.pop("plugins")})
    return toml.dumps({**whole, **merged})


def _defaults() -> dict[str, Any]:
    return defaults(_sections())


def _sections() -> dict[str, Any]:
    return {
        one.uri: builtins_of(one.config())
        for one in (*builtin(), *third_party())
        if one.config is not None
    }
