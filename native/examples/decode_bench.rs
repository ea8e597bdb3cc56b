//! Nanoseconds per span of the decoder and the encoder: `cargo run --release --no-default-features --example
//! decode_bench [ROUNDS]`.

use std::{hint::black_box, sync::Arc, time::Instant};

use _native::{
    batch::{Signal, Source},
    decode::{DecodeOptions, Payload, decode, validate},
    encode::otlp::encode_otlp,
    protobuf::Writer,
};

const KEYS: [&str; 13] = [
    "http.request.method",
    "url.full",
    "server.address",
    "user_agent.original",
    "network.protocol.version",
    "session.id",
    "user.id",
    "http.route",
    "client.address",
    "db.system.name",
    "code.function",
    "thread.name",
    "app.tier",
];

fn attribute(out: &mut Writer, number: u32, key: &str, text: &str) {
    let pair = out.begin(number);
    out.text(1, key);
    let value = out.begin(2);
    out.text(1, text);
    out.end(value);
    out.end(pair);
}

fn int(out: &mut Writer, number: u32, key: &str, value: u64) {
    let pair = out.begin(number);
    out.text(1, key);
    let any = out.begin(2);
    out.number(3, value);
    out.end(any);
    out.end(pair);
}

fn span(out: &mut Writer, index: u64) {
    let span = out.begin(2);
    out.bytes(1, &[index as u8 | 1; 16]);
    out.bytes(2, &(index + 1).to_be_bytes());
    out.text(5, "GET /cart/{id}");
    out.number(6, 2);
    out.fixed64(7, 1_772_600_767_123_456_789 + index);
    out.fixed64(8, 1_772_600_767_164_956_789 + index);
    for key in KEYS {
        attribute(out, 9, key, &format!("value-{:04}", index % 97));
    }
    int(out, 9, "http.response.status_code", 200);
    int(out, 9, "http.response.body.size", 1000 + index);
    out.end(span);
}

fn request(spans: u64) -> Vec<u8> {
    let mut out = Writer::default();
    let all = out.begin(1);
    let resource = out.begin(1);
    attribute(&mut out, 1, "service.name", "checkout");
    attribute(&mut out, 1, "host.name", "node-7");
    out.end(resource);
    let scope = out.begin(2);
    (0..spans).for_each(|index| span(&mut out, index));
    out.end(scope);
    out.end(all);
    out.out
}

fn main() {
    let rounds: u32 = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(60);
    for (spans, payloads) in [(512u64, 1usize), (512, 8), (10, 64)] {
        let body = request(spans);
        let bytes = body.len() as u64 / spans;
        let payload = Payload { body: body.clone().into(), source: Arc::new(Source::default()) };
        let list = vec![payload; payloads];
        let count = spans as f64 * payloads as f64;
        let best = |work: &dyn Fn()| {
            let times = (0..rounds).map(|_| {
                let start = Instant::now();
                work();
                start.elapsed().as_nanos() as f64
            });
            times.fold(f64::MAX, f64::min) / count
        };
        let decoding = best(&|| drop(black_box(decode(Signal::Traces, &list, &DecodeOptions::default()))));
        let checking = best(&|| (0..payloads).for_each(|_| drop(black_box(validate(Signal::Traces, &body)))));
        let (batch, _) = decode(Signal::Traces, &list, &DecodeOptions::default());
        let batches = [batch];
        let encoding = best(&|| drop(black_box(encode_otlp(Signal::Traces, &batches, 0))));
        println!(
            "{spans} x {payloads}, {bytes} B/span: decode {decoding:.0} ns/span, of which validate {checking:.0}; \
             encode {encoding:.0}"
        );
    }
}
