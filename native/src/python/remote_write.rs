//! `decode::remote_write` as Python sees it.

use std::sync::Arc;

use bytes::Bytes;
use pyo3::{exceptions::PyValueError, prelude::*};

use super::{
    batch::PyBatch,
    decode::guarded,
    error::{decode_error, decompress_error, native_error},
};
use crate::{
    batch::Source,
    decode::{
        Encoding, decompress,
        remote_write::{Refusal, Version, decode, families::Families},
    },
};

/// Rows; samples, histograms and exemplars taken; how many came before; what was left out, by reason; why.
type Written = (PyBatch, (usize, usize, usize), usize, Vec<(&'static str, usize)>, Vec<String>);

/// What 1.0 has said about families of metrics.
#[pyclass(frozen, module = "colonnade._native")]
#[derive(Default)]
struct MetricFamilies(Arc<Families>);

#[pymethods]
impl MetricFamilies {
    #[new]
    fn new() -> MetricFamilies {
        MetricFamilies::default()
    }
}

/// The rows of a request's body as it came: packed by snappy.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
#[pyo3(signature = (version, body, *, max_bytes, tenant="", metadata=vec![], families=None, help=false))]
fn decode_remote_write(
    py: Python<'_>,
    version: u32,
    body: &[u8],
    max_bytes: usize,
    tenant: &str,
    metadata: Vec<(String, String)>,
    families: Option<&MetricFamilies>,
    help: bool,
) -> PyResult<Written> {
    let version = match version {
        1 => Version::One,
        2 => Version::Two,
        _ => return Err(PyValueError::new_err(format!("unknown version {version}"))),
    };
    let source = Arc::new(Source { tenant: tenant.into(), metadata, payload: None });
    let families = families.map_or_else(Default::default, |families| families.0.clone());
    let body = Bytes::copy_from_slice(body);
    let result = guarded(py, move || {
        let plain = decompress(Encoding::Snappy, &body, max_bytes)?;
        Ok(decode(version, &plain, source, &families, help))
    })?;
    let result = result.map_err(|error| decompress_error(py, &error))?;
    let (batch, written) = result.map_err(|refusal| match refusal {
        Refusal::Malformed(error) => decode_error(py, &error),
        Refusal::TooLarge(message) => native_error(py, "too_large", message, None, ""),
    })?;
    let taken = (written.samples, written.histograms, written.exemplars);
    let rejected = written.rejected.into_iter().map(|(reason, count)| (reason.name(), count)).collect();
    Ok((PyBatch::new(batch), taken, written.duplicates, rejected, written.messages))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<MetricFamilies>()?;
    module.add_function(wrap_pyfunction!(decode_remote_write, module)?)
}
