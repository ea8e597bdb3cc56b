//! `decode` and `validate` as Python sees them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use pyo3::{exceptions::PyValueError, prelude::*};

use super::{
    batch::PyBatch,
    error::{decode_error, native_error},
};
use crate::{
    batch::{Signal, Source},
    decode::{self as walker, DecodeError, DecodeOptions, Payload},
    schema::Col,
};

type Refused = (usize, String, usize, String);

pub fn signal_of(name: &str) -> PyResult<Signal> {
    Signal::from_name(name).ok_or_else(|| PyValueError::new_err(format!("unknown signal {name:?}")))
}

/// Runs without the GIL; a panic becomes a `NativeError`.
pub fn guarded<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    py.detach(|| catch_unwind(AssertUnwindSafe(work)))
        .map_err(|_| native_error(py, "panic", "the native part failed; please report it".into(), None, ""))
}

/// The rows of all payloads, and what was refused: (index, message, offset, path).
#[pyfunction]
#[pyo3(signature = (signal, payloads, *, tenant="", keep_payload=false, json=false, whole=false))]
fn decode(
    py: Python<'_>,
    signal: &str,
    payloads: Vec<Vec<u8>>,
    tenant: &str,
    keep_payload: bool,
    json: bool,
    whole: bool,
) -> PyResult<(PyBatch, Vec<Refused>)> {
    let signal = signal_of(signal)?;
    let source = Arc::new(Source { tenant: tenant.into(), ..Source::default() });
    let options = DecodeOptions { keep_payload, attributes_whole: whole, ..DecodeOptions::default() };
    let (batch, refused) = guarded(py, move || {
        let (mut bodies, mut places, mut refused) = (Vec::new(), Vec::new(), Vec::<(usize, DecodeError)>::new());
        for (index, body) in payloads.into_iter().enumerate() {
            match if json { walker::json_to_protobuf(signal, &body) } else { Ok(body) } {
                Ok(body) => {
                    bodies.push(Payload { body: Bytes::from(body), source: source.clone() });
                    places.push(index);
                }
                Err(error) => refused.push((index, error)),
            }
        }
        let (batch, more) = walker::decode(signal, &bodies, &options);
        refused.extend(more.into_iter().map(|(at, error)| (places[at], error)));
        refused.sort_by_key(|(index, _)| *index);
        (batch, refused)
    })?;
    let refused = refused.into_iter().map(|(index, error)| (index, error.message, error.offset, error.path));
    Ok((PyBatch::new(batch), refused.collect()))
}

/// How many rows a request has; raises `NativeError` where it is none.
#[pyfunction]
fn validate(py: Python<'_>, signal: &str, payload: &[u8]) -> PyResult<usize> {
    let signal = signal_of(signal)?;
    guarded(py, || walker::validate(signal, payload))?.map_err(|error| decode_error(py, &error))
}

/// The columns as this module was built with them: (name, group, nullable).
#[pyfunction]
fn columns() -> Vec<(&'static str, &'static str, bool)> {
    Col::all().map(|col| (col.name(), col.column().group, col.column().nullable)).collect()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(decode, module)?)?;
    module.add_function(wrap_pyfunction!(validate, module)?)?;
    module.add_function(wrap_pyfunction!(columns, module)?)
}
