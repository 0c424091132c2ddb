"""Tasks over gRPC: ours beside a current containerd with runc's shim."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from sampan.api.cgroups.v1.metrics_pb2 import Metrics
from sampan.api.containerd.services.containers.v1 import containers_pb2 as containers
from sampan.api.containerd.services.tasks.v1 import tasks_pb2 as tasks
from sampan.api.containerd.types.mount_pb2 import Mount
from sampan.api.containerd.types.runc.options.oci_pb2 import Options, ProcessDetails
from sampan.testing import requires, unique_name
from sampan.testing.bundle import default_config

pytestmark = requires("root", "module:grpc", "containerd-2", "runc", "busybox", "cgroup:hybrid")

RUNC = "io.containerd.runc.v2"
SPEC = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"
CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4


CASES: list[Callable[[Any, Path], Any]] = []


def case(function: Callable[[Any, Path], Any]) -> Callable[[Any, Path], Any]:
    CASES.append(function)
    return function


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.__name__)
def test_alike(alike: Any, one: Any, busybox: Path) -> None:
    def run(peer: Any) -> Any:
        return one(peer, busybox)

    run.__name__ = one.__name__
    alike(run)


def call(peer: Any, verb: str, code: Any = False, **fields: Any) -> Any:
    requests = {
        "List": "ListTasksRequest",
        "Create": "CreateTaskRequest",
        "Delete": "DeleteTaskRequest",
    }
    requests |= {"Exec": "ExecProcessRequest", "Pause": "PauseTaskRequest"}
    requests |= {"Resume": "ResumeTaskRequest", "Update": "UpdateTaskRequest"}
    requests |= {"Checkpoint": "CheckpointTaskRequest"}
    answers = {
        "List": "ListTasksResponse",
        "Create": "CreateTaskResponse",
        "DeleteProcess": "DeleteResponse",
    }
    answers |= {"Checkpoint": "CheckpointTaskResponse"}
    request = getattr(tasks, requests.get(verb, f"{verb}Request"))(**fields)
    answer = getattr(tasks, answers.get(verb, f"{verb}Response"), Empty)
    return (peer.code if code else peer.get)(f"tasks.v1.Tasks/{verb}", request, answer)


def code(peer: Any, verb: str, **fields: Any) -> str:
    return str(call(peer, verb, code=True, **fields))


def container(peer: Any, rootfs: Path, *argv: str, **edits: Any) -> str:
    """Record a container; return its id."""
    name = unique_name("k")
    config = default_config(argv, cgroup=f"/{name}")
    config["root"]["path"] = str(rootfs)
    config["process"].update(edits.pop("process", {}))
    made = containers.Container(id=name)
    made.runtime.name = edits.pop("runtime", RUNC)
    made.spec.type_url, made.spec.value = SPEC, json.dumps(config).encode()
    request = containers.CreateContainerRequest(container=made)
    peer.get("containers.v1.Containers/Create", request, containers.CreateContainerResponse)
    return name


@contextmanager
def task(peer: Any, rootfs: Path, *argv: str, **fields: Any) -> Iterator[str]:
    """A created task that is gone afterwards, with its container."""
    name = container(peer, rootfs, *(argv or ("sleep", "1000")), process=fields.pop("process", {}))
    try:
        call(peer, "Create", container_id=name, **fields)
        yield name
    finally:
        code(peer, "Kill", container_id=name, signal=9, all=True)
        deadline = time.monotonic() + 20
        while code(peer, "Delete", container_id=name) not in ("OK", "NOT_FOUND"):
            assert time.monotonic() < deadline
            code(peer, "Wait", container_id=name)
        request = containers.DeleteContainerRequest(id=name)
        peer.get("containers.v1.Containers/Delete", request, Empty)


def state(peer: Any, name: str, exec_id: str = "") -> Any:
    one = call(peer, "Get", container_id=name, exec_id=exec_id).process
    return one.status, one.pid > 0, one.exit_status, one.exited_at.ToNanoseconds() > 0, one.terminal


def process(*argv: str) -> AnyMessage:
    value = {**default_config(argv)["process"], "cwd": "/"}
    return AnyMessage(type_url=PROCESS, value=json.dumps(value).encode())


@case
def task_codes_without_a_task(peer: Any, rootfs: Path) -> Any:
    name = container(peer, rootfs, "true")
    found: list[Any] = []
    for one in (name, "missing"):
        found += [
            (verb, code(peer, verb, container_id=one, **fields))
            for verb, fields in (
                *(("Start", {}), ("Get", {}), ("Kill", {"signal": 9}), ("Delete", {})),
                *(("Pause", {}), ("Resume", {}), ("ListPids", {}), ("Wait", {})),
                *(("CloseIO", {"stdin": True}), ("ResizePty", {"width": 1, "height": 1})),
                *(("Update", {}), ("DeleteProcess", {"exec_id": "e"})),
                *(("Exec", {"exec_id": "e", "spec": process("true")}), ("Checkpoint", {})),
            )
        ]
    found.append(("Create", code(peer, "Create", container_id="missing")))
    found.append(len(call(peer, "List").tasks))
    peer.get("containers.v1.Containers/Delete", containers.DeleteContainerRequest(id=name), Empty)
    return found


@case
def task_life(peer: Any, rootfs: Path) -> Any:
    with task(peer, rootfs) as name:
        found = [
            state(peer, name),
            code(peer, "Create", container_id=name),
            code(peer, "Start", container_id=name),
            code(peer, "Start", container_id=name) != "OK",
            state(peer, name),
            [one.status for one in call(peer, "List").tasks],
            len(call(peer, "ListPids", container_id=name).processes),
            code(peer, "Delete", container_id=name) != "OK",
            code(peer, "Pause", container_id=name),
            state(peer, name)[0],
            code(peer, "Pause", container_id=name) != "OK",
            code(peer, "Resume", container_id=name),
            state(peer, name)[0],
            code(peer, "Kill", container_id=name, signal=15),
            code(peer, "Kill", container_id=name, signal=9),
            call(peer, "Wait", container_id=name).exit_status,
            state(peer, name),
            code(peer, "Kill", container_id=name, signal=9),
            call(peer, "Wait", container_id=name).exit_status,
            code(peer, "Start", container_id=name) != "OK",
        ]
        ended = call(peer, "Delete", container_id=name)
        found.append((ended.exit_status, ended.pid > 0, ended.exited_at.ToNanoseconds() > 0))
        found.append(code(peer, "Delete", container_id=name))
        found.append(code(peer, "Wait", container_id=name))
    return found


@case
def task_exit_codes(peer: Any, rootfs: Path) -> Any:
    found: list[Any] = []
    for script in ("exit 0", "exit 7", "kill -TERM $$", "exit 300"):
        with task(peer, rootfs, "sh", "-c", script) as name:
            call(peer, "Start", container_id=name)
            found.append((script, call(peer, "Wait", container_id=name).exit_status))
    return found


@case
def task_that_cannot_start(peer: Any, rootfs: Path) -> Any:
    found: list[Any] = []
    for argv in (("/no/such",), ("/etc",)):
        name = container(peer, rootfs, *argv)
        request = tasks.CreateTaskRequest(container_id=name)
        said, text = peer.client.failed(
            "tasks.v1.Tasks/Create", request, tasks.CreateTaskResponse, namespace=peer.namespace
        )
        if said == "OK":
            said, text = peer.client.failed(
                "tasks.v1.Tasks/Start",
                tasks.StartRequest(container_id=name),
                tasks.StartResponse,
                namespace=peer.namespace,
            )
        # The words are the runtime's own: one says what stat(2), the other what execve(2) said.
        words = ("no such file", "permission denied", "is a directory")
        assert any(word in text for word in words), text
        found.append((argv, said != "OK"))
        found.append(code(peer, "Delete", container_id=name) in ("OK", "NOT_FOUND"))
        gone = containers.DeleteContainerRequest(id=name)
        peer.get("containers.v1.Containers/Delete", gone, Empty)
    return found


@case
def task_killed_before_it_starts(peer: Any, rootfs: Path) -> Any:
    with task(peer, rootfs) as name:
        found = [code(peer, "Kill", container_id=name, signal=9)]
        found.append(call(peer, "Wait", container_id=name).exit_status)
        return [*found, state(peer, name)[0]]


@case
def task_waited_for_before_start(peer: Any, rootfs: Path) -> Any:
    ended = []
    with task(peer, rootfs, "sh", "-c", "exit 5") as name:
        waiting = threading.Thread(
            target=lambda: ended.append(call(peer, "Wait", container_id=name).exit_status)
        )
        waiting.start()
        call(peer, "Start", container_id=name)
        waiting.join(20)
    return ended


@case
def task_wait_ends_with_its_caller(peer: Any, rootfs: Path) -> Any:
    request = tasks.WaitRequest()
    with task(peer, rootfs) as name:
        call(peer, "Start", container_id=name)
        request.container_id = name
        said = peer.code("tasks.v1.Tasks/Wait", request, tasks.WaitResponse, timeout_s=0.3)
        # Who of client and server sees the deadline first is a race.
        return [said in ("DEADLINE_EXCEEDED", "CANCELLED"), state(peer, name)[0]]


@case
def task_execs(peer: Any, rootfs: Path) -> Any:
    with task(peer, rootfs) as name:
        at = {"container_id": name}
        early = code(peer, "Exec", exec_id="early", spec=process("true"), **at)
        call(peer, "Start", container_id=name)
        found = [
            early in ("OK", "FAILED_PRECONDITION"),
            code(peer, "Exec", exec_id="e", spec=process("sh", "-c", "exit 3"), **at),
            code(peer, "Exec", exec_id="e", spec=process("true"), **at),
            code(peer, "Exec", exec_id="", spec=process("true"), **at),
            code(peer, "Exec", exec_id="a/b", spec=process("true"), **at),
            state(peer, name, "e"),
            code(peer, "Start", exec_id="e", **at),
            call(peer, "Wait", exec_id="e", **at).exit_status,
            state(peer, name, "e"),
            code(peer, "Kill", exec_id="e", signal=9, **at),
            code(peer, "Start", exec_id="e", **at) != "OK",
        ]
        ended = call(peer, "DeleteProcess", exec_id="e", **at)
        found.append((ended.id, ended.exit_status, ended.exited_at.ToNanoseconds() > 0))
        found += [
            code(peer, "DeleteProcess", exec_id="e", **at),
            code(peer, "Get", exec_id="e", **at),
            code(peer, "Exec", exec_id="never", spec=process("sleep", "9"), **at),
            call(peer, "DeleteProcess", exec_id="never", **at).exit_status,
            code(peer, "Exec", exec_id="bad", spec=process("/no/such"), **at),
            code(peer, "Start", exec_id="bad", **at) != "OK",
            code(peer, "Start", exec_id="missing", **at),
            code(peer, "Wait", exec_id="missing", **at),
            code(peer, "Kill", exec_id="missing", signal=9, **at),
            code(peer, "CloseIO", exec_id="missing", stdin=True, **at),
            code(peer, "ResizePty", exec_id="missing", width=1, height=1, **at),
        ]
        call(peer, "Exec", exec_id="shown", spec=process("sleep", "99"), **at)
        call(peer, "Start", exec_id="shown", **at)
        pids = call(peer, "ListPids", **at).processes
        details = [ProcessDetails.FromString(one.info.value).exec_id for one in pids]
        found += [sorted(details), sorted(one.info.type_url for one in pids)]
        return found


@case
def task_output_goes_to_files(peer: Any, rootfs: Path) -> Any:
    out = peer.folder / "out"
    streams = {"stdout": f"file://{out}", "stderr": f"file://{out}"}
    with task(peer, rootfs, "sh", "-c", "echo one; echo two >&2", **streams) as name:
        shown = call(peer, "Get", container_id=name).process
        found = [shown.stdout == streams["stdout"], shown.stderr == streams["stderr"]]
        call(peer, "Start", container_id=name)
        call(peer, "Wait", container_id=name)
    # The shim has written it all when the task is deleted.
    found.append(sorted(out.read_text().splitlines()))
    out.unlink()
    return found


@case
def task_figures(peer: Any, rootfs: Path) -> Any:
    with task(peer, rootfs) as name:
        found = [_figures(peer, name)]
        call(peer, "Start", container_id=name)
        found.append(_figures(peer, name))
        request = tasks.MetricsRequest(filters=["id==missing"])
        answer = peer.get("tasks.v1.Tasks/Metrics", request, tasks.MetricsResponse)
        found.append(len(answer.metrics))
        resources = AnyMessage(
            type_url="types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
            value=json.dumps({"pids": {"limit": 33}, "memory": {"limit": 64 << 20}}).encode(),
        )
        found.append(code(peer, "Update", container_id=name, resources=resources))
        metrics = _metrics(peer, name)
        found.append((metrics.pids.limit, metrics.memory.usage.limit))
        bad = AnyMessage(type_url="no.such/Type", value=b"{}")
        found.append(code(peer, "Update", container_id=name, resources=bad) != "OK")
    request = tasks.MetricsRequest(filters=[f"id=={name}"])
    answer = peer.get("tasks.v1.Tasks/Metrics", request, tasks.MetricsResponse)
    found.append(len(answer.metrics))
    return found


def _metrics(peer: Any, name: str) -> Metrics:
    request = tasks.MetricsRequest(filters=[f"id=={name}"])
    answer = peer.get("tasks.v1.Tasks/Metrics", request, tasks.MetricsResponse)
    assert [one.id for one in answer.metrics] == [name]
    assert answer.metrics[0].timestamp.ToNanoseconds() > 0
    assert answer.metrics[0].data.type_url == "io.containerd.cgroups.v1.Metrics"
    return Metrics.FromString(answer.metrics[0].data.value)


def _figures(peer: Any, name: str) -> Any:
    found = _metrics(peer, name)
    return [field.name for field, _ in found.ListFields()], found.pids.current > 0


@case
def task_options(peer: Any, rootfs: Path) -> Any:
    """runc.v2's options: another binary, root and cgroup of the shim, an owner of the pipes."""
    root = peer.folder / "runc-root"
    options = Options(binary_name="/usr/sbin/runc", root=str(root), io_uid=0, no_new_keyring=True)
    packed = AnyMessage(type_url=options.DESCRIPTOR.full_name, value=options.SerializeToString())
    found: list[Any] = []
    with task(peer, rootfs, options=packed) as name:
        found.append((root / peer.namespace / name / "state.json").exists())
        call(peer, "Start", container_id=name)
        found.append(state(peer, name)[0])
    missing = Options(binary_name="/no/such/runc")
    packed = AnyMessage(type_url=missing.DESCRIPTOR.full_name, value=missing.SerializeToString())
    name = container(peer, rootfs, "true")
    found.append(code(peer, "Create", container_id=name, options=packed) != "OK")
    peer.get("containers.v1.Containers/Delete", containers.DeleteContainerRequest(id=name), Empty)
    return found


