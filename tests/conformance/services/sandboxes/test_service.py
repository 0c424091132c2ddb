"""Sandbox records over gRPC: answers and codes as a current containerd's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sampan.api.containerd.services.sandbox.v1 import sandbox_pb2 as sandboxes
from sampan.api.containerd.types.sandbox_pb2 import Sandbox
from sampan.testing import requires

pytestmark = requires("root", "module:grpc", "containerd-2")


CASES: list[Callable[[Any], Any]] = []


def case(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    CASES.append(function)
    return function


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.__name__)
def test_alike(alike: Any, one: Any) -> None:
    alike(one)


def _sandbox(peer: Any, verb: str, code: bool = True, **fields: Any) -> Any:
    request = getattr(sandboxes, f"Store{verb}Request")(**fields)
    answer = getattr(sandboxes, f"Store{verb}Response")
    return (peer.code if code else peer.get)(f"sandbox.v1.Store/{verb}", request, answer)


def _box(id: str = "s", **fields: Any) -> Sandbox:
    made = Sandbox(sandbox_id=id, **fields)
    made.runtime.name = "io.containerd.runc.v2"
    made.spec.type_url, made.spec.value = "some/type", b"{}"
    return made


@case
def sandbox_records(peer: Any) -> Any:
    found = [
        _sandbox(peer, "Get", sandbox_id="s"),
        _sandbox(peer, "Delete", sandbox_id="s"),
        _sandbox(peer, "Update", sandbox=_box()),
        _sandbox(peer, "Create", sandbox=_box(labels={"a": "b"}, sandboxer="shim")),
        _sandbox(peer, "Create", sandbox=_box()),
        _sandbox(peer, "Create", sandbox=_box("")),
    ]
    got = _sandbox(peer, "Get", code=False, sandbox_id="s").sandbox
    got.ClearField("created_at")
    got.ClearField("updated_at")
    found.append(str(got))
    for labels, fields in (({"a": "B"}, ["labels.a"]), ({"x": "y"}, ["labels"]), ({}, ["nothing"])):
        code = _sandbox(peer, "Update", sandbox=_box(labels=labels), fields=fields)
        now = _sandbox(peer, "Get", code=False, sandbox_id="s").sandbox
        found.append((fields, code, sorted(now.labels.items())))
    for filters in ([], ["id==s"], ["id==t"], ["labels.x==y"]):
        answer = _sandbox(peer, "List", code=False, filters=filters)
        found.append([one.sandbox_id for one in answer.list])
    return [*found, _sandbox(peer, "Delete", sandbox_id="s")]
