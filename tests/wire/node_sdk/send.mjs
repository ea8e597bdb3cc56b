// Sends one span, log record and metric of each kind with the OpenTelemetry SDK for Node, as an application would.
//
//   node send.mjs grpc|http/protobuf|http/json ENDPOINT SERVICE NOW_MS
import { SpanKind, SpanStatusCode, trace, context } from "@opentelemetry/api";
import { SeverityNumber } from "@opentelemetry/api-logs";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import { AggregationType, MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const [protocol, endpoint, service, nowMs] = process.argv.slice(2);
const now = Number(nowMs);
const suffix = { grpc: "grpc", "http/protobuf": "proto", "http/json": "http" }[protocol];

async function exporter(signal, name, options = {}) {
  const module = await import(`@opentelemetry/exporter-${signal === "traces" ? "trace" : signal}-otlp-${suffix}`);
  const url = protocol === "grpc" ? `http://${endpoint}` : `http://${endpoint}/v1/${signal}`;
  return new module[name]({ url, compression: "gzip", ...options });
}

const resource = resourceFromAttributes({ "service.name": service, "service.version": "1.0" });

const tracers = new BasicTracerProvider({
  resource,
  spanProcessors: [new BatchSpanProcessor(await exporter("traces", "OTLPTraceExporter"))],
});
const tracer = tracers.getTracer("acme.node", "2");
const span = tracer.startSpan("POST /order", {
  kind: SpanKind.PRODUCER,
  startTime: now,
  attributes: { "http.request.method": "POST", "cart.items": 3, "cart.total": 12.5, "cart.gift": true, tags: ["a", "b"] },
});
span.addEvent("paid", { method: "card" }, now + 1);
span.setStatus({ code: SpanStatusCode.ERROR, message: "declined" });
span.end(now + 2);

const loggers = new LoggerProvider({
  resource,
  processors: [new BatchLogRecordProcessor({ exporter: await exporter("logs", "OTLPLogExporter") })],
});
loggers.getLogger("acme.node").emit({
  timestamp: now,
  observedTimestamp: now,
  severityNumber: SeverityNumber.ERROR,
  severityText: "ERROR",
  body: { reason: "declined", code: 7 },
  attributes: { sku: "x1" },
  context: trace.setSpan(context.active(), span),
});

const meters = new MeterProvider({
  resource,
  readers: [new PeriodicExportingMetricReader({ exporter: await exporter("metrics", "OTLPMetricExporter") })],
  views: [
    { instrumentName: "payload.size", aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM, options: { maxSize: 8 } } },
    { instrumentName: "wait", aggregation: { type: AggregationType.EXPLICIT_BUCKET_HISTOGRAM, options: { boundaries: [0.1, 0.5] } } },
  ],
});
const meter = meters.getMeter("acme.node");
meter.createCounter("orders.placed", { unit: "{order}" }).add(42, { region: "eu" });
meter.createUpDownCounter("carts.open").add(-2);
meter.createGauge("temperature").record(-3.5);
for (const value of [0.05, 0.3, 0.9]) meter.createHistogram("wait").record(value);
for (const value of [0, 5, 30, 90]) meter.createHistogram("payload.size").record(value);

await Promise.all([tracers.shutdown(), loggers.shutdown(), meters.shutdown()]);
console.log(JSON.stringify({ trace_id: span.spanContext().traceId, span_id: span.spanContext().spanId }));
