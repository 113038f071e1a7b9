"""Spans of calls, sent to a collector by OTLP over gRPC. The one module that imports OpenTelemetry.

    server span     from the arrival of a call at the edge to its answer
      stage ...     each item that the call had computed, from its queue to its result
      store ...     each operation of the shopper store
      fetch         the writing of the answer
    batch ...       each batch with an item of a traced call: a trace of its own, linked with these items

A thread sends. What it cannot send in time is dropped: no call waits for a collector.
"""

from __future__ import annotations

import importlib.metadata
import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, StaticSampler
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.config import TracesConfig
from serving.logs import log
from serving.traces.trace import TRACEPARENT, CallTrace, Value

MAX_WAITING = 2048  # spans that wait to be sent
SEND_EVERY_MS = 1000
SEND_S = 5  # that sending takes at most
CLOSE_S = 2  # that the last spans get when a gateway ends
TELL_EVERY_S = 60.0
# Codes that are the server's fault. The others are answers.
FAULTS = ("DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE")


class OtlpTracer:
    """Decides which calls are traced, and makes their spans. A call whose caller has decided follows that; of the others a share is drawn
    before anything is made for it."""

    def __init__(self, config: TracesConfig, facts: Mapping[str, str]) -> None:
        """`facts` are attributes of the process."""
        self._share = config.share
        version = importlib.metadata.version("aisle")
        resource = Resource.create({"service.name": "aisle", "service.version": version, **facts})
        self._provider = TracerProvider(
            sampler=ParentBased(StaticSampler(Decision.RECORD_AND_SAMPLE)), resource=resource, shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=config.endpoint, timeout=SEND_S)
        processor = BatchSpanProcessor(exporter, max_queue_size=MAX_WAITING, schedule_delay_millis=SEND_EVERY_MS)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("aisle")
        self._propagator = TraceContextTextMapPropagator()
        _tell_seldom()

    def begin(self, method: str, traceparent: str, started: float, facts: Mapping[str, Value]) -> CallTrace | None:
        if not traceparent and random.random() >= self._share:
            return None
        parent = self._propagator.extract({TRACEPARENT: traceparent}, Context())
        attributes = {"rpc.system.name": "grpc", "rpc.method": method, **facts}
        span = self._tracer.start_span(
            method, parent, SpanKind.SERVER, attributes=attributes, start_time=_wall_ns(started)
        )
        return OtlpCall(self, span) if span.is_recording() else None

    def start(self, name: str, parent: Context, started: float, links: Sequence[Link] = ()) -> Span:
        return self._tracer.start_span(name, parent, links=links, start_time=_wall_ns(started))

    def close(self) -> None:
        closing = threading.Thread(target=self._provider.shutdown, name="aisle-traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)  # it would wait half a minute for a collector that is away


class OtlpCall:
    def __init__(self, tracer: OtlpTracer, span: Span) -> None:
        self.tracer, self.span = tracer, span
        self.trace_id = f"{span.get_span_context().trace_id:032x}"
        self.inside = set_span_in_context(span, Context())

    def describe(self, **facts: Value) -> None:
        for name, value in facts.items():
            self.span.set_attribute(f"aisle.{name}", value)

    def phase(self, name: str, started: float, ended: float) -> None:
        self.tracer.start(name, self.inside, started).end(_wall_ns(ended))

    def batch(
        self, stage: str, items: Sequence[tuple[CallTrace, float]], started: float, seconds: float, size: int, cost: int
    ) -> None:
        ended = _wall_ns(started + seconds)
        batch = self.tracer.start(f"batch {stage}", Context(), started)
        batch.set_attributes({"aisle.stage": stage, "aisle.batch_size": size, "aisle.batch_cost": cost})
        for call, wait_s in items:
            if isinstance(call, OtlpCall):
                item = self.tracer.start(
                    f"stage {stage}", call.inside, started - wait_s, [Link(batch.get_span_context())]
                )
                item.set_attributes({"aisle.stage": stage, "aisle.batch_size": size, "aisle.queue_ms": wait_s * 1000})
                item.add_event("computing", timestamp=_wall_ns(started))
                item.end(ended)
                batch.add_link(item.get_span_context())
        batch.end(ended)

    def end(self, code: str) -> None:
        self.span.set_attribute("rpc.response.status_code", code)
        if code != "OK":
            self.span.set_attribute("error.type", code)
        if code in FAULTS:
            self.span.set_status(Status(StatusCode.ERROR))
        self.span.end()


def _wall_ns(at: float) -> int:
    """Returns a time of `time.monotonic` in nanoseconds since 1970."""
    return time.time_ns() - int((time.monotonic() - at) * 1e9)


class _Seldom(logging.Filter):
    """Lets one line a minute pass."""

    _next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + TELL_EVERY_S
        return True


class _ToLog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log.warning("traces are not sent", extra={"fields": {"error": record.getMessage()}})


def _tell_seldom() -> None:
    """Sends what OpenTelemetry complains about to the log of Aisle, one line a minute: it complains for as long as a collector is away."""
    handler = _ToLog(logging.WARNING)
    handler.addFilter(_Seldom())
    logger = logging.getLogger("opentelemetry")
    logger.handlers[:] = [handler]
    logger.propagate = False
