"""`process`: what runs, as docker makes it of flags and image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from sampan.client.spec.mounts import INIT_PATH
from sampan.client.spec.request import Request, Rlimit
from sampan.client.spec.users import group_ids, resolve
from sampan.errors import InvalidArgument
from sampan.model.runtime.defaults import DEFAULT_PATH, capability_sets
from sampan.model.runtime.process import Process, User
from sampan.model.runtime.process import Rlimit as SpecRlimit

if TYPE_CHECKING:
    from sampan.model.image import ContainerConfig

__all__ = ["process_of"]

_RLIMITS: Final = frozenset((
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc",
    "rss", "rtprio", "rttime", "sigpending", "stack",
))  # fmt: skip
_UNLIMITED: Final = (1 << 64) - 1


def process_of(
    request: Request,
    image: ContainerConfig | None,
    capabilities: tuple[str, ...],
    root_fd: int = -1,
) -> Process:
    """Return the process.

    An entrypoint that is given discards the image's command, too.

    Args:
      request: Policy.
      image: Content; None for a root without one.
      capabilities: Those it shall have.
      root_fd: Borrowed; the root, to look users up in; -1 when numbers must do.

    Raises:
      InvalidArgument: no command, no such user, or a malformed value.
    """
    entrypoint, command = request.entrypoint, request.args
    if entrypoint is None:
        entrypoint = tuple((image and image.entrypoint) or ())
        if not command:
            command = tuple((image and image.cmd) or ())
    args = (*(part for part in entrypoint if part or len(entrypoint) > 1), *command)
    if not args:
        raise InvalidArgument("no command: the image has none, so name one after the image")
    if request.init:
        args = (INIT_PATH, "--", *args)
    adjustment = request.oom_score_adj
    if adjustment is not None and not -1000 <= adjustment <= 1000:
        raise InvalidArgument(f"oom score adjustment {adjustment} is not from -1000 to 1000")
    return Process(
        terminal=request.tty,
        user=_user(request, image, root_fd),
        args=args,
        env=_environment(tuple((image and image.env) or ()), request),
        cwd=_cwd(request.cwd or (image.working_dir if image else "")),
        capabilities=capability_sets(capabilities),
        rlimits=tuple(_rlimit(one) for one in request.rlimits),
        no_new_privileges=request.no_new_privileges,
        apparmor_profile=request.apparmor,
        selinux_label=request.selinux_label,
        oom_score_adj=adjustment,
    )


def _user(request: Request, image: ContainerConfig | None, root_fd: int) -> User:
    name = request.user or (image.user if image else "")
    found = resolve(name, root_fd) if name else User()
    if not request.groups:
        return found
    more = {*found.additional_gids, *group_ids(request.groups, root_fd)}
    return found.replace(additional_gids=tuple(sorted(more)))


def _rlimit(one: Rlimit) -> SpecRlimit:
    if one.name not in _RLIMITS:
        raise InvalidArgument(
            f"unknown limit {one.name!r}: there are {', '.join(sorted(_RLIMITS))}"
        )
    soft, hard = (_UNLIMITED if value == -1 else value for value in (one.soft, one.hard))
    if soft < 0 or hard < 0 or soft > hard:
        raise InvalidArgument(f"limit {one.name}: soft {one.soft} is more than hard {one.hard}")
    return SpecRlimit(type=f"RLIMIT_{one.name.upper()}", soft=soft, hard=hard)


def _cwd(path: str) -> str:
    if path and not path.startswith("/"):
        raise InvalidArgument(f"working folder {path!r} must be an absolute path")
    return os.path.normpath(path) if path else "/"


def _environment(image: tuple[str, ...], request: Request) -> tuple[str, ...]:
    values = {"PATH": DEFAULT_PATH}
    if request.tty:
        values["TERM"] = "xterm"
    if request.hostname:
        values["HOSTNAME"] = request.hostname
    for pair in (*image, *request.env):
        name, equals, value = pair.partition("=")
        if not name or "\0" in pair:
            raise InvalidArgument(f"environment variable {pair!r} is not NAME=VALUE")
        if equals:
            values[name] = value
        else:
            values.pop(name, None)
    return tuple(f"{name}={value}" for name, value in values.items())
