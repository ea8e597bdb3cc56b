//! `mapping` as Python sees it.

use std::sync::Arc;

use pyo3::{exceptions::PyValueError, prelude::*};

use super::{batch::PyBatch, decode::guarded, error::native_error};
use crate::{
    batch::{Batch, Run, Signal, Source},
    mapping::{
        Format, Request,
        run::{Machine, Open, Outcome},
        unreadable,
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

    /// The rows of one body, how many events were accepted, and those that were not: (index, id, code, path, message).
    #[pyo3(signature = (body, *, received_ns, tenant="", mapping=None, client_ip="", user_agent="", referer="", privacy=""))]
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
    ) -> PyResult<(PyBatch, usize, Vec<Rejected>)> {
        if mapping.is_some_and(|at| at >= self.0.mappings.len()) {
            return Err(PyValueError::new_err("no such mapping"));
        }
        let request = Request { received_ns, tenant, client_ip, user_agent, referer, privacy };
        let result = guarded(py, || {
            let mut machine = Machine::default();
            let envelope = self.0.open(body, machine.stack())?;
            let outcome = machine.take(&self.0, &envelope, mapping, &request, &mut Open);
            Ok((machine, outcome))
        })?;
        let (machine, outcome) = result.map_err(|error| {
            let (code, message, offset) = unreadable(&error);
            native_error(py, code, message, offset, "")
        })?;
        let columns = machine.columns.finish().map_err(super::batch::arrow_error)?;
        let source = Arc::new(Source { tenant: tenant.into(), ..Source::default() });
        let runs = vec![Run { rows: outcome.rows, source }];
        let batch = Batch { signal: Signal::Events, columns, runs, completed: false };
        Ok((PyBatch::new(batch), outcome.accepted, rejects(outcome)))
    }
}

fn rejects(outcome: Outcome) -> Vec<Rejected> {
    let tuple = |r: crate::mapping::run::Rejected| {
        (r.index, r.id, r.reject.code.to_owned(), r.reject.path.to_string(), r.reject.message)
    };
    outcome.rejected.into_iter().map(tuple).collect()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyFormat>()
}
