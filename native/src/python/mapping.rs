//! `mapping` as Python sees it.

use std::sync::Arc;

use jiter::Jiter;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};

use super::{batch::PyBatch, decode::guarded, error::native_error};
use crate::{
    batch::{Batch, Run, Signal, Source},
    mapping::{
        Format, Request,
        run::{Machine, Outcome},
        unreadable,
        window::{Fresh, Window},
    },
};

type Rejected = (usize, String, String, String, String);

/// How bodies are read and which mappings their events may choose.
#[pyclass(name = "Format", frozen, module = "colonnade._native")]
pub struct PyFormat(pub Arc<Format>);

#[pymethods]
impl PyFormat {
    #[new]
    fn new(plan: &str) -> PyResult<PyFormat> {
        Format::read(plan).map(|format| PyFormat(Arc::new(format))).map_err(|error| PyValueError::new_err(error.0))
    }

    /// The rows of one body, how many events were accepted, how many came before, what to remember of the others, and
    /// the events refused: (index, id, code, path, message).
    #[pyo3(signature = (
        body, *, received_ns, tenant="", mapping=None, client_ip="", user_agent="", referer="", privacy="", window=None,
        bound=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn map(
        &self,
        py: Python<'_>,
        body: &[u8],
        received_ns: i64,
        tenant: &str,
        mapping: Option<usize>,
        client_ip: &str,
        user_agent: &str,
        referer: &str,
        privacy: &str,
        window: Option<&Bound<'_, EventWindow>>,
        bound: Option<(String, String)>,
    ) -> PyResult<Mapped> {
        if mapping.is_some_and(|at| at >= self.0.mappings.len()) {
            return Err(PyValueError::new_err("no such mapping"));
        }
        let request = Request { received_ns, tenant, client_ip, user_agent, referer, privacy };
        let window = window.map(|window| &window.get().0);
        let result = guarded(py, || {
            let mut machine = Machine::default();
            let envelope = self.0.open(body, machine.stack())?;
            let bound = bound.as_ref().map(|(member, wanted)| (member.as_str(), wanted.as_str()));
            let mut fresh = Fresh::new(window, tenant, bound);
            let outcome = machine.take(&self.0, &envelope, mapping, &request, &mut fresh);
            Ok((machine, outcome, fresh.keys))
        })?;
        let (machine, outcome, fresh) = result.map_err(|error| {
            let (code, message, offset) = unreadable(&error);
            native_error(py, code, message, offset, "")
        })?;
        let columns = machine.columns.finish().map_err(super::batch::arrow_error)?;
        let source = Arc::new(Source { tenant: tenant.into(), ..Source::default() });
        let runs = vec![Run { rows: outcome.rows, source }];
        let batch = Batch { signal: Signal::Events, columns, runs, completed: false };
        let (accepted, duplicates) = (outcome.accepted, outcome.duplicates);
        Ok((PyBatch::new(batch), accepted, duplicates, EventKeys(fresh), rejects(outcome)))
    }
}

type Mapped = (PyBatch, usize, usize, EventKeys, Vec<Rejected>);

/// Keys of events that are not safe yet.
#[pyclass(frozen, module = "colonnade._native")]
struct EventKeys(Vec<u128>);

/// Keys of events that came within a span of time.
#[pyclass(frozen, module = "colonnade._native")]
struct EventWindow(Window);

#[pymethods]
impl EventWindow {
    #[new]
    fn new(span_ns: i64, max_keys: usize) -> EventWindow {
        EventWindow(Window::new(span_ns, max_keys))
    }

    fn remember(&self, keys: &EventKeys, now_ns: i64) {
        self.0.remember(&keys.0, now_ns);
    }

    fn take_in(&self, py: Python<'_>, batch: &PyBatch, now_ns: i64) -> (Vec<(usize, usize)>, EventKeys) {
        let (ranges, keys) = py.detach(|| self.0.take_in(&batch.0, now_ns));
        (ranges, EventKeys(keys))
    }

    fn forget(&self, keys: &EventKeys) {
        self.0.forget(&keys.0);
    }

    fn dump<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &py.detach(|| self.0.dump()))
    }

    fn load(&self, py: Python<'_>, dump: &[u8]) {
        py.detach(|| self.0.load(dump));
    }

    fn __len__(&self) -> usize {
        self.0.count()
    }
}

/// The text at a path of a body, without reading what comes after it; `0` is the first of a list. `None` where there is
/// none.
#[pyfunction]
fn text_at(body: &[u8], path: Vec<String>) -> Option<String> {
    let mut reader = Jiter::new(body);
    for name in &path {
        if name == "0" {
            reader.next_array().ok()??;
            continue;
        }
        let mut key = reader.next_object().ok()?.map(str::to_owned);
        while key.as_deref()? != name {
            reader.next_skip().ok()?;
            key = reader.next_key().ok()?.map(str::to_owned);
        }
    }
    reader.next_str().ok().map(str::to_owned)
}

fn rejects(outcome: Outcome) -> Vec<Rejected> {
    let tuple = |r: crate::mapping::run::Rejected| {
        (r.index, r.id, r.reject.code.to_owned(), r.reject.path.to_string(), r.reject.message)
    };
    outcome.rejected.into_iter().map(tuple).collect()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyFormat>()?;
    module.add_class::<EventKeys>()?;
    module.add_class::<EventWindow>()?;
    module.add_function(wrap_pyfunction!(text_at, module)?)
}
