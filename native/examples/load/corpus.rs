//! Requests as a web shop's services would send them, made once and stamped anew for each sending.
//!
//! A template is a whole OTLP request whose ids, times and high-cardinality values stand at known places. Stamping
//! overwrites those with what follows from the request's number, so that no two rows of a run are alike while sending
//! costs a few microseconds. Everything follows from the numbers given: the same run sends the same bytes, times apart.

use _native::protobuf::Writer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Logs,
    /// Points of every kind.
    Metrics,
    /// Gauge points with five attributes.
    Gauges,
}

/// What the rows are like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub signal: Signal,
    pub rows: u64,
    /// How many text attributes a row has: first those that have a column, then `wide.000` and so on. `None`: a real mix.
    pub attributes: Option<usize>,
    /// How many distinct values each high-cardinality attribute takes over a run. `None`: as a shop has them.
    pub distinct: Option<u64>,
}

/// A request to be stamped.
#[derive(Clone)]
pub struct Template {
    pub bytes: Vec<u8>,
    stamps: Vec<Stamp>,
}

#[derive(Clone, Copy)]
struct Stamp {
    at: usize,
    what: Stamped,
}

#[derive(Clone, Copy)]
enum Stamped {
    /// 16 bytes, the same for equal numbers in a request.
    TraceId(u64),
    /// 8 bytes.
    SpanId(u64),
    /// A fixed64: this many nanoseconds before now.
    Time(u64),
    /// Eight hexadecimal digits, one of so many values.
    Tag { local: u64, distinct: u64 },
}

/// More rows than a request has, so that numbers of rows are distinct over requests.
const STRIDE: u64 = 1 << 20;

impl Template {
    /// `variant` chooses the service and every value that repeats.
    pub fn new(shape: Shape, variant: u64) -> Template {
        let mut maker = Maker { shape, random: variant.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed, tags: 0 };
        let message = match shape.signal {
            Signal::Traces => maker.traces(),
            Signal::Logs => maker.logs(),
            Signal::Metrics => maker.metrics(false),
            Signal::Gauges => maker.metrics(true),
        };
        Template { bytes: message.writer.out, stamps: message.stamps }
    }

    /// The same behind a gRPC message head (not compressed).
    pub fn framed(mut self) -> Template {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&(self.bytes.len() as u32).to_be_bytes());
        bytes.append(&mut self.bytes);
        self.stamps.iter_mut().for_each(|stamp| stamp.at += 5);
        Template { bytes, ..self }
    }

    /// Makes `buffer`, a copy of the template, into request `number` of the run.
    pub fn stamp(&self, buffer: &mut [u8], number: u64, now_ns: u64) {
        let base = number.wrapping_mul(STRIDE);
        for stamp in &self.stamps {
            let place = &mut buffer[stamp.at..];
            match stamp.what {
                Stamped::TraceId(local) => {
                    let high = scatter(base + local);
                    place[..8].copy_from_slice(&high.to_be_bytes());
                    place[8..16].copy_from_slice(&scatter(!high).to_be_bytes());
                }
                Stamped::SpanId(local) => place[..8].copy_from_slice(&scatter(base + local).to_be_bytes()),
                Stamped::Time(before) => place[..8].copy_from_slice(&(now_ns - before).to_le_bytes()),
                Stamped::Tag { local, distinct } => {
                    let value = scatter(!(base + local)) % distinct;
                    for (index, digit) in place[..8].iter_mut().enumerate() {
                        *digit = b"0123456789abcdef"[(value >> (28 - 4 * index)) as usize & 15];
                    }
                }
            }
        }
    }
}

/// One-to-one over 64 bits, so that distinct numbers make distinct ids (splitmix64).
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// A protobuf message, and the places in it that are stamped.
#[derive(Default)]
struct Message {
    writer: Writer,
    stamps: Vec<Stamp>,
}

impl Message {
    fn nest(&mut self, number: u32, inner: Message) {
        self.writer.bytes(number, &inner.writer.out);
        let start = self.writer.out.len() - inner.writer.out.len();
        self.stamps.extend(inner.stamps.iter().map(|stamp| Stamp { at: start + stamp.at, ..*stamp }));
    }

    /// The last `width` bytes written are to be stamped.
    fn stamped(&mut self, width: usize, what: Stamped) {
        self.stamps.push(Stamp { at: self.writer.out.len() - width, what });
    }

