//! `ipc` as Python sees it.

use pyo3::prelude::*;

use super::{
    batch::{PyBatch, arrow_error},
    decode::guarded,
    encode::{NativeBlock, shared},
    error::native_error,
};
use crate::ipc;

/// The bytes of an append; see `ipc.rs`.
#[pyfunction]
#[pyo3(signature = (batches, place, *, payloads=false))]
fn pack(py: Python<'_>, batches: Vec<PyRef<'_, PyBatch>>, place: u64, payloads: bool) -> PyResult<NativeBlock> {
    let batches = shared(&batches);
    let packed = py.detach(|| ipc::pack(&batches, place, payloads)).map_err(arrow_error)?;
    Ok(NativeBlock(packed.into()))
}

/// The batches of an append.
#[pyfunction]
fn unpack(py: Python<'_>, packed: &[u8], place: u64) -> PyResult<Vec<PyBatch>> {
    let batches = guarded(py, || ipc::unpack(packed, place))?;
    let batches = batches.map_err(|error| native_error(py, error.code(), error.to_string(), None, ""))?;
    Ok(batches.into_iter().map(PyBatch::new).collect())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(pack, module)?)?;
    module.add_function(wrap_pyfunction!(unpack, module)?)
}
