"""Every command loads, in a process that may import nothing later as well."""

from __future__ import annotations

import pytest

from sampan.errors import InvalidArgument
from sampan.oci import (
    arguments,
    birth,
    commands,
    container,
    creation,
    delivery,
    features,
    foreground,
    hooks,
    log,
    main,
    preloading,
    protection,
    seccomp,
)  # fmt: skip
from sampan.oci.init import detour, steps
from sampan.oci.rootfs import build, plan

NAMES = (
    "create", "start", "run", "exec", "kill", "delete", "state", "list", "ps", "pause", "resume",
    "update", "spec", "features", "events",
)  # fmt: skip
ROOM = (
    birth, container, creation, delivery, features, foreground, hooks, log, main, preloading,
    protection, seccomp, detour, steps, build, plan,
)  # fmt: skip


def test_all_are_there() -> None:
    for name in NAMES:
        assert callable(commands.find(name))
    with pytest.raises(InvalidArgument, match="No help topic"):
        commands.find("nothing")


def test_what_a_module_offers_is_there() -> None:
    for module in ROOM:
        assert all(hasattr(module, name) for name in module.__all__)


def test_rootless() -> None:
    for word, wanted in (("true", True), ("false", False)):
        flags, _ = arguments.parse([f"--rootless={word}"], "rootless=")
        assert commands.is_rootless(flags) is wanted
    flags, _ = arguments.parse(["--rootless=maybe"], "rootless=")
    with pytest.raises(InvalidArgument):
        commands.is_rootless(flags)