    fn time(&mut self, number: u32, before_ns: u64) {
        self.writer.fixed64_always(number, 0);
        self.stamped(8, Stamped::Time(before_ns));
    }

    fn trace_id(&mut self, number: u32, local: u64) {
        self.writer.bytes(number, &[0; 16]);
        self.stamped(16, Stamped::TraceId(local));
    }

    fn span_id(&mut self, number: u32, local: u64) {
        self.writer.bytes(number, &[0; 8]);
        self.stamped(8, Stamped::SpanId(local));
    }
}

/// A value of an attribute.
enum Value {
    Is(&'static str),
    /// One of these.
    Of(&'static [&'static str]),
    /// A text with a tag behind it, one of so many.
    Tagged(&'static str, u64),
    Int(u64, u64),
    Double(f64, f64),
    Bool,
}
use Value::{Bool, Double, Int, Is, Of, Tagged};

type Attributes = &'static [(&'static str, Value)];

const SERVICES: [&str; 12] = [
    "checkout",
    "cart",
    "catalog",
    "frontend",
    "payment",
    "shipping",
    "search",
    "currency",
    "recommendation",
    "ad",
    "quote",
    "email",
];
const METHODS: &[&str] = &["GET", "GET", "GET", "POST", "PUT", "DELETE"];
const ROUTES: &[&str] = &[
    "/api/cart/{cart_id}",
    "/api/products/{product_id}",
    "/api/checkout",
    "/api/recommendations",
    "/api/currency",
    "/api/orders/{order_id}/items",
    "/api/shipping/quote",
    "/",
    "/healthz",
    "/api/search",
];
const USER_AGENTS: &[&str] = &[
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0 Mobile Safari/537.36",
    "okhttp/4.12.0",
];
const HOSTS: &[&str] = &["shop.example.com", "api.example.com", "m.example.com"];
const FUNCTIONS: &[&str] = &[
    "com.example.shop.CartService.addItem",
    "com.example.shop.Checkout.placeOrder",
    "com.example.shop.Quote.calculate",
    "com.example.shop.Search.rank",
    "com.example.shop.Payment.charge",
];
const THREADS: &[&str] = &["http-nio-8080-exec-1", "http-nio-8080-exec-2", "http-nio-8080-exec-3", "grpc-default-7"];

const RESOURCE: Attributes = &[
    ("service.version", Of(&["2.14.0", "2.14.1", "2.15.0-rc.1"])),
    ("service.namespace", Is("shop")),
    ("service.instance.id", Of(&["627cc493-f310-47de-96bd-71410b7dec09", "0f6d1a3b-8a3e-4f34-9e0c-0b6a2f1d7c55"])),
    ("deployment.environment.name", Is("production")),
    ("host.name", Of(&["node-7.eu-central-1.example.com", "node-12.eu-central-1.example.com"])),
    ("os.type", Is("linux")),
    ("process.runtime.name", Is("OpenJDK Runtime Environment")),
    ("process.pid", Int(1, 4_000)),
    ("cloud.provider", Is("aws")),
    ("cloud.region", Is("eu-central-1")),
    ("cloud.availability_zone", Of(&["eu-central-1a", "eu-central-1b", "eu-central-1c"])),
    ("k8s.namespace.name", Is("shop")),
    ("k8s.pod.name", Of(&["shop-6d4cf56db6-9xkzq", "shop-6d4cf56db6-q7l2m", "shop-6d4cf56db6-zz81p"])),
    ("k8s.deployment.name", Is("shop")),
    ("telemetry.sdk.name", Is("opentelemetry")),
    ("telemetry.sdk.language", Is("java")),
    ("telemetry.sdk.version", Is("1.49.0")),
];

