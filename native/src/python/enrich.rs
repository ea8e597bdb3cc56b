//! `kernels::enrich` as Python sees it.

use std::{collections::HashMap, path::PathBuf};

use arrow_array::RecordBatch;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyCapsule};

use super::{
    batch::{PyBatch, arrow_error, export, import},
    decode::guarded,
};
use crate::kernels::enrich::{
    context,
    geo::{Database, locate},
    patterns::Patterns as Machine,
    terms::terms,
};

/// Columns that are no batch: `pyarrow.record_batch(columns)` imports them without copying.
#[pyclass(frozen, module = "colonnade._native")]
struct Columns(RecordBatch);

#[pymethods]
impl Columns {
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        let _ = requested_schema; // The protocol allows to ignore a wish for another schema.
        export(py, self.0.clone())
    }
}

#[pyfunction]
fn attribute_terms(py: Python<'_>, batch: &PyBatch, wanted: Vec<Vec<String>>) -> PyResult<Columns> {
    let batch = batch.0.clone();
    guarded(py, || terms(&batch, &wanted))?.map(Columns).map_err(arrow_error)
}

#[pyfunction]
fn say_in_context(py: Python<'_>, batch: &PyBatch, words: &Bound<'_, PyAny>) -> PyResult<PyBatch> {
    let (batch, words) = (batch.0.clone(), import(words)?);
    if words.num_rows() != batch.rows() {
        return Err(PyValueError::new_err(format!("{} rows of words for {}", words.num_rows(), batch.rows())));
    }
    guarded(py, || context::say(&batch, &words))?.map(PyBatch::new).map_err(arrow_error)
}

#[pyfunction]
fn exchange_in_context(
    py: Python<'_>,
    batch: &PyBatch,
    key: &str,
    by: HashMap<String, Option<String>>,
) -> PyResult<PyBatch> {
    let batch = batch.0.clone();
    guarded(py, || context::exchange(&batch, key, &by))?.map(PyBatch::new).map_err(arrow_error)
}

/// A file in MaxMind's format.
#[pyclass(frozen, module = "colonnade._native")]
struct GeoDatabase(Database);

#[pymethods]
impl GeoDatabase {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<GeoDatabase> {
        guarded(py, || Database::open(&path))?.map(GeoDatabase).map_err(PyValueError::new_err)
    }

    #[getter]
    fn built_at(&self) -> u64 {
        self.0.built_at()
    }
}

#[pyfunction]
fn locate_addresses(
    py: Python<'_>,
    databases: Vec<Bound<'_, GeoDatabase>>,
    addresses: Vec<String>,
) -> PyResult<Columns> {
    let databases: Vec<&Database> = databases.iter().map(|database| &database.get().0).collect();
    guarded(py, || locate(&databases, addresses.iter().map(String::as_str)))?.map(Columns).map_err(arrow_error)
}

/// Texts that match any of many regular expressions.
#[pyclass(frozen, module = "colonnade._native")]
struct Patterns(Machine);

#[pymethods]
impl Patterns {
    #[new]
    fn new(patterns: Vec<String>) -> PyResult<Patterns> {
        Machine::of(&patterns).map(Patterns).map_err(PyValueError::new_err)
    }

    fn matches(&self, text: &str) -> bool {
        self.0.matches(text)
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Columns>()?;
    module.add_class::<GeoDatabase>()?;
    module.add_class::<Patterns>()?;
    module.add_function(wrap_pyfunction!(attribute_terms, module)?)?;
    module.add_function(wrap_pyfunction!(say_in_context, module)?)?;
    module.add_function(wrap_pyfunction!(exchange_in_context, module)?)?;
    module.add_function(wrap_pyfunction!(locate_addresses, module)?)
}
