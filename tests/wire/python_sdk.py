"""The OpenTelemetry SDK for Python, set up as an application would, for each of its transports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GRPCLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GRPCMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GRPCSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HTTPLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HTTPMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HTTPSpans
from opentelemetry.metrics import Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, MetricsData
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from tests.daemon_process import Daemon

MS = 1_000_000
REMOTE = SpanContext(
    0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True, TraceFlags(1), TraceState([("a", "1")])
)
RESOURCE = {
    "service.version": "2.4.1",
    "service.namespace": "shop",
    "service.instance.id": "i-1",
    "deployment.environment.name": "prod",
    "host.name": "node-7",
    "team": "payments",
    "replicas": 3,
}


@dataclass(frozen=True)
class Transport:
    """How an SDK sends."""

    protocol: str
    compression: str

    def exporters(self, daemon: Daemon) -> tuple[Any, Any, Any]:
        """Exporters of spans, metrics, log records."""
        if self.protocol == "grpc":
            packed = grpc.Compression.Gzip if self.compression == "gzip" else grpc.Compression.NoCompression
            given: dict[str, Any] = {
                "endpoint": f"http://{daemon.grpc_endpoint}",
                "insecure": True,
                "compression": packed,
            }
            return GRPCSpans(**given), GRPCMetrics(**given), GRPCLogs(**given)
        base, packed = f"http://{daemon.http_endpoint}/v1", Compression(self.compression)
        return (
            HTTPSpans(f"{base}/traces", compression=packed),
            HTTPMetrics(f"{base}/metrics", compression=packed),
            HTTPLogs(f"{base}/logs", compression=packed),
        )


def resource(service: str) -> Resource:
    return Resource.create({"service.name": service, **RESOURCE})


class Remembers:
    """A span exporter that keeps what it sent."""

    def __init__(self, exporter: Any) -> None:
        self.exporter = exporter
        self.spans: list[ReadableSpan] = []
        self.results: list[SpanExportResult] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        self.results.append(self.exporter.export(spans))
        return self.results[-1]

    def shutdown(self) -> None:
        self.exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def send_spans(exporter: Any, service: str, now_ns: int) -> list[ReadableSpan]:
    """A server's span with everything a span may have, and a client's below it; in the order of their start."""
    remembers = Remembers(exporter)
    provider = TracerProvider(resource=resource(service))
    provider.add_span_processor(BatchSpanProcessor(remembers))
    tracer = provider.get_tracer("acme.http", "1.0", schema_url="https://schema", attributes={"lib": "x"})
    parent = set_span_in_context(NonRecordingSpan(REMOTE))
    server = tracer.start_span(
        "GET /cart/{id}",
        context=parent,
        kind=SpanKind.SERVER,
        start_time=now_ns,
        links=[Link(REMOTE, {"why": "retry"})],
        attributes={
            "http.request.method": "GET",
            "url.full": "https://Shop.example/cart/9?x=1",
            "http.response.status_code": 503,
            "user.id": "u-9",
            "cart.items": 3,
            "cart.total": 12.5,
            "cart.gift": True,
            "cart.tags": ("a", "b"),
            "cart.note": "ä\n",
        },
    )
    server.add_event("cache.miss", {"key": "cart/9"}, timestamp=now_ns + MS)
    client = tracer.start_span(
        "SELECT", context=set_span_in_context(server), kind=SpanKind.CLIENT, start_time=now_ns + 2 * MS
    )
    client.set_attributes({"db.system.name": "PostgreSQL", "db.operation.name": "select"})
    client.end(now_ns + 3 * MS)
    server.set_status(Status(StatusCode.ERROR, "upstream timeout"))
    server.end(now_ns + 5 * MS + 500_000)
    provider.shutdown()
    assert remembers.results == [SpanExportResult.SUCCESS]
    return sorted(remembers.spans, key=lambda span: span.start_time or 0)


def send_metrics(exporter: Any, service: str) -> MetricsData:
    """Every instrument that the SDK has, and an exponential histogram; what was sent."""
    reader = InMemoryMetricReader(
        preferred_temporality={Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.CUMULATIVE}
    )
    provider = MeterProvider(
        [reader],
        resource=resource(service),
        exemplar_filter=AlwaysOnExemplarFilter(),
        views=[View(instrument_name="payload.size", aggregation=ExponentialBucketHistogramAggregation(max_size=8))],
    )
    meter = provider.get_meter("acme.shop", "3")
    meter.create_counter("orders.placed", "{order}", "orders accepted").add(42, {"region": "eu", "vip": True})
    meter.create_up_down_counter("carts.open").add(-2)
    histogram = meter.create_histogram("wait", "s", explicit_bucket_boundaries_advisory=[0.1, 0.5])
    exponential = meter.create_histogram("payload.size", "By")
    for value in (0.05, 0.3, 0.9):
        histogram.record(value, {"queue": "a"})
        exponential.record(value * 100)
    exponential.record(0)
    meter.create_observable_gauge("temperature", [lambda _: [Observation(-3.5, {"room": 1})]])
    data = reader.get_metrics_data()
    assert data is not None
    assert exporter.export(data).name == "SUCCESS"
    exporter.shutdown()
    provider.shutdown()
    return data


def send_logs(exporter: Any, service: str, now_ns: int) -> None:
    """Records with bodies of several types, one of them with an exception's attributes and a trace."""
    provider = LoggerProvider(resource=resource(service))
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("stock")
    logger.emit(
        timestamp=now_ns,
        observed_timestamp=now_ns + MS,
        context=set_span_in_context(NonRecordingSpan(REMOTE)),
        severity_number=SeverityNumber.WARN2,
        severity_text="Warning",
        body="low stock",
        attributes={"sku": "x1", "left": 3, "exception.type": "StockError", "exception.message": "none left"},
        event_name="stock.low",
    )
    logger.emit(
        timestamp=now_ns + 1,
        observed_timestamp=now_ns + 1,
        severity_number=SeverityNumber.INFO,
        body={"left": 3, "of": [1.5, None, True]},
    )
    logger.emit(observed_timestamp=now_ns + 2, body=7)
    provider.shutdown()


Send = Callable[..., Any]