const SERVER_SPAN: Attributes = &[
    ("http.request.method", Of(METHODS)),
    ("url.scheme", Is("https")),
    ("url.path", Tagged("/api/orders/", 1 << 20)),
    ("url.query", Is("currency=EUR&lang=de")),
    ("http.route", Of(ROUTES)),
    ("http.response.status_code", Int(200, 204)),
    ("http.response.body.size", Int(120, 48_000)),
    ("server.address", Of(HOSTS)),
    ("server.port", Int(443, 443)),
    ("client.address", Of(&["203.0.113.7", "198.51.100.23", "192.0.2.146", "203.0.113.81"])),
    ("network.protocol.version", Of(&["1.1", "2"])),
    ("user_agent.original", Of(USER_AGENTS)),
    ("user.id", Tagged("user-", 200_000)),
    ("session.id", Tagged("5f0c7a9e-1b5d-", 1 << 20)),
    ("thread.name", Of(THREADS)),
];
const INTERNAL_SPAN: Attributes = &[
    ("code.function.name", Of(FUNCTIONS)),
    ("code.file.path", Is("src/main/java/com/example/shop/CartService.java")),
    ("code.line.number", Int(20, 600)),
    ("thread.id", Int(20, 80)),
    ("thread.name", Of(THREADS)),
    ("user.id", Tagged("user-", 200_000)),
    ("session.id", Tagged("5f0c7a9e-1b5d-", 1 << 20)),
    ("feature_flag.key", Of(&["new-checkout", "fast-search"])),
    ("feature_flag.result.variant", Of(&["on", "off"])),
    ("app.cart.items", Int(0, 12)),
    ("app.cart.total", Double(5.0, 900.0)),
    ("app.order.id", Tagged("order-", 1 << 28)),
    ("app.tier", Of(&["gold", "silver", "basic"])),
    ("app.currency", Of(&["EUR", "USD", "CHF"])),
    ("app.cache.hit", Bool),
];
const DATABASE_SPAN: Attributes = &[
    ("db.system.name", Is("postgresql")),
    ("db.namespace", Of(&["shop", "orders"])),
    ("db.collection.name", Of(&["carts", "orders", "order_items", "products"])),
    ("db.operation.name", Of(&["SELECT", "SELECT", "INSERT", "UPDATE"])),
    (
        "db.query.text",
        Of(&[
            "SELECT id, sku, quantity, price, currency, discount FROM order_items WHERE order_id = $1 ORDER BY position, id",
            "SELECT id, name, description, price, currency, stock FROM products WHERE id = ANY($1) AND active AND price < $2",
            "UPDATE carts SET quantity = $2, updated_at = now(), version = version + 1 WHERE id = $1 AND version = $3",
        ]),
    ),
    ("db.response.returned_rows", Int(0, 50)),
    ("server.address", Is("orders-db.shop.svc.cluster.local")),
    ("server.port", Int(5432, 5432)),
    ("network.peer.address", Of(&["10.12.3.4", "10.12.3.5"])),
    ("network.transport", Is("tcp")),
    ("thread.name", Of(THREADS)),
    ("user.id", Tagged("user-", 200_000)),
    ("app.order.id", Tagged("order-", 1 << 28)),
    ("app.db.pool", Of(&["main", "replica"])),
    ("app.db.retries", Int(0, 2)),
];
const CLIENT_SPAN: Attributes = &[
    ("http.request.method", Of(METHODS)),
    ("url.full", Tagged("https://api.example.com/v2/shipping/quotes/express?currency=EUR&parcel=", 1 << 20)),
    ("http.response.status_code", Int(200, 204)),
    ("http.request.body.size", Int(80, 4_000)),
    ("http.response.body.size", Int(120, 48_000)),
    ("server.address", Of(HOSTS)),
    ("server.port", Int(443, 443)),
    ("network.protocol.version", Of(&["1.1", "2"])),
    ("network.peer.address", Of(&["10.12.9.1", "10.12.9.2", "10.12.9.3"])),
    ("http.route", Of(ROUTES)),
    ("thread.name", Of(THREADS)),
    ("user.id", Tagged("user-", 200_000)),
    ("session.id", Tagged("5f0c7a9e-1b5d-", 1 << 20)),
    ("app.tier", Of(&["gold", "silver", "basic"])),
    ("app.attempt", Int(1, 3)),
];

const LOG_RECORD: Attributes = &[
    ("thread.name", Of(THREADS)),
    ("user.id", Tagged("user-", 200_000)),
    ("app.order.id", Tagged("order-", 1 << 28)),
    ("app.tier", Of(&["gold", "silver", "basic"])),
];
const LOG_BODIES: &[&str] = &[
    "Order placed, payment authorised by provider in 182 ms",
    "Cart updated: quantity of item changed from 1 to 3",
    "Cache miss for product details, loading from database",
    "Shipping quote received from carrier, 4 options",
    "Retrying payment authorisation after timeout of upstream, attempt 2 of 3",
];

