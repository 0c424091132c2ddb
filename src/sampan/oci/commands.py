"""The commands of `sampan-oci`, each a function of the global flags and its own words."""

# ruff: noqa: A001  id is runc's word

from __future__ import annotations

import json
import os
import sys

from sampan import oci
from sampan.errors import FailedPrecondition, InvalidArgument, NotFound
from sampan.linux import prctl
from sampan.model.runtime.defaults import default_spec
from sampan.model.runtime.process import Process, User
from sampan.model.runtime.resources import CPU, BlockIO, Memory, Pids, Resources
from sampan.model.runtime.spec import parse_process
from sampan.oci import foreground
from sampan.oci.arguments import Flags, parse
from sampan.oci.container import create as _create_in_process  # noqa: F401  loaded before a fork
from sampan.oci.features import features as features_document
from sampan.oci.statefile import StateFolder, check_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["COMMANDS"]

_CREATE = "bundle=|b console-socket= pid-file= no-pivot no-new-keyring preserve-fds= pidfd-socket="
_SIGNALS = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU",
    "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
)  # fmt: skip
"""By number, from 1; `signal` costs 2 ms to import. Source: signal(7)."""
_SUFFIXES = {"k": 10, "m": 20, "g": 30, "t": 40}


def _root(flags: Flags) -> str:
    given = flags.get("root")
    if given:
        return os.path.realpath(given)
    if os.geteuid() != 0 and os.environ.get("XDG_RUNTIME_DIR"):
        return os.environ["XDG_RUNTIME_DIR"] + "/sampan-oci"
    return "/run/sampan-oci"


def _one_id(flags: Flags, command: str) -> str:
    if len(flags.rest) != 1:
        raise InvalidArgument(f'sampan-oci: "{command}" requires exactly 1 argument(s)')
    return flags.rest[0]


def _create_container(globals: Flags, flags: Flags, id: str, *, terminal_here: bool) -> Any:
    bundle = flags.get("bundle") or os.getcwd()
    return oci.create(
        root=_root(globals),
        id=id,
        bundle=bundle,
        console_socket=flags.get("console-socket") or None,
        pid_file=flags.get("pid-file") or None,
        no_pivot=flags.has("no-pivot"),
        no_new_keyring=flags.has("no-new-keyring"),
        systemd_cgroup=globals.has("systemd-cgroup"),
        preserve_fds=flags.number("preserve-fds"),
        stdio=(0, 1, 2),
    )


def create(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, _CREATE)
    _create_container(globals, flags, _one_id(flags, "create"), terminal_here=False)
    return 0


def start(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "")
    oci.load(_root(globals), _one_id(flags, "start")).start()
    return 0


def run(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, _CREATE + " detach|d keep no-subreaper")
    id = _one_id(flags, "run")
    if not flags.has("no-subreaper") and not flags.has("detach"):
        prctl.set_child_subreaper(True)
    container = _create_container(globals, flags, id, terminal_here=True)
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


