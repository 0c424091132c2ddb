"""OpenTelemetry: asked for by the environment, and not loaded otherwise."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from grpclib.const import Status

from sampan.daemon import logs, tracing
from sampan.daemon.calls import Call
from sampan.errors import FailedPrecondition
from sampan.testing import require


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_who_wants_traces(environ: Mapping[str, str], wanted: bool) -> None:
    assert tracing.wanted(environ) is wanted


def test_nothing_is_loaded_by_itself() -> None:
    code = (
        "import sys, sampan.daemon.serve;"
        "assert not [one for one in sys.modules if one.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(FailedPrecondition, match=r"sampan\[otel\]"):
        tracing.Tracing({"OTEL_TRACES_EXPORTER": "console"})


def test_an_unknown_exporter_is_refused() -> None:
    require("module:opentelemetry.sdk")
    with pytest.raises(FailedPrecondition, match="jaeger"):
        tracing.Tracing({"OTEL_TRACES_EXPORTER": "jaeger"})


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """An OTLP collector that keeps what it is sent."""
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_call_becomes_a_span_of_its_caller(collector: list[bytes]) -> None:
    require("module:opentelemetry.exporter.otlp.proto.http")
    tracer = tracing.Tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "given"})
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {
        "traceparent": f"00-{trace_id}-b7ad6b7169203331-01",
        "containerd-namespace": "k8s.io",
    }
    call = Call("/containerd.services.tasks.v1.Tasks/Start", "unary", headers)
    end = tracer.watcher()(call)
    assert logs.trace_ids is not None
    assert logs.trace_ids()["trace_id"] == trace_id
    call.status, call.text = Status.NOT_FOUND, "no task"
    end()
    assert logs.trace_ids() == {}
    tracer.close()
    assert logs.trace_ids is None
    sent = b"".join(collector)
    for part in (
        bytes.fromhex(trace_id),
        b"containerd.services.tasks.v1.Tasks/Start",
        b"k8s.io",
        b"no task",
        b"sampand",
    ):
        assert part in sent
