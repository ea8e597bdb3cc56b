//! `NativeError`: what this crate refuses, as one exception class.

use pyo3::{create_exception, exceptions::PyException, prelude::*};

use crate::decode::{DecodeError, DecompressError};

create_exception!(
    colonnade._native,
    NativeError,
    PyException,
    "What the native part refuses. `code` names the reason, `offset` and `path` say where in the input."
);

/// The exception with its three attributes.
pub fn native_error(py: Python<'_>, code: &str, message: String, offset: Option<usize>, path: &str) -> PyErr {
    let error = NativeError::new_err(message);
    let value = error.value(py);
    let set = value
        .setattr("code", code)
        .and_then(|()| value.setattr("offset", offset))
        .and_then(|()| value.setattr("path", path));
    match set {
        Ok(()) => error,
        Err(failed) => failed,
    }
}

pub fn decode_error(py: Python<'_>, error: &DecodeError) -> PyErr {
    native_error(py, "malformed", error.message.clone(), Some(error.offset), &error.path)
}

pub fn decompress_error(py: Python<'_>, error: &DecompressError) -> PyErr {
    let code = match error {
        DecompressError::TooLarge { .. } => "too_large",
        DecompressError::Corrupt(_) => "corrupt",
    };
    native_error(py, code, error.to_string(), None, "")
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("NativeError", module.py().get_type::<NativeError>())
}
