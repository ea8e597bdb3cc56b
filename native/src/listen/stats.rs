//! What the listener counts.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Default)]
        pub struct Stats {
            $($(#[$doc])* pub $name: Counter,)*
            requests: Mutex<HashMap<(u32, Status), u64>>,
        }

        impl Stats {
            /// Every counter by name.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get())),*]
            }
        }
    };
}

counters! {
    connections_open,
    connections_total,
    /// Over `max_connections`.
    connections_refused,
    accept_errors,
    tls_errors,
    protocol_errors,
    bytes_in,
    bytes_out,
    /// `grpc-timeout` had passed before decoding.
    expired,
    /// The client went away before its body was whole.
    resets,
    /// The client went away before its request was taken.
    abandoned,
    header_timeouts,
    body_timeouts,
    idle_timeouts,
    write_timeouts,
    refused_before_body,
    unauthenticated,
    queue_full,
    tenant_over_share,
    too_large,
    bad_encoding,
    malformed,
    not_found,
    method_not_allowed,
    unsupported_media_type,
    /// Groups or requests that Python let go without an answer.
    unanswered,
    wakeups,
}

#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub fn one(&self) {
        self.add(1);
    }

    pub fn less(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An answer's status in its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Http(u16),
    Grpc(u32),
}

impl Status {
    pub fn is_refusal(self) -> bool {
        match self {
            Status::Http(status) => status >= 400,
            Status::Grpc(code) => code != 0,
        }
    }
}

impl Stats {
    pub fn answered(&self, entry: u32, status: Status) {
        let mut requests = self.requests.lock().expect("no panic under this lock");
        *requests.entry((entry, status)).or_default() += 1;
    }

    /// Answers by (entry, status); entry 0 is what no route took.
    pub fn requests(&self) -> Vec<((u32, Status), u64)> {
        self.requests.lock().expect("no panic under this lock").iter().map(|(k, v)| (*k, *v)).collect()
    }
}
