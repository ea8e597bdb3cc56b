//! `encode` as Python sees it, and the two small steps before `decode`.

use bytes::Bytes;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};

use super::{
    batch::{PyBatch, arrow_error},
    error::{decode_error, decompress_error},
};
use crate::{
    batch::Signal,
    decode::{self, Encoding},
    encode::store,
};

/// The OTLP protobuf request that an OTLP/JSON request means.
#[pyfunction]
fn json_to_protobuf<'py>(py: Python<'py>, signal: &str, json: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let signal =
        Signal::from_name(signal).ok_or_else(|| PyValueError::new_err(format!("unknown signal {signal:?}")))?;
    let body = py.detach(|| decode::json_to_protobuf(signal, json)).map_err(|error| decode_error(py, &error))?;
    Ok(PyBytes::new(py, &body))
}

/// A request body without its content coding, at most `max_bytes` of it.
#[pyfunction]
fn decompress<'py>(py: Python<'py>, encoding: &str, body: Vec<u8>, max_bytes: usize) -> PyResult<Bound<'py, PyBytes>> {
    let named = Encoding::from_name(encoding);
    let encoding = named.ok_or_else(|| PyValueError::new_err(format!("unknown encoding {encoding:?}")))?;
    let plain = py.detach(|| decode::decompress(encoding, &Bytes::from(body), max_bytes));
    Ok(PyBytes::new(py, &plain.map_err(|error| decompress_error(py, &error))?))
}

/// The batch with `attributes` as stores keep them: text to text, types under `$otlp.types`.
#[pyfunction]
fn store_attributes(py: Python<'_>, batch: &PyBatch) -> PyResult<PyBatch> {
    let batch = batch.0.clone();
    py.detach(|| store::store_attributes(&batch)).map(PyBatch::new).map_err(arrow_error)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(json_to_protobuf, module)?)?;
    module.add_function(wrap_pyfunction!(decompress, module)?)?;
    module.add_function(wrap_pyfunction!(store_attributes, module)?)?;
    Ok(())
}
