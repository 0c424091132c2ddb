"""The same calls to a current containerd and to sampand; every answer is made comparable."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.leases.v1 import leases_pb2 as leases
from sampan.testing.daemons import Client, Daemon, tiny_archive
from sampan.testing.requirements import missing
from sampan.testing.session import SESSION

CALLED: Final[set[str]] = set()
"""Methods that were called, as `containerd.services.images.v1.Images/Get`."""


class Peer:
    """One daemon, and what a case needs of it."""

    def __init__(self, daemon: Daemon, client: Client) -> None:
        self.daemon = daemon
        self.client = client
        self.namespace = ""
        self.case = ""
        self.headers: dict[str, str] = {}

    @property
    def folder(self) -> Path:
        return self.daemon.folder

    def _scope(self, more: dict[str, Any]) -> dict[str, Any]:
        headers = {**self.headers, **(more.pop("headers", None) or {})}
        return {"namespace": self.namespace, "headers": headers, **more}

    def get(self, method: str, request: Any, answer: Any, **more: Any) -> Any:
        """Return the answer; a failure fails the test."""
        CALLED.add(method)
        return self.client.call(method, request, answer, **self._scope(more))

    def code(self, method: str, request: Any, answer: Any, **more: Any) -> str:
        """Return the name of the code of a unary call."""
        CALLED.add(method)
        return self.client.failed(method, request, answer, **self._scope(more))[0]

    def listed(self, method: str, request: Any, answer: Any, **more: Any) -> list[Any]:
        """Return everything that a method streams."""
        CALLED.add(method)
        return self.client.listed(method, request, answer, **self._scope(more))

    def list_code(self, method: str, request: Any, answer: Any) -> str:
        """Return the code that a streaming method ends with."""
        import grpc  # type: ignore[import-untyped]

        try:
            self.listed(method, request, answer)
        except grpc.RpcError as err:
            return str(err.code().name)
        return "OK"

    def stream(self, method: str, requests: Any, answer: Any) -> Any:
        """Return the call of a method that streams both ways."""
        CALLED.add(method)
        return self.client.stream(
            method, requests, answer, namespace=self.namespace, headers=self.headers
        )

    def stream_code(self, method: str, requests: Any, answer: Any) -> str:
        """Return the code that it ends with."""
        return self.client.code_of(self.stream(method, requests, answer))


Case = Callable[[Peer], Any]


@contextmanager
def _lease(peer: Peer, *, wanted: bool) -> Iterator[None]:
    """Let nothing that the case makes be garbage, whenever a collection runs."""
    peer.headers = {}
    if wanted:
        request = leases.CreateRequest(id="case")
        peer.get("leases.v1.Leases/Create", request, leases.CreateResponse)
        peer.headers = {"containerd-lease": "case"}
    yield
    peer.headers = {}
    if wanted:
        peer.get("leases.v1.Leases/Delete", leases.DeleteRequest(id="case"), Empty)


def _peer(kind: str) -> Iterator[Peer]:
    folder = SESSION.new_folder()
    with Daemon(kind, folder) as daemon, daemon.client() as client:
        # What a daemon starts when it is first needed, such as our template of workers, is there.
        daemon.ok("image", "import", str(tiny_archive(folder)))
        yield Peer(daemon, client)
        assert daemon.alive, f"{kind} died: {daemon.log.read_text()[-3000:]}"
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def ours() -> Iterator[Peer]:
    """Our daemon."""
    yield from _peer("sampand")


@pytest.fixture(scope="session")
def theirs() -> Iterator[Peer]:
    """A current containerd, built from its Go module."""
    yield from _peer("containerd-2")


@pytest.fixture
def alike(ours: Peer, theirs: Peer) -> Callable[[Case], None]:
    """Run a case against both, each in a namespace of the case's name, and compare."""

    def compare(case: Case) -> None:
        found = []
        for peer in (ours, theirs):
            peer.case = case.__name__
            peer.namespace = peer.case.replace("_", "-")
            with _lease(peer, wanted=getattr(case, "leased", False)):
                found.append(case(peer))
        if isinstance(found[0], list) and len(found[0]) == len(found[1]):
            pairs = enumerate(zip(*found, strict=True))
            wrong = [f"{at}: ours {a!r}\n   theirs {b!r}" for at, (a, b) in pairs if a != b]
            assert not wrong, "\n".join(wrong)
        assert found[0] == found[1]

    return compare


@pytest.fixture(scope="session", autouse=True)
def grpc_is_warm() -> None:
    """Let the client library open what it opens once for all time before a test is judged."""
    if not missing("module:grpc"):
        import grpc

        with grpc.insecure_channel("unix:/nothing/here") as channel:
            call = channel.unary_unary("/nothing", lambda one: one, lambda one: one)
            with pytest.raises(grpc.RpcError):
                call(b"", timeout=1)


@pytest.fixture
def called() -> set[str]:
    """Return the methods that cases have called."""
    return CALLED
