"""state, list, ps, events and features: what is."""

from __future__ import annotations

import os
import select
import time

from sampan.errors import FailedPrecondition, InvalidArgument, NotFound
from sampan.linux import process
from sampan.model.runtime.document import dumps
from sampan.oci import State
from sampan.oci.arguments import Flags, parse
from sampan.oci.commands import one_id, print_line, state_root
from sampan.oci.container import Container, list_containers, load
from sampan.oci.features import features as features_document
from sampan.oci.statistics import statistics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["events", "features", "list_", "ps", "state"]

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def state(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "")
    found = load(state_root(globals), one_id(flags, "state"))
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
    print_line(dumps(document, "  "))
    return 0


def list_(globals: Flags, words: list[str]) -> int:
    flags, _ = parse(words, "format=|f quiet|q")
    if flags.get("format", "table") not in ("table", "json"):
        raise InvalidArgument("invalid format option")
    try:
        states = [c.state() for c in list_containers(state_root(globals))]
    except NotFound:
        if globals.get("root"):
            raise
        states = []
    if flags.has("quiet"):
        for each in states:
            print_line(each.id)
        return 0
    if flags.get("format") == "json":
        print_line(dumps([_listed(s) for s in states]) if states else "null")
        return 0
    rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    rows += [(s.id, str(s.pid), s.status, s.bundle, s.created, s.owner or "root") for s in states]
    widths = [max(12, *(len(row[i]) + 3 if i < 5 else 0 for row in rows)) for i in range(6)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        print_line("".join(cells) + row[-1])
    return 0


def _listed(found: State) -> dict[str, Any]:
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
    pids = load(state_root(globals), flags.rest[0]).processes()
    if flags.get("format") == "json":
        print_line(dumps(pids))
        return 0
    import subprocess

    shown = subprocess.run(["ps", *(rest or ["-ef"])], check=True, stdout=subprocess.PIPE).stdout
    lines = shown.decode(errors="replace").splitlines()
    column = lines[0].split().index("PID")
    wanted = {str(pid) for pid in pids}
    print_line(lines[0])
    for line in lines[1:]:
        if line.split()[column] in wanted:
            print_line(line)
    return 0


def events(globals: Flags, words: list[str]) -> int:
    """Print statistics every --interval and each out-of-memory kill, as lines of JSON."""
    flags, _ = parse(words, "interval= stats")
    interval_s = _duration(flags.get("interval", "5s"))
    container = load(state_root(globals), one_id(flags, "events"))
    if container.status() == "stopped":
        raise FailedPrecondition(f"container with id {container.id} is not running")
    if flags.has("stats"):
        _event(container, "stats", statistics(container.stats()))
        return 0
    _watch(container, interval_s)
    return 0


def _watch(container: Container, interval_s: float) -> None:
    pidfd = process.pidfd_open(container.pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    with container.cgroup.oom_watch() as watch:
        poll.register(watch.fd, select.POLLIN | select.POLLPRI)
        due = time.monotonic() + interval_s
        while True:
            ready = {fd for fd, _ in poll.poll(max(0, (due - time.monotonic()) * 1000))}
            if watch.fd in ready:
                for _ in range(watch.read()):
                    _event(container, "oom", None)
            if pidfd in ready:
                break
            if time.monotonic() >= due:
                _event(container, "stats", statistics(container.stats()))
                due += interval_s
    os.close(pidfd)


def _event(container: Container, kind: str, data: dict[str, Any] | None) -> None:
    event: dict[str, Any] = {"type": kind, "id": container.id}
    if data is not None:
        event["data"] = data
    print_line(dumps(event))


def _duration(text: str) -> float:
    """Parse a length of time such as `5s`, `1m` or `500ms`."""
    digits = text.rstrip("mhs")
    unit = _UNITS_S.get(text[len(digits) :])
    whole, _, fraction = digits.partition(".")
    if unit is None or not (whole + fraction).isascii() or not (whole + fraction).isdigit():
        raise InvalidArgument(f"invalid duration {text!r} for --interval")
    seconds = float(digits) * unit
    if seconds <= 0:
        raise InvalidArgument("duration interval must be greater than 0")
    return seconds


def features(globals: Flags, words: list[str]) -> int:

    print_line(dumps(features_document(), "    "))
    return 0