@case
def task_of_an_unknown_runtime(peer: Any, rootfs: Path) -> Any:
    name = container(peer, rootfs, "true", runtime="io.containerd.nothing.v9")
    found = [
        code(peer, "Create", container_id=name) != "OK",
        code(peer, "Create", container_id=name, runtime_path="/no/such/shim") != "OK",
        code(peer, "Get", container_id=name),
    ]
    peer.get("containers.v1.Containers/Delete", containers.DeleteContainerRequest(id=name), Empty)
    return found


@case
def task_rootfs_by_templates(peer: Any, rootfs: Path) -> Any:
    """What the shim cannot mount is activated for it, under the container's name."""
    from sampan.api.containerd.services.mounts.v1 import mounts_pb2 as mounts

    name = unique_name("k")
    config = default_config(("sh", "-c", "exit 4"), cgroup=f"/{name}")
    made = containers.Container(id=name)
    made.runtime.name = RUNC
    made.spec.type_url, made.spec.value = SPEC, json.dumps(config).encode()
    request = containers.CreateContainerRequest(container=made)
    peer.get("containers.v1.Containers/Create", request, containers.CreateContainerResponse)
    work = peer.folder / "root/work"
    layers = [
        Mount(type="tmpfs", source="tmpfs"),
        Mount(
            type="format/mkdir/overlay",
            source="overlay",
            options=[
                f"lowerdir={rootfs}:{{{{ mount 0 }}}}",
                f"X-containerd.mkdir.path={work}",
            ],
        ),
    ]
    call(peer, "Create", container_id=name, rootfs=layers)
    info = ("mounts.v1.Mounts/Info", mounts.InfoRequest(name=name), mounts.InfoResponse)
    active = peer.get(*info).info
    found = [[one.mount.type for one in active.active], [one.type for one in active.system]]
    call(peer, "Start", container_id=name)
    found.append(call(peer, "Wait", container_id=name).exit_status)
    call(peer, "Delete", container_id=name)
    found.append(peer.code(*info))
    peer.get("containers.v1.Containers/Delete", containers.DeleteContainerRequest(id=name), Empty)
    return found
