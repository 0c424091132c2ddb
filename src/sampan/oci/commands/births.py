"""create, run and exec: the commands that bear a process."""

# ruff: noqa: A001  id and globals are runc's words

from __future__ import annotations

import os

from sampan.errors import InvalidArgument
from sampan.linux import prctl
from sampan.model.runtime.process import Process, User
from sampan.model.runtime.spec import Spec, parse_process, read_spec
from sampan.oci import foreground
from sampan.oci.arguments import Flags, parse
from sampan.oci.commands import is_rootless, one_id, state_root
from sampan.oci.container import Container, load
from sampan.oci.creation import create as create_container
from sampan.oci.protection import require_protection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["create", "exec_", "run"]

_CREATE = "bundle=|b console-socket= pid-file= no-pivot no-new-keyring preserve-fds= pidfd-socket="
_EXEC = (
    "console-socket= cwd= env=|e tty|t user=|u additional-gids=|g process=|p detach|d pid-file="
    " process-label= apparmor= no-new-privs cap=|c preserve-fds= cgroup= ignore-paused"
    " pidfd-socket="
)


def create(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, _CREATE)
    _create_container(globals, flags, one_id(flags, "create"), detached=True)
    return 0


def run(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, _CREATE + " detach|d keep no-subreaper")
    id = one_id(flags, "run")
    if not flags.has("no-subreaper") and not flags.has("detach"):
        prctl.set_child_subreaper(True)
    container = _create_container(globals, flags, id, detached=flags.has("detach"))
    try:
        container.start()
        if flags.has("detach"):
            return 0
        status = _relay(container.pid, container.pidfd, container.detach_console())
    except BaseException:
        container.delete(force=True)
        raise
    if not flags.has("keep"):
        container.delete(force=True)
    return status


def _relay(pid: int, pidfd: int, console: int) -> int:
    """Wait for a foreground process, forwarding signals and its terminal; return its exit code."""
    return foreground.wait(pid, pidfd, console)


def _create_container(globals: Flags, flags: Flags, id: str, *, detached: bool) -> Container:
    require_protection()
    bundle = flags.get("bundle") or os.getcwd()
    listen_fds = _listen_fds()
    spec = _with_listen_fds(bundle, listen_fds) if listen_fds else None
    return create_container(
        root=state_root(globals),
        id=id,
        bundle=bundle,
        console_socket=flags.get("console-socket") or None,
        pid_file=flags.get("pid-file") or None,
        no_pivot=flags.has("no-pivot"),
        no_new_keyring=flags.has("no-new-keyring"),
        systemd_cgroup=globals.has("systemd-cgroup"),
        rootless=is_rootless(globals),
        pidfd_socket=flags.get("pidfd-socket") or None,
        preserve_fds=flags.number("preserve-fds"),
        spec=spec,
        listen_fds=listen_fds,
        detached=detached,
        stdio=(0, 1, 2),
    )


def _listen_fds() -> int:
    """Return how many sockets systemd has passed to us, for the container's program.

    Source: sd_listen_fds(3).
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    count = os.environ.get("LISTEN_FDS", "")
    return int(count) if count.isascii() and count.isdigit() and len(count) < 4 else 0


def _with_listen_fds(bundle: str, count: int) -> Spec:
    spec = read_spec(os.path.join(bundle, "config.json"))
    if spec.process is None:
        return spec
    env = (*spec.process.env, f"LISTEN_FDS={count}", "LISTEN_PID=1")
    return spec.replace(process=spec.process.replace(env=env))


def exec_(globals: Flags, words: list[str]) -> int:
    require_protection()
    flags, rest = parse(words, _EXEC, stop_after=1)
    if not flags.rest:
        raise InvalidArgument('sampan-oci: "exec" requires a minimum of 1 argument(s)')
    if rest[:1] == ["--"]:
        rest = rest[1:]
    container = load(state_root(globals), flags.rest[0])
    wanted = _exec_process(container.spec.process or Process(), flags, rest)
    if wanted.terminal and flags.has("detach") and not flags.get("console-socket"):
        raise InvalidArgument(
            "cannot allocate tty if the runtime will detach without setting console socket"
        )
    child = container.exec(
        wanted,
        console_socket=flags.get("console-socket") or None,
        preserve_fds=flags.number("preserve-fds"),
        ignore_paused=flags.has("ignore-paused"),
        pid_file=flags.get("pid-file") or None,
        pidfd_socket=flags.get("pidfd-socket") or None,
        cgroup=flags.get("cgroup"),
    )
    if flags.has("detach"):
        return 0
    return _relay(child.pid, child.pidfd, child.console)


def _exec_process(base: Process, flags: Flags, args: list[str]) -> Process:
    if flags.get("process"):
        with open(flags.get("process"), "rb") as file:
            return parse_process(file.read())
    if not args:
        raise InvalidArgument("exec args cannot be empty")
    changes: dict[str, Any] = {"args": tuple(args), "terminal": flags.has("tty")}
    changes["env"] = (*base.env, *flags.all("env"))
    if flags.get("cwd"):
        changes["cwd"] = flags.get("cwd")
    if flags.get("user"):
        changes["user"] = _user(flags.get("user"), base.user)
    if flags.all("additional-gids"):
        gids = tuple(_id(gid) for gid in flags.all("additional-gids"))
        changes["user"] = changes.get("user", base.user).replace(additional_gids=gids)
    if flags.has("no-new-privs"):
        changes["no_new_privileges"] = True
    if flags.get("apparmor"):
        changes["apparmor_profile"] = flags.get("apparmor")
    if flags.get("process-label"):
        changes["selinux_label"] = flags.get("process-label")
    if flags.all("cap") and base.capabilities is not None:
        more = tuple(flags.all("cap"))
        caps = base.capabilities
        changes["capabilities"] = caps.replace(
            bounding=caps.bounding + more,
            effective=caps.effective + more,
            permitted=caps.permitted + more,
        )
    return base.replace(**changes)


def _user(text: str, base: User) -> User:
    uid, colon, gid = text.partition(":")
    return base.replace(uid=_id(uid), gid=_id(gid) if colon else base.gid)


def _id(text: str) -> int:
    # Never bare int(): "+1", "1_0" and full-width digits would pass (CVE-2026-30892).
    if not (text.isascii() and text.isdigit()) or int(text) >= (1 << 32) - 1:
        raise InvalidArgument(f"{text!r} is no user or group id")
    return int(text)
