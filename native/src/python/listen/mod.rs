//! `listen` as Python sees it.

mod group;
pub mod values;

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use self::group::{PyRequest, PyRequestGroup};
use self::values::{PyAnswer, PyRoute, PyServerOptions, tls};
use crate::listen::answer::{Answer, UNAUTHENTICATED};
use crate::listen::group::Group;
use crate::listen::options::Table;
use crate::listen::queue::{Queue, Verdict, lifetime};
use crate::listen::server::{Engine, Port, Protocols};
use crate::listen::stats::Status;

/// Waits of more than a day are none; negative ones are over.
pub fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(if value.is_nan() { 0.0 } else { value.clamp(0.0, 86_400.0) })
}

/// Threads that read sockets, and the queue they fill.
#[pyclass(frozen, module = "colonnade._native")]
struct Listener {
    engine: Engine,
}

#[pymethods]
impl Listener {
    #[new]
    #[pyo3(signature = (*, threads=1, queue_bytes=64 << 20, tenant_share=0.5))]
    fn new(threads: usize, queue_bytes: usize, tenant_share: f64) -> PyResult<Listener> {
        let queue = Queue::new(queue_bytes, tenant_share)?;
        Ok(Listener { engine: Engine::start(threads, queue)? })
    }

    fn fileno(&self) -> i32 {
        self.engine.queue.fileno()
    }

    #[pyo3(signature = (address, *, protocols=vec!["http1".to_owned(), "h2".to_owned()], tls=None))]
    fn serve(&self, address: &str, protocols: Vec<String>, tls: Option<&Bound<'_, PyDict>>) -> PyResult<Server> {
        let mut wanted = Protocols { h1: false, h2: false };
        for name in &protocols {
            match name.as_str() {
                "http1" => wanted.h1 = true,
                "h2" => wanted.h2 = true,
                other => return Err(PyValueError::new_err(format!("unknown protocol {other:?}: http1, h2"))),
            }
        }
        if !wanted.h1 && !wanted.h2 {
            return Err(PyValueError::new_err("a server needs a protocol: http1, h2"));
        }
        let tls = tls.map(|t| values::tls(t, wanted)).transpose()?;
        let port = self.engine.serve(address, wanted, tls).map_err(|error| match error.raw_os_error() {
            Some(number) => PyOSError::new_err((number, error.to_string())),
            None => PyOSError::new_err(error.to_string()),
        })?;
        Ok(Server { port })
    }

    fn ready(&self) -> Vec<u32> {
        self.engine.queue.ready()
    }

    #[pyo3(signature = (entry, *, max_requests=512, max_bytes=4 << 20))]
    fn take(&self, py: Python<'_>, entry: u32, max_requests: usize, max_bytes: usize) -> Option<PyRequestGroup> {
        py.detach(|| Group::take(&self.engine.queue, entry, max_requests, max_bytes)).map(PyRequestGroup::new)
    }

    fn pending_credentials(&self) -> Vec<(u32, String)> {
        self.engine.queue.pending_credentials()
    }

    #[pyo3(signature = (entry, credential, allowed, *, tenant=None, answer=None, ttl_s=60.0))]
    fn set_verdict(
        &self,
        entry: u32,
        credential: String,
        allowed: bool,
        tenant: Option<&str>,
        answer: Option<&PyAnswer>,
        ttl_s: f64,
    ) {
        let refusal =
            || answer.map_or_else(|| Answer::new(401, UNAUTHENTICATED, "unauthenticated"), |a| a.answer.clone());
        let verdict = Verdict {
            refused: (!allowed).then(refusal),
            tenant: tenant.map(Arc::from),
            until: lifetime(if ttl_s.is_nan() { 0.0 } else { ttl_s }),
        };
        self.engine.queue.set_verdict(entry, credential, verdict);
    }

    fn forget_verdicts(&self) {
        self.engine.queue.forget_verdicts();
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let queue = &self.engine.queue;
        let all = PyDict::new(py);
        for (name, value) in queue.stats.all() {
            all.set_item(name, value)?;
        }
        all.set_item("queue_bytes", queue.bytes())?;
        let requests = PyDict::new(py);
        for ((entry, status), number) in queue.stats.requests() {
            let status = match status {
                Status::Http(code) => format!("http {code}"),
                Status::Grpc(code) => format!("grpc {code}"),
            };
            requests.set_item((entry, status), number)?;
        }
        all.set_item("requests", requests)?;
        Ok(all)
    }

    fn close(&self, py: Python<'_>, deadline_s: f64) {
        py.detach(|| self.engine.close(seconds(deadline_s)));
    }
}

/// A bound address.
#[pyclass(frozen, module = "colonnade._native")]
struct Server {
    port: Arc<Port>,
}

#[pymethods]
impl Server {
    #[getter]
    fn address(&self) -> &str {
        &self.port.address
    }

    #[pyo3(signature = (routes, options=None))]
    fn set_routes(&self, routes: Vec<PyRef<'_, PyRoute>>, options: Option<&PyServerOptions>) {
        let routes = routes.iter().map(|r| r.route.clone()).collect();
        let options = options.map_or_else(Default::default, |o| o.options.clone());
        self.port.set_table(Table::new(routes, options));
    }

    #[pyo3(signature = (settings))]
    fn set_tls(&self, settings: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let fresh = settings.map(|s| tls(s, self.port.protocols())).transpose()?;
        self.port.set_tls(fresh);
        Ok(())
    }

    fn stop_accepting(&self, py: Python<'_>) {
        py.detach(|| self.port.stop_accepting());
    }

    fn close(&self, py: Python<'_>, deadline_s: f64) {
        py.detach(|| self.port.close(seconds(deadline_s)));
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Listener>()?;
    module.add_class::<Server>()?;
    module.add_class::<PyRoute>()?;
    module.add_class::<PyServerOptions>()?;
    module.add_class::<PyAnswer>()?;
    module.add_class::<PyRequestGroup>()?;
    module.add_class::<PyRequest>()
}