const POINT: Attributes = &[
    ("http.request.method", Of(METHODS)),
    ("http.route", Of(ROUTES)),
    ("http.response.status_code", Int(200, 204)),
    ("server.address", Of(HOSTS)),
    ("app.shard", Tagged("shard-", 5_000)),
];

/// Attributes that fill a column each, for rows as wide as asked: of the record, then of the resource.
const WIDE_RECORD: &[&str] = &[
    "session.id",
    "user.id",
    "user.full_name",
    "http.request.method",
    "url.full",
    "server.address",
    "url.path",
    "url.query",
    "network.protocol.version",
    "user_agent.original",
    "geo.country.iso_code",
    "geo.region.iso_code",
    "geo.locality.name",
    "geo.postal_code",
    "user_agent.name",
    "user_agent.version",
    "db.system.name",
    "db.namespace",
    "db.collection.name",
    "db.operation.name",
    "db.query.text",
    "messaging.system",
    "messaging.destination.name",
    "messaging.operation.name",
    "messaging.message.id",
    "rpc.system.name",
    "rpc.service",
    "feature_flag.key",
    "feature_flag.result.variant",
    "browser.web_vital.name",
    "browser.web_vital.rating",
    "browser.web_vital.navigation_type",
    "exception.type",
    "exception.message",
    "exception.stacktrace",
    "messaging.message.conversation_id",
    "enduser.pseudo.id",
    "http.request.header.referer",
    "http.response.header.content-type",
    "otel.status_description",
    "rpc.response.status_code",
    "user_agent.os.name",
    "user_agent.os.version",
    "event.name",
];
const WIDE_RESOURCE: &[&str] = &[
    "service.version",
    "service.instance.id",
    "service.namespace",
    "host.name",
    "host.id",
    "cloud.provider",
    "cloud.region",
    "cloud.availability_zone",
    "container.id",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.deployment.name",
    "device.model.name",
    "device.manufacturer",
    "app.screen.name",
];

/// Spans of a trace, each the child of the one named: kind, name, attributes.
const TRACE: [(u64, &str, Attributes, u64); 5] = [
    (2, "POST /api/checkout", SERVER_SPAN, 0),
    (1, "Checkout.placeOrder", INTERNAL_SPAN, 0),
    (3, "SELECT order_items", DATABASE_SPAN, 1),
    (3, "UPDATE carts", DATABASE_SPAN, 1),
    (3, "POST", CLIENT_SPAN, 1),
];
/// Of so many spans and log records one failed.
const ONE_FAILS_OF: u64 = 100;
const STACK: &str = "java.net.SocketTimeoutException: Read timed out\n\
    \tat java.base/sun.nio.ch.NioSocketImpl.timedRead(NioSocketImpl.java:288)\n\
    \tat java.base/sun.nio.ch.NioSocketImpl.implRead(NioSocketImpl.java:314)\n\
    \tat com.example.shop.payment.ProviderClient.call(ProviderClient.java:91)\n\
    \tat com.example.shop.payment.PaymentService.charge(PaymentService.java:57)\n\
    \tat com.example.shop.checkout.Checkout.placeOrder(Checkout.java:133)";

const MILLISECOND: u64 = 1_000_000;

struct Maker {
    shape: Shape,
    random: u64,
    tags: u64,
}

