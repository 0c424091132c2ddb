"""Sandbox controllers over gRPC: both daemons start our shim for them."""

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


def _control(peer: Any, verb: str, code: Any = True, **fields: Any) -> Any:
    fields.setdefault("sandboxer", "shim")
    fields.setdefault("sandbox_id", "s")
    request = getattr(sandboxes, f"Controller{verb}Request")(**fields)
    answer = getattr(sandboxes, f"Controller{verb}Response")
    return (peer.code if code else peer.get)(f"sandbox.v1.Controller/{verb}", request, answer)


VERBS = ("Start", "Stop", "Wait", "Status", "Shutdown", "Metrics", "Update")


@case
def sandbox_controllers(peer: Any) -> Any:
    found: list[Any] = [(verb, _control(peer, verb)) for verb in VERBS]
    for name in ("", "nothing"):
        found += [(verb, name, _control(peer, verb, sandboxer=name)) for verb in ("Create", *VERBS)]
    return found


@case
def sandbox_life(peer: Any) -> Any:
    """Both daemons start our shim for it."""
    peer.get(
        "sandbox.v1.Store/Create",
        sandboxes.StoreCreateRequest(sandbox=_sandbox(peer)),
        sandboxes.StoreCreateResponse,
    )
    found: list[Any] = [_control(peer, "Create", sandbox=_sandbox(peer))]
    found.append(_control(peer, "Create", sandbox=_sandbox(peer)))
    status = _control(peer, "Status", code=False)
    found.append((status.sandbox_id, status.pid > 0, status.state))
    started = _control(peer, "Start", code=False)
    found.append((started.sandbox_id, started.pid == status.pid))
    status = _control(peer, "Status", code=False, verbose=True)
    found.append((status.state, sorted(status.info), status.created_at.ToNanoseconds() > 0))
    found.append(_control(peer, "Metrics"))
    found.append(_control(peer, "Stop", timeout_secs=2))
    ended = _control(peer, "Wait", code=False)
    found.append((ended.exit_status, ended.exited_at.ToNanoseconds() > 0))
    found.append(_control(peer, "Status", code=False).state)
    found += [_control(peer, "Shutdown"), _control(peer, "Shutdown"), _control(peer, "Start")]
    found.append(_control(peer, "Stop"))
    return found


def test_platform_of_a_sandbox(ours: Any) -> None:
    """containerd 2.4 does not have the call; we do."""
    ours.namespace = "platforms"
    assert _control(ours, "Platform") == "NOT_FOUND"
    assert _control(ours, "Create", sandbox=_sandbox(ours)) == "OK"
    assert _control(ours, "Platform", code=False).platform.os == "linux"
    assert _control(ours, "Shutdown") == "OK"


def _sandbox(peer: Any) -> Sandbox:
    made = Sandbox(sandbox_id="s")
    made.runtime.name = "io.containerd.sampan.v2"
    made.spec.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
    made.spec.value = b'{"ociVersion": "1.0.2"}'
    return made
