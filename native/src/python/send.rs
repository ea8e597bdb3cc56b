//! `send` as Python sees it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, uri::Authority};
use pyo3::{
    exceptions::{PyOSError, PyValueError},
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyBytes, PyDict},
};
use tokio::task::AbortHandle;

use super::{
    batch::PyBatch,
    error::decode_error,
    listen::{
        seconds,
        values::{pair, pem},
    },
};
use crate::{
    batch::Signal,
    decode::Encoding,
    send::{
        answer::{self, Answer},
        channel::{Call, Channel, Options, runtime},
        frame::Frame,
        json, pack,
        tls::ClientTls,
    },
};

/// A batch whose payloads are meant, or bytes. Neither is copied.
#[derive(FromPyObject)]
enum Part<'py> {
    Batch(PyRef<'py, PyBatch>),
    Bytes(PyBackedBytes),
}

fn pieces(parts: Vec<Part<'_>>) -> PyResult<Vec<Bytes>> {
    let mut all = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Part::Bytes(bytes) => all.push(Bytes::from_owner(bytes)),
            Part::Batch(batch) => all
                .extend(batch.0.payloads().ok_or_else(|| PyValueError::new_err("the batch has no payloads any more"))?),
        }
    }
    Ok(all)
}

fn encoding(name: &str) -> PyResult<Encoding> {
    Encoding::from_name(name).ok_or_else(|| PyValueError::new_err(format!("unknown compression {name:?}")))
}

/// The body of all parts, packed.
#[pyfunction]
#[pyo3(name = "pack", signature = (parts, encoding, level=None))]
fn pack_parts<'py>(
    py: Python<'py>,
    parts: Vec<Part<'_>>,
    encoding: &str,
    level: Option<i32>,
) -> PyResult<Bound<'py, PyBytes>> {
    let (named, parts) = (self::encoding(encoding)?, pieces(parts)?);
    let packed = py.detach(|| pack::pack(named, level, &parts)).map_err(PyValueError::new_err)?;
    Ok(PyBytes::new(py, &packed))
}

/// A gRPC message, ready to be sent any number of times.
#[pyclass(name = "Frame", frozen, module = "colonnade._native")]
struct PyFrame(Frame);

#[pymethods]
impl PyFrame {
    #[new]
    #[pyo3(signature = (parts, encoding="", level=None))]
    fn new(py: Python<'_>, parts: Vec<Part<'_>>, encoding: &str, level: Option<i32>) -> PyResult<PyFrame> {
        let (named, parts) = (self::encoding(encoding)?, pieces(parts)?);
        py.detach(|| Frame::new(named, level, parts)).map(PyFrame).map_err(PyValueError::new_err)
    }

    fn __len__(&self) -> usize {
        self.0.nbytes()
    }
}

/// What an OTLP server said.
#[pyclass(name = "ServerAnswer", frozen, module = "colonnade._native")]
struct PyServerAnswer(Answer);

#[pymethods]
impl PyServerAnswer {
    /// The gRPC status code.
    #[getter]
    fn code(&self) -> u32 {
        self.0.code
    }

    #[getter]
    fn message(&self) -> &str {
        &self.0.message
    }

    #[getter]
    fn retry_after_s(&self) -> Option<f64> {
        self.0.retry_after_s
    }

    #[getter]
    fn rejected(&self) -> i64 {
        self.0.rejected
    }

    #[getter]
    fn rejected_message(&self) -> &str {
        &self.0.rejected_message
    }
}

/// The OTLP/JSON request that an OTLP protobuf request means.
#[pyfunction]
fn protobuf_to_json<'py>(py: Python<'py>, signal: &str, body: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let signal =
        Signal::from_name(signal).ok_or_else(|| PyValueError::new_err(format!("unknown signal {signal:?}")))?;
    let json = py.detach(|| json::protobuf_to_json(signal, body)).map_err(|error| decode_error(py, &error))?;
    Ok(PyBytes::new(py, &json))
}

/// (rejected rows, message) of an export response.
#[pyfunction]
fn read_export_response(body: &[u8]) -> (i64, String) {
    answer::partial_success(body)
}

/// A `google.rpc.Status`.
#[pyfunction]
fn read_status(body: &[u8]) -> PyServerAnswer {
    PyServerAnswer(answer::status(body))
}

/// Connections to a gRPC server.
#[pyclass(name = "Channel", frozen, module = "colonnade._native")]
struct PyChannel(Arc<Channel>);

