//! What is served, as values: routes and a server's limits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::cors::Cors;
use crate::batch::Signal;
use crate::decode::Encoding;

/// How requests of a route are read and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    OtlpHttp,
    OtlpGrpc,
    Python,
}

impl Kind {
    pub fn from_name(name: &str) -> Option<Kind> {
        match name {
            "otlp_http" => Some(Kind::OtlpHttp),
            "otlp_grpc" => Some(Kind::OtlpGrpc),
            "python" => Some(Kind::Python),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::OtlpHttp => "otlp_http",
            Kind::OtlpGrpc => "otlp_grpc",
            Kind::Python => "python",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Route {
    /// Which intake takes its requests.
    pub entry: u32,
    pub method: Method,
    pub path: String,
    pub kind: Kind,
    pub signal: Signal,
    /// Bound on the body, as it comes and decompressed.
    pub max_body_bytes: usize,
    pub tenant: Arc<str>,
    /// Status for a tenant over its share of the queue.
    pub share_status: u16,
    pub tenant_header: Option<HeaderName>,
    /// A credential header: requests wait, body unread, for Python's verdict on its value.
    pub auth_header: Option<HeaderName>,
    pub include_metadata: bool,
}

/// What may change while a port stays bound. A zero duration means no bound.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// Content codings that are taken.
    pub encodings: Vec<Encoding>,
    pub read_header_timeout: Duration,
    pub read_timeout: Duration,
    /// Longest wait for the next bytes of a body.
    pub body_idle_timeout: Duration,
    pub write_timeout: Duration,
    pub idle_timeout: Duration,
    pub keep_alive: bool,
    pub max_header_bytes: usize,
    pub max_connections: usize,
    pub max_concurrent_streams: u32,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    pub max_age: Duration,
    pub max_age_grace: Duration,
    pub cors: Option<Cors>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            response_headers: Vec::new(),
            encodings: Encoding::ALL.to_vec(),
            read_header_timeout: Duration::from_secs(60),
            read_timeout: Duration::ZERO,
            body_idle_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            idle_timeout: Duration::ZERO,
            keep_alive: true,
            max_header_bytes: 64 << 10,
            max_connections: 10_000,
            max_concurrent_streams: 1_000,
            ping_interval: Duration::ZERO,
            ping_timeout: Duration::from_secs(20),
            max_age: Duration::ZERO,
            max_age_grace: Duration::ZERO,
            cors: None,
        }
    }
}

/// The routes and options of a server at one moment; requests keep the table they started with.
#[derive(Debug, Default)]
pub struct Table {
    pub options: ServerOptions,
    routes: HashMap<String, Vec<Arc<Route>>>,
    /// Those of `/*` paths, by what is above.
    below: HashMap<String, Vec<Arc<Route>>>,
}

impl Table {
    pub fn new(routes: Vec<Route>, options: ServerOptions) -> Table {
        let mut table = Table { options, ..Table::default() };
        for route in routes {
            let (map, path) = match route.path.strip_suffix("/*") {
                Some(above) => (&mut table.below, above.to_owned()),
                None => (&mut table.routes, route.path.clone()),
            };
            map.entry(path).or_default().push(Arc::new(route));
        }
        table
    }

    /// The routes of a path, one per method; a path that ends with `/*` stands for all below it that have none.
    pub fn at(&self, path: &str) -> &[Arc<Route>] {
        if let Some(routes) = self.routes.get(path) {
            return routes;
        }
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            if let Some(routes) = self.below.get(parent) {
                return routes;
            }
            above = parent;
        }
        &[]
    }

    /// Whether a gRPC service of this name is served.
    pub fn has_service(&self, service: &str) -> bool {
        self.routes.keys().any(|path| path.rsplit_once('/').is_some_and(|(s, _)| s.strip_prefix('/') == Some(service)))
    }
}