def exec_(globals: Flags, words: list[str]) -> int:
    known = (
        "console-socket= cwd= env=|e tty|t user=|u additional-gids=|g process=|p detach|d pid-file="
        " process-label= apparmor= no-new-privs cap=|c preserve-fds= cgroup= ignore-paused"
        " pidfd-socket="
    )
    flags, rest = parse(words, known, stop_after=1)
    if not flags.rest:
        raise InvalidArgument('sampan-oci: "exec" requires a minimum of 1 argument(s)')
    if rest[:1] == ["--"]:
        rest = rest[1:]
    container = oci.load(_root(globals), flags.rest[0])
    wanted = _exec_process(container.spec.process or Process(), flags, rest)
    child = container.exec(
        wanted,
        console_socket=flags.get("console-socket") or None,
        preserve_fds=flags.number("preserve-fds"),
        ignore_paused=flags.has("ignore-paused"),
        pid_file=flags.get("pid-file") or None,
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


def kill(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "all|a")
    if not 1 <= len(flags.rest) <= 2:
        raise InvalidArgument('sampan-oci: "kill" requires a minimum of 1 argument(s)')
    number = _signal(flags.rest[1] if len(flags.rest) > 1 else "SIGTERM")
    oci.load(_root(globals), flags.rest[0]).kill(number, all=flags.has("all"))
    return 0


def _signal(text: str) -> int:

    if text.isascii() and text.isdigit() and 0 < int(text) < 65:
        return int(text)
    name = text.upper().removeprefix("SIG")
    if name not in _SIGNALS:
        raise InvalidArgument(f"unknown signal {text!r}")
    return _SIGNALS.index(name) + 1


def delete(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "force|f")
    id, force = _one_id(flags, "delete"), flags.has("force")
    try:
        container = oci.load(_root(globals), id)
    except NotFound:
        if not force:
            raise
        check_id(id)
        if os.path.isdir(f"{_root(globals)}/{id}"):
            StateFolder.open(_root(globals), id).remove()  # a create that died early
        return 0
    container.delete(force=force)
    return 0


def state(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "")
    found = oci.load(_root(globals), _one_id(flags, "state"))
    now = found.state()
    document: dict[str, Any] = {
        "ociVersion": now.oci_version,
        "id": now.id,
        "pid": now.pid,
        "status": now.status,
        "bundle": now.bundle,
        "rootfs": os.path.join(now.bundle, (found.spec.root.path if found.spec.root else "")),
        "created": now.created,
    }
    if now.annotations:
        document["annotations"] = now.annotations
    document["owner"] = now.owner
    _print(json.dumps(document, indent=2))
    return 0


def list_(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "format=|f quiet|q")
    if flags.get("format", "table") not in ("table", "json"):
        raise InvalidArgument("invalid format option")
    try:
        states = [c.state() for c in oci.list_containers(_root(globals))]
    except NotFound:
        if globals.get("root"):
            raise
        states = []
    if flags.has("quiet"):
        for each in states:
            _print(each.id)
        return 0
    if flags.get("format") == "json":
        _print(json.dumps([_listed(s) for s in states]) if states else "null")
        return 0
    rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    rows += [(s.id, str(s.pid), s.status, s.bundle, s.created, s.owner or "root") for s in states]
    widths = [max(12, *(len(row[i]) + 3 if i < 5 else 0 for row in rows)) for i in range(6)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        _print("".join(cells) + row[-1])
    return 0


def _listed(found: oci.State) -> dict[str, Any]:
    return {
        "ociVersion": found.oci_version,
        "id": found.id,
        "pid": found.pid,
        "status": found.status,
        "bundle": found.bundle,
        "created": found.created,
        "annotations": found.annotations or None,
        "owner": found.owner or "root",
    }


def ps(globals: Flags, words: list[str]) -> int:
    flags, rest = parse(words, "format=|f", stop_after=1)
    if not flags.rest:
        raise InvalidArgument('sampan-oci: "ps" requires a minimum of 1 argument(s)')
    pids = oci.load(_root(globals), flags.rest[0]).processes()
    if flags.get("format") == "json":
        _print(json.dumps(pids))
        return 0
    import subprocess

    shown = subprocess.run(["ps", *(rest or ["-ef"])], check=True, stdout=subprocess.PIPE).stdout
    lines = shown.decode(errors="replace").splitlines()
    column = lines[0].split().index("PID")
    wanted = {str(pid) for pid in pids}
    _print(lines[0])
    for line in lines[1:]:
        if line.split()[column] in wanted:
            _print(line)
    return 0


def pause(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "")
    oci.load(_root(globals), _one_id(flags, "pause")).pause()
    return 0


def resume(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "")
    oci.load(_root(globals), _one_id(flags, "resume")).resume()
    return 0


def update(globals: Flags, words: list[str]) -> int:
    known = (
        "resources=|r blkio-weight= cpu-period= cpu-quota= cpu-burst= cpu-share= cpu-rt-period="
        " cpu-rt-runtime= cpuset-cpus= cpuset-mems= memory= memory-reservation= memory-swap="
        " pids-limit= cpu-idle="
    )
    flags, _ = parse(words, known)
    container = oci.load(_root(globals), _one_id(flags, "update"))
    source = flags.get("resources")
    if source:
        if source == "-":
            text = sys.stdin.buffer.read()
        else:
            with open(source, "rb") as file:
                text = file.read()
        container.update(Resources.from_json(json.loads(text)))
        return 0
    container.update(_resources(flags))
    return 0


def _resources(flags: Flags) -> Resources:
    def size(name: str) -> int | None:
        text = flags.get(name).lower()
        if not text:
            return None
        shift = _SUFFIXES.get(text.rstrip("ib")[-1:], 0)
        digits = text.rstrip("ib")[:-1] if shift else text.rstrip("b")
        if not digits.lstrip("-").isdigit():
            raise InvalidArgument(f"invalid value for {name}: {flags.get(name)!r}")
        return int(digits) << shift

    memory = Memory(
        limit=size("memory"), reservation=size("memory-reservation"), swap=size("memory-swap")
    )
    cpu = CPU(
        shares=size("cpu-share"), quota=size("cpu-quota"), period=size("cpu-period"),
        burst=size("cpu-burst"), realtime_period=size("cpu-rt-period"),
        realtime_runtime=size("cpu-rt-runtime"), cpus=flags.get("cpuset-cpus"),
        mems=flags.get("cpuset-mems"), idle=size("cpu-idle"),
    )  # fmt: skip
    pids = size("pids-limit")
    weight = size("blkio-weight")
    return Resources(
        memory=memory if memory != Memory() else None,
        cpu=cpu if cpu != CPU() else None,
        pids=Pids(limit=pids) if pids is not None else None,
        block_io=BlockIO(weight=weight) if weight is not None else None,
    )


def spec(globals: Flags, words: list[str]) -> int:

    flags, _ = parse(words, "bundle=|b rootless")
    path = os.path.join(flags.get("bundle") or ".", "config.json")
    if os.path.exists(path):
        raise FailedPrecondition(f"File {path} exists. Remove it first")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(default_spec().to_json(), file, indent="\t")
    return 0


def features(globals: Flags, words: list[str]) -> int:

    _print(json.dumps(features_document(), indent=4))
    return 0


def _print(line: str) -> None:
    os.write(1, line.encode(errors="surrogateescape") + b"\n")


COMMANDS: dict[str, Callable[[Flags, list[str]], int]] = {
    "create": create,
    "start": start,
    "run": run,
    "exec": exec_,
    "kill": kill,
    "delete": delete,
    "state": state,
    "list": list_,
    "ps": ps,
    "pause": pause,
    "resume": resume,
    "update": update,
    "spec": spec,
    "features": features,
}
