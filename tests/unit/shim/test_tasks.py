"""What one server leaves to the next of a container's processes."""

import marshal

import pytest

from sampan.errors import NotFound
from sampan.rpc.messages.types import Status
from sampan.shim.reaper import Exit
from sampan.shim.stdio.streams import Wanted
from sampan.shim.tasks import Container, Process


class Kept:
    """As much of a runtime as a container that nobody calls needs."""

    direct_signals = True

    def save(self) -> tuple[str, str]:
        return "native", "/root"


def container() -> Container:
    init = Process("", Wanted("/in", "/out", "", terminal=True))
    made = Container("c1", "/bundle", init, Kept())  # type: ignore[arg-type]
    init.pid = 42
    return made


def test_a_process_comes_back_as_it_was() -> None:
    process = Process("e1", Wanted(stdout="/out"), b'{"args": ["a"]}')
    saved = marshal.loads(marshal.dumps(process.save()))  # noqa: S302
    again = Process.restore(saved)
    assert (again.exec_id, again.spec, again.wanted.stdout) == ("e1", process.spec, "/out")
    assert (again.pid, again.started, again.exit) == (0, False, None)
    assert again.status(paused=False) == Status.CREATED


def test_an_end_comes_back_and_answers_who_waits() -> None:
    process = Process("e1", Wanted())
    process.started, process.pid, process.group = True, 7, "exec-3"
    process.exit = Exit(137, 1 << 60)
    again = Process.restore(process.save() or {})
    assert again.status(paused=True) == Status.STOPPED
    assert again.group == "exec-3"
    assert again.exited.done
    assert (again.exited.result().status, again.exited.result().at_ns) == (137, 1 << 60)


def test_a_started_exec_needs_its_spec_no_more() -> None:
    process = Process("e1", Wanted(), b"secret")
    process.started = True
    saved = process.save()
    assert saved is not None
    assert saved["spec"] == b""


def test_a_container_is_its_processes_and_its_runtime() -> None:
    made = container()
    made.execs["e1"] = Process("e1", Wanted())
    saved = made.save()
    assert saved is not None
    assert saved["runtime"] == ("native", "/root")
    assert [saved["init"]["pid"], saved["execs"][0]["exec_id"]] == [42, "e1"]
    assert made.process("e1") is made.execs["e1"]
    with pytest.raises(NotFound, match="e2"):
        made.process("e2")
