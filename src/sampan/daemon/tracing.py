"""OpenTelemetry: a span for each gRPC call, where `OTEL_*` says who wants to see them.

Nothing is loaded unless an exporter or an endpoint is named; then the package opentelemetry-sdk
(extra `otel`) must be there. Endpoint, headers, sampler, resource: the SDK reads them from the
environment itself. A caller's `traceparent` becomes the parent of our span.

Source: opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables; w3.org/TR/trace-
context.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from grpclib.const import Status

from sampan import __version__
from sampan.daemon import logs
from sampan.daemon.calls import Call, Watcher
from sampan.errors import FailedPrecondition

__all__ = ["Tracing", "wanted"]

log = logging.getLogger(__name__)

_SWITCHES: Final = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)
_OTLP: Final = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
}
_CARRIED: Final = ("traceparent", "tracestate", "baggage")


def wanted(environ: Mapping[str, str]) -> bool:
    """Tell whether the environment asks for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if environ.get("OTEL_TRACES_EXPORTER", "").lower() == "none":
        return False
    return any(environ.get(one) for one in _SWITCHES)


class Tracing:
    """The process's tracer; `close` sends what is left."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Set up the SDK.

        Raises:
          FailedPrecondition: the SDK or the exporter is not installed, or unknown.
        """
        resources = _module("opentelemetry.sdk.resources")
        tracing = _module("opentelemetry.sdk.trace")
        export = _module("opentelemetry.sdk.trace.export")
        propagation = _module("opentelemetry.trace.propagation.tracecontext")
        named = {"service.name": environ.get("OTEL_SERVICE_NAME") or "sampand"}
        resource = resources.Resource.create({"service.version": __version__, **named})
        self._provider = tracing.TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(export.BatchSpanProcessor(_exporter(environ)))
        self._tracer = self._provider.get_tracer("sampan", __version__)
        self._propagator = propagation.TraceContextTextMapPropagator()
        logs.trace_ids = _ids
        log.info("tracing is on")

    def watcher(self) -> Watcher:
        """Return what opens and ends a span around each call."""
        current = _module("opentelemetry.context")
        trace = _module("opentelemetry.trace")

        def begin(call: Call) -> Callable[[], None]:
            carried = {key: str(call.metadata[key]) for key in _CARRIED if key in call.metadata}
            span = self._tracer.start_span(
                f"{call.service}/{call.method}",
                context=self._propagator.extract(carried),
                kind=trace.SpanKind.SERVER,
                attributes={
                    "rpc.system": "grpc",
                    "rpc.service": call.service,
                    "rpc.method": call.method,
                    "containerd.namespace": str(call.metadata.get("containerd-namespace", "")),
                },
            )
            token = current.attach(trace.set_span_in_context(span))

            def end() -> None:
                current.detach(token)
                span.set_attribute("rpc.grpc.status_code", call.status.value)
                if call.status is not Status.OK:
                    span.set_status(trace.Status(trace.StatusCode.ERROR, call.text))
                span.end()

            return end

        return begin

    def close(self) -> None:
        """Send what is left and end the SDK's thread; blocks, at most for the SDK's timeout."""
        logs.trace_ids = None
        self._provider.shutdown()


def _exporter(environ: Mapping[str, str]) -> Any:
    kind = environ.get("OTEL_TRACES_EXPORTER", "").lower() or "otlp"
    protocol = (
        environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    if kind == "console":
        return _module("opentelemetry.sdk.trace.export").ConsoleSpanExporter(out=sys.stderr)
    if kind == "otlp" and protocol in _OTLP:
        return _module(_OTLP[protocol]).OTLPSpanExporter()
    raise FailedPrecondition(f"OTEL_TRACES_EXPORTER={kind} over {protocol} is not supported")


def _module(name: str) -> Any:
    """Import a module of the SDK: it is no dependency of ours, and untyped here.

    Raises:
      FailedPrecondition: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as err:
        raise FailedPrecondition(
            f"OTEL_* asks for traces, but {err.name} is not installed: pip install 'sampan[otel]'"
        ) from err


def _ids() -> dict[str, str]:
    span = _module("opentelemetry.trace").get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
