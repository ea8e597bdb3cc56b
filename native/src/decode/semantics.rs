//! What OTLP's numbers and words mean: severity, outcome, gRPC codes (specification 2.4, 2.5).

pub const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "fatal"];

/// The level and the number to store; a number in 1..=24 decides, else the word.
pub fn severity(number: i64, word: &[u8]) -> Option<(&'static str, i64)> {
    if (1..=24).contains(&number) {
        return Some((LEVELS[(number as usize - 1) / 4], number));
    }
    let word = word.to_ascii_lowercase();
    Some(match word.as_slice() {
        b"trace" | b"verbose" | b"finest" | b"finer" => ("trace", 1),
        b"debug" | b"fine" | b"dbg" => ("debug", 5),
        b"info" | b"information" | b"informational" | b"log" => ("info", 9),
        b"notice" => ("info", 10),
        b"warn" | b"warning" => ("warn", 13),
        b"error" | b"err" | b"severe" => ("error", 17),
        b"critical" | b"crit" => ("error", 18),
        b"alert" => ("error", 19),
        b"fatal" | b"emerg" | b"emergency" | b"panic" => ("fatal", 21),
        _ => return None,
    })
}

pub fn http_outcome(status: i64) -> &'static str {
    match status {
        100..=399 => "success",
        408 | 504 => "timeout",
        429 => "rate_limited",
        499 => "canceled",
        400..=599 => "error",
        _ => "unknown",
    }
}

pub fn grpc_outcome(code: i64) -> &'static str {
    match code {
        0 => "success",
        1 => "canceled",
        4 => "timeout",
        8 => "rate_limited",
        _ => "error",
    }
}

/// A span's outcome and a reason where its status message gives none.
pub fn span_outcome(status: i64, client: bool, http: Option<i64>, grpc: Option<i64>) -> (&'static str, String) {
    let failed = http.is_some_and(|code| code >= 500 || client && code >= 400);
    let outcome = match status {
        1 => "success",
        2 => {
            let told = http.map(http_outcome).or(grpc.map(grpc_outcome)).unwrap_or("error");
            if matches!(told, "timeout" | "rate_limited" | "canceled") { told } else { "error" }
        }
        _ if failed => http_outcome(http.unwrap_or_default()),
        _ => "",
    };
    if matches!(outcome, "" | "success") {
        return (outcome, String::new());
    }
    let reason = match (http, grpc) {
        (Some(400..=499), _) => "client_error".to_owned(),
        (Some(500..=599), _) => "server_error".to_owned(),
        (_, Some(code)) if code != 0 => match GRPC_CODES.get(code as usize) {
            Some(name) => format!("grpc:{name}"),
            None => String::new(),
        },
        _ => String::new(),
    };
    (outcome, reason)
}

/// The status code that an outcome stands for; another one is kept as `$otlp.status`.
pub fn restored_status(outcome: &str) -> i64 {
    match outcome {
        "success" => 1,
        "" => 0,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_decide_levels_before_words() {
        assert_eq!(severity(14, b"Error"), Some(("warn", 14)));
        assert_eq!(severity(0, b"Notice"), Some(("info", 10)));
        assert_eq!(severity(0, b"whatever"), None);
        assert_eq!(severity(99, b""), None);
    }

    #[test]
    fn outcomes_are_refined_by_codes() {
        assert_eq!(span_outcome(2, false, Some(504), None), ("timeout", "server_error".into()));
        assert_eq!(span_outcome(0, true, Some(404), None), ("error", "client_error".into()));
        assert_eq!(span_outcome(0, false, Some(404), None), ("", String::new()));
        assert_eq!(span_outcome(2, false, None, Some(4)), ("timeout", "grpc:DEADLINE_EXCEEDED".into()));
    }
}
