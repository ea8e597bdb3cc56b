"""Sends one trace, one metric and one log record with the OpenTelemetry SDK for Python.

    pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http
    python examples/hello_sdk/hello.py

Nothing here knows of Colonnade: the SDK reads OTEL_EXPORTER_OTLP_ENDPOINT (default http://localhost:4318),
OTEL_EXPORTER_OTLP_HEADERS and OTEL_SERVICE_NAME from the environment.
"""

import os

from opentelemetry import metrics, trace
from opentelemetry._logs import SeverityNumber, get_logger, set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

os.environ.setdefault("OTEL_SERVICE_NAME", "hello")
resource = Resource.create({"service.version": "1.0", "deployment.environment.name": "dev"})

traces = TracerProvider(resource=resource)
traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(traces)

meters = MeterProvider(resource=resource, metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())])
metrics.set_meter_provider(meters)

logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
set_logger_provider(logs)

greetings = metrics.get_meter("hello").create_counter("greetings", unit="1", description="How often we said hello.")

with trace.get_tracer("hello").start_as_current_span("say hello", attributes={"greeting.to": "world"}) as span:
    greetings.add(1, {"greeting.to": "world"})
    get_logger("hello").emit(severity_number=SeverityNumber.INFO, severity_text="INFO", body="hello, world")
    trace_id = f"{span.get_span_context().trace_id:032x}"

for provider in (traces, meters, logs):
    provider.shutdown()
print(f"sent a trace, a metric and a log record; the trace is {trace_id}")
