use super::*;

fn logs(json: &str) -> Result<Vec<u8>, DecodeError> {
    json_to_protobuf(Signal::Logs, json.as_bytes())
}

/// A log request around one record's JSON.
fn record(json: &str) -> Result<Vec<u8>, DecodeError> {
    logs(&format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{json}]}}]}}]}}"#))
}

/// The record's own bytes, out of its three wrappers (each of two bytes as long as the record is short).
fn inner(json: &str) -> Vec<u8> {
    record(json).unwrap()[6..].to_vec()
}

fn message(json: &str) -> String {
    record(json).unwrap_err().message
}

#[test]
fn a_record_becomes_the_bytes_that_protobuf_writes() {
    assert_eq!(inner(r#"{"severityText":"Warn","severityNumber":13}"#), b"\x1a\x04Warn\x10\x0d");
    assert_eq!(inner(r#"{"timeUnixNano":"1"}"#), b"\x09\x01\0\0\0\0\0\0\0");
    assert_eq!(inner(r#"{"timeUnixNano":1,"unknown":[{"a":null}]}"#), b"\x09\x01\0\0\0\0\0\0\0");
    assert_eq!(inner(r#"{"body":{"intValue":"-1"}}"#), b"\x2a\x0b\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    assert_eq!(inner(r#"{"traceId":"0aF7"}"#), b"\x4a\x02\x0a\xf7");
}

#[test]
fn defaults_leave_no_bytes_but_set_members_do() {
    assert_eq!(
        inner(r#"{"timeUnixNano":"0","severityText":"","flags":0,"traceId":"","attributes":[],"body":null}"#),
        b""
    );
    assert_eq!(inner(r#"{"body":{}}"#), b"\x2a\x00");
    assert_eq!(inner(r#"{"body":{"stringValue":""}}"#), b"\x2a\x02\x0a\x00");
    assert_eq!(inner(r#"{"body":{"arrayValue":{"values":[null,{}]}}}"#), b"\x2a\x06\x2a\x04\x0a\x00\x0a\x00");
    assert_eq!(logs("{}").unwrap(), b"");
}

#[test]
fn packed_lists_and_signed_offsets_are_those_of_the_wire() {
    let point = r#"{"scale":-3,"positive":{"offset":-2,"bucketCounts":["300",1]},"min":0,"zeroThreshold":-0.0}"#;
    let json = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"exponentialHistogram":{{"dataPoints":[{point}]}}}}]}}]}}]}}"#
    );
    let bytes = json_to_protobuf(Signal::Metrics, json.as_bytes()).unwrap();
    let expected = b"\x30\x05\x42\x07\x08\x03\x12\x03\xac\x02\x01\x61\0\0\0\0\0\0\0\0\x71\0\0\0\0\0\0\0\x80";
    assert_eq!(&bytes[bytes.len() - expected.len()..], expected);
}

#[test]
fn doubles_are_numbers_or_text() {
    let double = |json: &str| {
        let bytes = inner(&format!(r#"{{"body":{{"doubleValue":{json}}}}}"#));
        f64::from_le_bytes(bytes[3..].try_into().unwrap())
    };
    assert_eq!(double("1.5e3"), 1500.0);
    assert_eq!(double(r#""-0.25""#), -0.25);
    assert!(double(r#""NaN""#).is_nan());
    assert_eq!(double(r#""-Infinity""#), f64::NEG_INFINITY);
    for wrong in ["1e999", r#""nan""#, r#""1 ""#, r#""""#, "true", "[]"] {
        assert!(record(&format!(r#"{{"body":{{"doubleValue":{wrong}}}}}"#)).is_err(), "{wrong}");
    }
}

#[test]
fn integers_are_exact_and_bounded() {
    for (json, fits) in [
        ("9223372036854775807", true),
        (r#""-9223372036854775808""#, true),
        ("9223372036854775808", false),
        ("1.0", true),
        ("1e3", true),
        ("1.5", false),
        ("1e30", false),
        (r#""""#, false),
        (r#"" 1""#, false),
        ("true", false),
    ] {
        assert_eq!(record(&format!(r#"{{"body":{{"intValue":{json}}}}}"#)).is_ok(), fits, "{json}");
    }
    assert!(record(r#"{"timeUnixNano":-1}"#).is_err());
    assert!(record(r#"{"flags":4294967296}"#).is_err());
    assert!(record(r#"{"timeUnixNano":"18446744073709551615"}"#).is_ok());
}

#[test]
fn enums_are_numbers_or_known_names() {
    assert_eq!(inner(r#"{"severityNumber":"SEVERITY_NUMBER_WARN2"}"#), b"\x10\x0e");
    assert_eq!(inner(r#"{"severityNumber":99}"#), b"\x10\x63");
    assert!(message(r#"{"severityNumber":"WARN"}"#).contains("send its number"));
}

#[test]
fn ids_are_hexadecimal_and_never_base64() {
    let base64 = message(r#"{"traceId":"CvdlGRbNQ92ESOshHIAxnA=="}"#);
    assert!(base64.contains("hexadecimal"), "{base64}");
    assert!(record(r#"{"spanId":"abc"}"#).is_err());
}

#[test]
fn bytes_are_base64_of_either_alphabet() {
    for json in ["+/8=", "-_8=", "+/8", "-_8"] {
        assert_eq!(inner(&format!(r#"{{"body":{{"bytesValue":"{json}"}}}}"#)), b"\x2a\x04\x3a\x02\xfb\xff", "{json}");
    }
    assert!(record(r#"{"body":{"bytesValue":"a?"}}"#).is_err());
}

#[test]
fn texts_keep_every_character() {
    let text = |json: &str| String::from_utf8(inner(&format!(r#"{{"severityText":"{json}"}}"#))[2..].to_vec()).unwrap();
    assert_eq!(text(r#"\"\\\/\b\f\n\r\t\u00e9"#), "\"\\/\u{8}\u{c}\n\r\té");
    assert_eq!(text(r"a\ud83d\ude00b"), "a😀b");
    assert_eq!(text("héllo \u{7f}"), "héllo \u{7f}");
    // A client that cut an emoji in half still gets its request in.
    assert_eq!(text(r"\ud83d"), "\u{fffd}");
    assert_eq!(text(r"\ude00x\ud83dy\ud83d\ud83d\ude00"), "\u{fffd}x\u{fffd}y\u{fffd}😀");
}

#[test]
fn errors_say_where() {
    let json = r#"{"resourceLogs":[{},{"resource":{"attributes":[{"key":"a","value":{"intValue":"x"}}]}}]}"#;
    let error = logs(json).unwrap_err();
    assert_eq!(error.path, "resourceLogs[1].resource.attributes[0].value.intValue");
    assert_eq!((Some(error.offset), error.message.as_str()), (json.find(r#""x""#), r#""x" is not an integer"#));
    let invalid = json_to_protobuf(Signal::Logs, b"{\"a\":\"\xff\"}").unwrap_err();
    assert_eq!((invalid.offset, invalid.message.as_str()), (6, "the text is not UTF-8"));
}

#[test]
fn what_is_not_json_is_refused() {
    for wrong in [
        "",
        " ",
        "[]",
        "null",
        "{",
        "{}x",
        "{,}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":.5}"#,
        r#"{"a":+1}"#,
        r#"{"a":nul}"#,
        r#"{"a":NaN}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12"}"#,
        "{\"a\":\"\n\"}",
        r#"{'a':1}"#,
        r#"{"resourceLogs":{}}"#,
        r#"{"resourceLogs":[1]}"#,
        r#"{"a":1 "b":2}"#,
        r#"{"a":-}"#,
        r#"{"a":1e}"#,
    ] {
        assert!(logs(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_cut_short_is_refused_at_every_byte() {
    let json =
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"a\ud83d\ude00"},"flags":1e2}]}]}]}"#;
    assert!(logs(json).is_ok());
    for length in 0..json.len() {
        assert!(logs(&json[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn depth_is_bounded_also_where_it_is_ignored() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let inner = |depth: usize| format!(r#"{{"x":{}1{}}}"#, open.repeat(depth), close.repeat(depth));
        assert!(logs(&inner(300)).is_ok());
        assert!(logs(&inner(100_000)).unwrap_err().message.contains("deeper"));
    }
    let nested = format!(r#"{{"body":{}1{}}}"#, r#"{"arrayValue":{"values":["#.repeat(50_000), "]}}".repeat(50_000));
    assert!(record(&nested).unwrap_err().message.contains("deeper"));
}
