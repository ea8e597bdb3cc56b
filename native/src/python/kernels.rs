//! `kernels` as Python sees them.

use pyo3::{exceptions::PyValueError, prelude::*};

use super::{
    batch::{PyBatch, arrow_error},
    decode::guarded,
};
use crate::{
    kernels::unify::{EXTENSIONS, Options, Violations, complete, slug},
    schema::{Col, Kind},
};

/// What the processor `unify` does, with the user's choices.
#[pyclass(frozen, module = "colonnade._native")]
struct Unify(Options);

#[pymethods]
impl Unify {
    #[new]
    #[pyo3(signature = (
        *, default_ns="default", ns_attribute="", visibility="user", day_before_ns=604_800_000_000_000,
        day_after_ns=86_400_000_000_000, columns=vec![], extensions=vec![]
    ))]
    fn new(
        default_ns: &str,
        ns_attribute: &str,
        visibility: &str,
        day_before_ns: i64,
        day_after_ns: i64,
        columns: Vec<(String, Vec<String>)>,
        extensions: Vec<String>,
    ) -> PyResult<Unify> {
        let rules = columns.into_iter().map(|(name, keys)| Ok((fed(&name)?, keys))).collect::<PyResult<_>>()?;
        if let Some(other) = extensions.iter().find(|name| EXTENSIONS.iter().all(|(known, ..)| known != name)) {
            return Err(PyValueError::new_err(format!("no extension column {other:?}")));
        }
        let (default_ns, ns_attribute, visibility) = (default_ns.into(), ns_attribute.into(), visibility.into());
        Ok(Unify(Options { default_ns, ns_attribute, visibility, day_before_ns, day_after_ns, rules, extensions }))
    }

    /// The completed batch, and the rows that broke a soft check: (event source, check, rows).
    fn complete(
        &self,
        py: Python<'_>,
        batch: &PyBatch,
        ingested_at_ns: i64,
        append_id: [u8; 16],
    ) -> PyResult<(PyBatch, Violations)> {
        let batch = batch.0.clone();
        let completed = guarded(py, || complete(&batch, &self.0, ingested_at_ns, append_id))?;
        completed.map(|(batch, violations)| (PyBatch::new(batch), violations)).map_err(arrow_error)
    }
}

/// A column that a rule may feed.
fn fed(name: &str) -> PyResult<Col> {
    let col = Col::from_name(name).ok_or_else(|| PyValueError::new_err(format!("no column {name:?}")))?;
    match col.kind() {
        Kind::Uuid | Kind::TimestampNs | Kind::Date32 | Kind::Json | Kind::MapAny | Kind::MapString | Kind::Bytes => {
            Err(PyValueError::new_err(format!("column {name:?} can not be fed from an attribute")))
        }
        _ => Ok(col),
    }
}

/// A name as a `ns`.
#[pyfunction(name = "slug")]
fn ns_slug(name: &str) -> String {
    slug(name).into_owned()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    super::edit::register(module)?;
    module.add_class::<Unify>()?;
    module.add_function(wrap_pyfunction!(ns_slug, module)?)
}