#[pymethods]
impl PyChannel {
    #[new]
    #[pyo3(signature = (address, *, authority, tls=None, round_robin=true, connect_timeout_s=20.0, ping_interval_s=0.0,
                        ping_timeout_s=20.0, ping_idle=false))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        address: String,
        authority: String,
        tls: Option<&Bound<'_, PyDict>>,
        round_robin: bool,
        connect_timeout_s: f64,
        ping_interval_s: f64,
        ping_timeout_s: f64,
        ping_idle: bool,
    ) -> PyResult<PyChannel> {
        Authority::try_from(authority.as_str())
            .map_err(|_| PyValueError::new_err(format!("not an authority: {authority:?}")))?;
        let options = Options {
            address,
            authority,
            tls: tls.map(client_tls).transpose()?,
            round_robin,
            connect_timeout: seconds(connect_timeout_s),
            ping_interval: seconds(ping_interval_s),
            ping_timeout: seconds(ping_timeout_s),
            ping_idle,
        };
        Ok(PyChannel(Arc::new(Channel::new(options).map_err(PyValueError::new_err)?)))
    }

    /// Calls, and calls `done` with the answer from a thread of the module's own.
    #[pyo3(signature = (path, headers, frame, done, *, timeout_s, wait_for_ready=false))]
    fn call(
        &self,
        path: String,
        headers: Vec<(String, String)>,
        frame: &PyFrame,
        done: Py<PyAny>,
        timeout_s: f64,
        wait_for_ready: bool,
    ) -> PyResult<PyCall> {
        if !path.starts_with('/') || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(PyValueError::new_err(format!("not a path: {path:?}")));
        }
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(pair).collect::<PyResult<Vec<_>>>()? {
            map.append(name, value);
        }
        let call = Call { path, headers: map, frame: frame.0.clone(), timeout: seconds(timeout_s), wait_for_ready };
        let channel = self.0.clone();
        let runtime = runtime().map_err(|error| PyOSError::new_err(error.to_string()))?;
        let task = runtime.spawn(async move {
            let answer = channel.call(&call).await;
            drop(call);
            // Nobody is left to be told once the interpreter ends.
            Python::try_attach(|py| {
                if let Err(error) = done.call1(py, (PyServerAnswer(answer),)) {
                    error.write_unraisable(py, None);
                }
            });
        });
        Ok(PyCall(Mutex::new(Some(task.abort_handle()))))
    }

    fn close(&self) {
        self.0.close();
    }
}

/// A call under way.
#[pyclass(name = "Call", frozen, module = "colonnade._native")]
struct PyCall(Mutex<Option<AbortHandle>>);

#[pymethods]
impl PyCall {
    /// Breaks it off; `done` may still be called when it has just ended.
    fn cancel(&self) {
        if let Some(task) = self.0.lock().expect("no panic under this lock").take() {
            task.abort();
        }
    }
}

/// TLS of a client; unknown keys are refused.
fn client_tls(given: &Bound<'_, PyDict>) -> PyResult<ClientTls> {
    let mut tls = ClientTls::default();
    for (key, value) in given {
        if value.is_none() {
            continue;
        }
        match key.extract::<String>()?.as_str() {
            "ca_file" => tls.ca_file = value.extract()?,
            "ca_pem" => tls.ca_pem = pem(&value)?,
            "roots" => tls.roots = value.extract()?,
            "cert_file" => tls.cert_file = value.extract()?,
            "cert_pem" => tls.settings.cert_pem = pem(&value)?,
            "key_file" => tls.key_file = value.extract()?,
            "key_pem" => tls.settings.key_pem = pem(&value)?,
            "min_version" => tls.settings.min_version = value.extract()?,
            "max_version" => tls.settings.max_version = value.extract()?,
            "cipher_suites" => tls.settings.cipher_suites = value.extract()?,
            "curve_preferences" => tls.settings.curves = value.extract()?,
            "skip_verify" => tls.skip_verify = value.extract()?,
            "server_name" => tls.server_name = value.extract()?,
            other => return Err(PyValueError::new_err(format!("unknown tls setting {other:?}"))),
        }
    }
    Ok(tls)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(pack_parts, module)?)?;
    module.add_function(wrap_pyfunction!(protobuf_to_json, module)?)?;
    module.add_function(wrap_pyfunction!(read_export_response, module)?)?;
    module.add_function(wrap_pyfunction!(read_status, module)?)?;
    module.add_class::<PyFrame>()?;
    module.add_class::<PyServerAnswer>()?;
    module.add_class::<PyChannel>()?;
    module.add_class::<PyCall>()
}
