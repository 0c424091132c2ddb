"""Events over gRPC: topics, types and fields as in a current containerd."""

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

from sampan.api.containerd.events import task_pb2 as events
from sampan.api.containerd.services.containers.v1 import containers_pb2 as containers
from sampan.api.containerd.services.events.v1 import events_pb2 as exchange
from sampan.api.containerd.services.tasks.v1 import tasks_pb2 as tasks
from sampan.api.containerd.types.event_pb2 import Envelope
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


@contextmanager
def subscribed(peer: Any, *filters: str) -> Iterator[Any]:
    """A subscription that misses nothing of the block."""
    request = exchange.SubscribeRequest(filters=[*filters, 'topic=="/probe"'])
    bound = peer.client.channel.unary_stream(
        "/containerd.services.events.v1.Events/Subscribe",
        request_serializer=lambda one: one.SerializeToString(),
        response_deserializer=Envelope.FromString,
    )
    stream = bound(request, timeout=30)
    # containerd sends no headers before the first event: the first one that comes is the sign.
    seen = threading.Event()
    probe = exchange.PublishRequest(topic="/probe", event=AnyMessage(type_url="x"))

    def publish() -> None:
        while not seen.wait(0.05):
            peer.code("events.v1.Events/Publish", probe, Empty)

    publishing = threading.Thread(target=publish)
    publishing.start()
    assert next(stream).topic == "/probe"
    seen.set()
    publishing.join()
    try:
        yield (one for one in stream if one.topic != "/probe")
    finally:
        stream.cancel()


def test_events_of_a_task_in_order(ours: Any, busybox: Path) -> None:
    """As containerd's, which now and then loses an exit, so that it cannot stand beside."""
    ours.namespace = "sequence"
    found: list[Any] = []
    with subscribed(ours, f"namespace=={ours.namespace},topic~=|^/tasks/|") as stream:
        with task(ours, busybox) as name:
            at = {"container_id": name}
            call(ours, "Start", **at)
            call(ours, "Exec", exec_id="e", spec=process("true"), **at)
            call(ours, "Start", exec_id="e", **at)
            call(ours, "Wait", exec_id="e", **at)
            call(ours, "DeleteProcess", exec_id="e", **at)
            call(ours, "Pause", **at)
            call(ours, "Resume", **at)
        found += _until(stream, name, "/tasks/delete")
    kinds = [(topic, kind.rpartition(".")[2], fields) for _, topic, kind, fields in found]
    # A shim tells of an exec's exit while the client does its next thing.
    exits = [one for one in kinds if one[0] == "/tasks/exit"]
    ended = ["container_id", "id", "pid", "exited_at"]
    assert exits == [
        ("/tasks/exit", "TaskExit", ended),
        ("/tasks/exit", "TaskExit", [*ended[:3], "exit_status", "exited_at"]),
    ]
    assert [one for one in kinds if one not in exits] == [
        ("/tasks/create", "TaskCreate", ["container_id", "bundle", "io", "pid"]),
        ("/tasks/start", "TaskStart", ["container_id", "pid"]),
        ("/tasks/exec-added", "TaskExecAdded", ["container_id", "exec_id"]),
        ("/tasks/exec-started", "TaskExecStarted", ["container_id", "exec_id", "pid"]),
        ("/tasks/paused", "TaskPaused", ["container_id"]),
        ("/tasks/resumed", "TaskResumed", ["container_id"]),
        ("/tasks/delete", "TaskDelete", ["container_id", "pid", "exit_status", "exited_at"]),
    ]
    assert kinds.index(exits[1]) < len(kinds) - 1


def _until(stream: Iterator[Any], name: str, topic: str) -> list[Any]:
    """Return the events up to the one of `topic` about init."""
    found = []
    for envelope in stream:
        kind = envelope.event.type_url
        event = getattr(events, kind.rpartition(".")[2]).FromString(envelope.event.value)
        assert envelope.timestamp.ToNanoseconds() > 0
        assert event.container_id == name
        fields = [field.name for field, _ in event.ListFields() if field.name != "rootfs"]
        found.append((envelope.namespace, envelope.topic, kind, fields))
        if envelope.topic == topic and event.id in ("", name):
            return found
    raise AssertionError(f"{topic} of {name} did not come")


@case
def event_published_and_forwarded(peer: Any, rootfs: Path) -> Any:
    del rootfs
    any_event = AnyMessage(type_url="some/type", value=b"\1")
    found: list[Any] = []
    with subscribed(peer, 'topic=="/made/up"', 'topic=="/made/again"') as stream:
        publish = exchange.PublishRequest(topic="/made/up", event=any_event)
        found.append(peer.code("events.v1.Events/Publish", publish, Empty))
        envelope = Envelope(namespace="elsewhere", topic="/made/again", event=any_event)
        envelope.timestamp.FromSeconds(5)
        forward = exchange.ForwardRequest(envelope=envelope)
        found.append(peer.code("events.v1.Events/Forward", forward, Empty))
        for one in stream:
            found.append((one.namespace, one.topic, one.event.type_url, one.event.value))
            if one.topic == "/made/again":
                found.append(one.timestamp.seconds)
                break
    for topic in ("", "no-slash", "/", "/trailing/", "/a b"):
        publish = exchange.PublishRequest(topic=topic, event=any_event)
        found.append((topic, peer.code("events.v1.Events/Publish", publish, Empty)))
    bad = exchange.SubscribeRequest(filters=["topic="])
    found.append(peer.list_code("events.v1.Events/Subscribe", bad, Envelope) != "OK")
    return found
