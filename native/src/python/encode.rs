//! `encode` as Python sees it, and the two small steps before `decode`.

use std::ffi::c_int;

use bytes::Bytes;
use pyo3::{exceptions::PyValueError, ffi, prelude::*, types::PyBytes};

use super::{
    batch::{PyBatch, arrow_error},
    decode::{guarded, signal_of},
    error::{decode_error, decompress_error, native_error},
};
use crate::{
    batch::Batch,
    decode::{self, Encoding},
    encode::{
        clickhouse::{self, Buffer, Compression, NativeOptions},
        lines, otlp, parquet, store,
    },
    select,
};

/// The OTLP protobuf request that an OTLP/JSON request means.
#[pyfunction]
fn json_to_protobuf<'py>(py: Python<'py>, signal: &str, json: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let signal = signal_of(signal)?;
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
    let batch = decode::decoded(&batch.0);
    py.detach(|| store::store_attributes(&batch)).map(PyBatch::new).map_err(arrow_error)
}

/// The rows of all batches, in order, in the union of their columns.
#[pyfunction]
fn concat(py: Python<'_>, batches: Vec<PyRef<'_, PyBatch>>) -> PyResult<PyBatch> {
    let batches = shared(&batches);
    py.detach(|| select::concat(&batches)).map(PyBatch::new).map_err(arrow_error)
}

/// The rows at `indices`, in that order.
#[pyfunction]
fn take(py: Python<'_>, batch: &PyBatch, indices: Vec<u32>) -> PyResult<PyBatch> {
    let batch = decode::decoded(&batch.0);
    py.detach(|| select::take(&batch, &indices)).map(PyBatch::new).map_err(arrow_error)
}

/// The rows of every day and event type: (days since 1970-01-01, event type, batches).
#[pyfunction]
fn partition(py: Python<'_>, batches: Vec<PyRef<'_, PyBatch>>) -> PyResult<Vec<(i32, String, Vec<PyBatch>)>> {
    let batches = shared(&batches);
    let folders = py.detach(|| parquet::partition(&batches)).map_err(arrow_error)?;
    let batches = |batches: Vec<Batch>| batches.into_iter().map(PyBatch::new).collect();
    Ok(folders.into_iter().map(|((day, event_type), rows)| (day, event_type, batches(rows))).collect())
}

/// The rows of all batches, services by name, the rows of one service in order.
#[pyfunction]
fn cluster(py: Python<'_>, batches: Vec<PyRef<'_, PyBatch>>) -> PyResult<PyBatch> {
    let batches = shared(&batches);
    py.detach(|| parquet::cluster(&batches)).map(PyBatch::new).map_err(arrow_error)
}

/// The bytes of a block, for whoever reads buffers (`memoryview`, `bytes`): handing them over copies nothing.
#[pyclass(frozen, module = "colonnade._native")]
pub struct NativeBlock(pub Buffer);

#[pymethods]
impl NativeBlock {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// # Safety
    /// Python calls it with a `view` that it owns and that is to be filled.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = &slf.get().0;
        let (start, length) = (bytes.as_ptr().cast_mut().cast(), bytes.len() as ffi::Py_ssize_t);
        // SAFETY: `view` is valid (above). The class is frozen, so the bytes neither move nor change while the object
        // lives, and the view holds a reference to it; the view is read-only (the 1), so nobody writes through `start`.
        match unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 1, flags) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }
}

/// ClickHouse Native blocks of all rows, one per day: (days since 1970-01-01, rows, bytes).
#[pyfunction]
#[pyo3(signature = (batches, table, *, sort=true, compression="none"))]
fn encode_native(
    py: Python<'_>,
    batches: Vec<PyRef<'_, PyBatch>>,
    table: Vec<(String, String)>,
    sort: bool,
    compression: &str,
) -> PyResult<Vec<(i32, usize, NativeBlock)>> {
    let named = Compression::from_name(compression);
    let compression = named.ok_or_else(|| PyValueError::new_err(format!("unknown compression {compression:?}")))?;
    let batches = shared(&batches);
    let options = NativeOptions { sort, compression };
    let blocks = py
        .detach(|| clickhouse::encode_native(&batches, &table, &options))
        .map_err(|error| native_error(py, error.code, error.to_string(), None, &error.column))?;
    Ok(blocks.into_iter().map(|block| (block.day, block.rows, NativeBlock(block.bytes))).collect())
}

/// Line protocol of all rows, table by table, and the rows of each table.
///
/// A table is (rows, name, columns), a column (name, source, type); see `encode::lines`.
#[pyfunction]
fn encode_lines(
    py: Python<'_>,
    batches: Vec<PyRef<'_, PyBatch>>,
    tables: Vec<LineTable>,
    first: i64,
) -> PyResult<(NativeBlock, Vec<usize>)> {
    let tables = tables.into_iter().map(line_table).collect::<PyResult<Vec<_>>>()?;
    let batches = shared(&batches);
    let (block, rows) = guarded(py, || lines::encode_lines(&batches, &tables, first))?
        .map_err(|error| native_error(py, error.code, error.to_string(), None, &error.column))?;
    Ok((NativeBlock(block), rows))
}

/// Rows, name, columns; a column is name, source, type.
type LineTable = (String, String, Vec<(String, String, String)>);

fn line_table((rows, name, columns): LineTable) -> PyResult<lines::Table> {
    let kind = lines::Rows::from_name(&rows);
    let rows = kind.ok_or_else(|| PyValueError::new_err(format!("unknown kind of rows {rows:?}")))?;
    let column = |(name, source, data_type)| lines::Target { name, source, data_type };
    Ok(lines::Table { rows, name, columns: columns.into_iter().map(column).collect() })
}

/// OTLP protobuf requests that hold all rows, each of at most `max_bytes` (0: no limit of ours).
#[pyfunction]
#[pyo3(signature = (signal, batches, *, max_bytes=0))]
fn encode_otlp<'py>(
    py: Python<'py>,
    signal: &str,
    batches: Vec<PyRef<'py, PyBatch>>,
    max_bytes: usize,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let signal = signal_of(signal)?;
    let batches = shared(&batches);
    let requests = guarded(py, || otlp::encode_otlp(signal, &batches, max_bytes))?
        .map_err(|error| native_error(py, error.code, error.to_string(), error.row, error.column))?;
    Ok(requests.iter().map(|request| PyBytes::new(py, request)).collect())
}

/// The batches themselves, with columns: cheap to clone, and usable without the GIL.
fn shared(batches: &[PyRef<'_, PyBatch>]) -> Vec<Batch> {
    batches.iter().map(|batch| decode::decoded(&batch.0)).collect()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(json_to_protobuf, module)?)?;
    module.add_function(wrap_pyfunction!(decompress, module)?)?;
    module.add_function(wrap_pyfunction!(store_attributes, module)?)?;
    module.add_function(wrap_pyfunction!(concat, module)?)?;
    module.add_function(wrap_pyfunction!(take, module)?)?;
    module.add_function(wrap_pyfunction!(partition, module)?)?;
    module.add_function(wrap_pyfunction!(cluster, module)?)?;
    module.add_function(wrap_pyfunction!(encode_native, module)?)?;
    module.add_function(wrap_pyfunction!(encode_lines, module)?)?;
    module.add_function(wrap_pyfunction!(encode_otlp, module)?)?;
    module.add_class::<NativeBlock>()?;
    Ok(())
}