impl Maker {
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(1);
        scatter(self.random) % bound
    }

    fn pick(&mut self, of: &'static [&'static str]) -> &'static str {
        of[self.below(of.len() as u64) as usize]
    }

    /// A request around scopes of records: the same field numbers for every signal.
    fn request(&mut self, scope_name: &str, records: impl FnOnce(&mut Maker, &mut Message)) -> Message {
        let mut resource = Message::default();
        let service = self.pick(&SERVICES);
        self.text(&mut resource, 1, "service.name", service);
        match self.shape.attributes {
            None => self.attributes(&mut resource, 1, RESOURCE),
            Some(wanted) => {
                let keys = WIDE_RESOURCE.iter().take(wanted.saturating_sub(WIDE_RECORD.len()));
                keys.for_each(|key| self.wide(&mut resource, 1, key));
            }
        }
        let mut scope = Message::default();
        scope.writer.text(1, scope_name);
        scope.writer.text(2, "2.18.0");
        let mut scoped = Message::default();
        scoped.nest(1, scope);
        records(self, &mut scoped);
        let mut all = Message::default();
        all.nest(1, resource);
        all.nest(2, scoped);
        let mut request = Message::default();
        request.nest(1, all);
        request
    }

    fn traces(&mut self) -> Message {
        self.request("io.opentelemetry.tomcat-10.0", |maker, scope| {
            for row in 0..maker.shape.rows {
                let span = maker.span(row);
                scope.nest(2, span);
            }
        })
    }

    fn span(&mut self, row: u64) -> Message {
        let (kind, name, attributes, parent) = TRACE[row as usize % TRACE.len()];
        let root = row - row % TRACE.len() as u64;
        let ended = self.below(50 * MILLISECOND);
        let failed = self.below(ONE_FAILS_OF) == 0;
        let mut span = Message::default();
        span.trace_id(1, root);
        span.span_id(2, row);
        if row != root {
            span.span_id(4, root + parent);
        }
        span.writer.text(5, name);
        span.writer.number(6, kind);
        let lasted = MILLISECOND + self.below(80 * MILLISECOND);
        span.time(7, ended + lasted);
        span.time(8, ended);
        self.record_attributes(&mut span, 9, attributes);
        if failed {
            let mut event = Message::default();
            event.time(1, ended + lasted / 2);
            event.writer.text(2, "exception");
            self.text(&mut event, 3, "exception.type", "java.net.SocketTimeoutException");
            self.text(&mut event, 3, "exception.message", "Read timed out");
            self.text(&mut event, 3, "exception.stacktrace", STACK);
            span.nest(11, event);
            let mut status = Message::default();
            status.writer.text(2, "Read timed out");
            status.writer.number(3, 2);
            span.nest(15, status);
        }
        span
    }

    fn logs(&mut self) -> Message {
        self.request("com.example.shop.Checkout", |maker, scope| {
            for row in 0..maker.shape.rows {
                let record = maker.log_record(row);
                scope.nest(2, record);
            }
        })
    }

    fn log_record(&mut self, row: u64) -> Message {
        let failed = self.below(ONE_FAILS_OF) == 0;
        let before = self.below(50 * MILLISECOND);
        let mut record = Message::default();
        record.time(1, before + MILLISECOND);
        record.writer.number(2, if failed { 17 } else { 9 });
        record.writer.text(3, if failed { "ERROR" } else { "INFO" });
        let mut body = Message::default();
        body.writer.text(1, self.pick(LOG_BODIES));
        record.nest(5, body);
        self.record_attributes(&mut record, 6, LOG_RECORD);
        record.writer.fixed32(8, 1);
        record.trace_id(9, row - row % 4);
        record.span_id(10, row);
        record.time(11, before);
        record
    }

    /// Metrics of five points each; all kinds in turn, or gauges only.
    fn metrics(&mut self, gauges: bool) -> Message {
        const PER_METRIC: u64 = 5;
        self.request("io.opentelemetry.runtime-telemetry-java17", |maker, scope| {
            for (number, first) in (0..maker.shape.rows).step_by(PER_METRIC as usize).enumerate() {
                let points = PER_METRIC.min(maker.shape.rows - first);
                let kind = if gauges { Kind::Gauge } else { Kind::ALL[number % Kind::ALL.len()] };
                let metric = maker.metric(kind, number, points);
                scope.nest(2, metric);
            }
        })
    }

    fn metric(&mut self, kind: Kind, number: usize, points: u64) -> Message {
        const NAMES: [&str; 8] = [
            "http.server.request.duration",
            "jvm.memory.used",
            "http.server.active_requests",
            "jvm.gc.duration",
            "db.client.operation.duration",
            "shop.cart.size",
            "shop.orders",
            "process.cpu.utilization",
        ];
        let mut data = Message::default();
        for _ in 0..points {
            let point = self.point(kind);
            data.nest(1, point);
        }
        if matches!(kind, Kind::Sum | Kind::Histogram | Kind::ExponentialHistogram) {
            data.writer.number(2, 2);
        }
        if matches!(kind, Kind::Sum) {
            data.writer.number(3, 1);
        }
        let mut metric = Message::default();
        metric.writer.text(1, NAMES[number % NAMES.len()]);
        metric.writer.text(2, "Duration of what the instrument observes.");
        metric.writer.text(3, "s");
        metric.nest(kind as u32, data);
        metric
    }

    fn point(&mut self, kind: Kind) -> Message {
        let mut point = Message::default();
        point.time(2, 60_000 * MILLISECOND);
        point.time(3, 0);
        let count = 200 + self.below(1_000);
        let value = self.below(1 << 20) as f64 / 1_024.0;
        let attributes = match kind {
            Kind::Gauge | Kind::Sum => {
                point.writer.double(4, value);
                7
            }
            Kind::Histogram => {
                point.writer.fixed64(4, count);
                point.writer.double(5, value);
                point.writer.bytes(6, &packed_fixed64(&[count / 2, count / 4, count - count / 2 - count / 4, 0, 0, 0]));
                let bounds = [0.005, 0.025, 0.1, 0.5, 2.5f64];
                point.writer.bytes(7, &packed_fixed64(&bounds.map(f64::to_bits)));
                point.writer.double(11, 0.001);
                point.writer.double(12, 2.25);
                9
            }
            Kind::ExponentialHistogram => {
                // Counts below 128 are their own varints.
                let counts: Vec<u8> = (0..20).map(|_| self.below(100) as u8).collect();
                point.writer.fixed64(4, counts.iter().copied().map(u64::from).sum());
                point.writer.double(5, value);
                point.writer.signed(6, 3);
                let mut buckets = Message::default();
                buckets.writer.signed(1, -2);
                buckets.writer.bytes(2, &counts);
                point.nest(8, buckets);
                1
            }
            Kind::Summary => {
                point.writer.fixed64(4, count);
                point.writer.double(5, value);
                for (quantile, share) in [(0.5, 0.2), (0.99, 2.0)] {
                    let mut at = Message::default();
                    at.writer.double(1, quantile);
                    at.writer.double(2, value * share);
                    point.nest(6, at);
                }
                7
            }
        };
        self.record_attributes(&mut point, attributes, POINT);
        point
    }

    /// Attributes of a record: as many as asked, else those given.
    fn record_attributes(&mut self, into: &mut Message, number: u32, given: Attributes) {
        match self.shape.attributes {
            None => self.attributes(into, number, given),
            Some(wanted) => {
                WIDE_RECORD.iter().take(wanted).for_each(|key| self.wide(into, number, key));
                for index in 0..wanted.saturating_sub(WIDE_RECORD.len() + WIDE_RESOURCE.len()) {
                    self.wide(into, number, &format!("wide.{index:03}"));
                }
            }
        }
    }

    fn wide(&mut self, into: &mut Message, number: u32, key: &str) {
        self.attribute(into, number, key, &Tagged("value-", 100));
    }

    fn attributes(&mut self, into: &mut Message, number: u32, attributes: Attributes) {
        for (key, value) in attributes {
            self.attribute(into, number, key, value);
        }
    }

    fn text(&mut self, into: &mut Message, number: u32, key: &str, text: &'static str) {
        self.attribute(into, number, key, &Is(text));
    }

    fn attribute(&mut self, into: &mut Message, number: u32, key: &str, value: &Value) {
        let mut any = Message::default();
        match *value {
            Is(text) => any.writer.bytes(1, text.as_bytes()),
            Of(texts) => any.writer.bytes(1, self.pick(texts).as_bytes()),
            Tagged(text, usual) => {
                any.writer.bytes(1, format!("{text}00000000").as_bytes());
                self.tags += 1;
                any.stamped(8, Stamped::Tag { local: self.tags, distinct: self.shape.distinct.unwrap_or(usual) });
            }
            Int(low, high) => {
                any.writer.tag(3, 0);
                any.writer.varint(low + self.below(high - low + 1));
            }
            Double(low, high) => any.writer.double(4, low + (high - low) * self.below(10_000) as f64 / 10_000.0),
            Bool => {
                any.writer.tag(2, 0);
                any.writer.varint(self.below(2));
            }
        }
        let mut pair = Message::default();
        pair.writer.text(1, key);
        pair.nest(2, any);
        into.nest(number, pair);
    }
}

/// Kinds of metrics by the number of their field.
#[derive(Clone, Copy)]
enum Kind {
    Gauge = 5,
    Sum = 7,
    Histogram = 9,
    ExponentialHistogram = 10,
    Summary = 11,
}

impl Kind {
    /// About as often as services send them.
    const ALL: [Kind; 8] = [
        Kind::Gauge,
        Kind::Sum,
        Kind::Histogram,
        Kind::Gauge,
        Kind::Sum,
        Kind::ExponentialHistogram,
        Kind::Histogram,
        Kind::Summary,
    ];
}

fn packed_fixed64(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
