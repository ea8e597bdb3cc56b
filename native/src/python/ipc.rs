//! `ipc` and `wal` as Python sees them.

use pyo3::{prelude::*, types::PyBytes};

use super::{
    batch::{PyBatch, arrow_error},
    decode::guarded,
    encode::NativeBlock,
    error::native_error,
};
use crate::{batch::Batch, ipc, wal};

/// The bytes of an append; see `ipc.rs`.
#[pyfunction]
fn to_ipc(py: Python<'_>, batches: Vec<PyRef<'_, PyBatch>>, place: u64) -> PyResult<NativeBlock> {
    let batches: Vec<Batch> = batches.iter().map(|batch| Batch::clone(&batch.0)).collect();
    let packed = py.detach(|| ipc::pack(&batches, place)).map_err(arrow_error)?;
    Ok(NativeBlock(packed.into()))
}

/// The batches of an append.
#[pyfunction]
fn from_ipc(py: Python<'_>, packed: &[u8], place: u64) -> PyResult<Vec<PyBatch>> {
    let batches = guarded(py, || ipc::unpack(packed, place))?;
    let batches = batches.map_err(|error| native_error(py, error.code(), error.to_string(), None, ""))?;
    Ok(batches.into_iter().map(PyBatch::new).collect())
}

/// Of a SQLite write-ahead log: commits that SQLite takes, commits after the first frame that does not hold, frames that
/// do not hold.
#[pyfunction]
fn survey_wal(py: Python<'_>, wal: &[u8], page_bytes: usize) -> (usize, usize, usize) {
    let found = py.detach(|| wal::survey(wal, page_bytes));
    (found.commits, found.commits_beyond, found.damaged_frames)
}

/// The log with a header and checksums that hold, so that SQLite reads what comes after damaged frames too.
#[pyfunction]
fn mend_wal<'py>(py: Python<'py>, wal: &[u8], page_bytes: usize) -> Bound<'py, PyBytes> {
    let mended = py.detach(|| {
        let mut mended = wal.to_vec();
        wal::mend(&mut mended, page_bytes);
        mended
    });
    PyBytes::new(py, &mended)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(to_ipc, module)?)?;
    module.add_function(wrap_pyfunction!(from_ipc, module)?)?;
    module.add_function(wrap_pyfunction!(survey_wal, module)?)?;
    module.add_function(wrap_pyfunction!(mend_wal, module)?)
}
