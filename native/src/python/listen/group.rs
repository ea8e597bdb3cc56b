//! Groups of requests, and single ones for Python handlers.

use std::sync::{Mutex, MutexGuard};

use http::{HeaderMap, StatusCode};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::super::{batch::PyBatch, decode::guarded};
use super::values::{PyAnswer, pair};
use crate::decode::{self as walker, DecodeOptions, Payload};
use crate::listen::answer::{Answer, Rendered};
use crate::listen::group::{Group, Opened};
use crate::listen::queue::Pending;
use crate::listen::stats::Status;

#[pyclass(name = "RequestGroup", frozen, module = "colonnade._native")]
pub struct PyRequestGroup {
    group: Mutex<Group>,
    /// Request number of each run of the decoded batch.
    order: Mutex<Vec<usize>>,
}

impl PyRequestGroup {
    pub fn new(group: Group) -> PyRequestGroup {
        PyRequestGroup { group: Mutex::new(group), order: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Group> {
        self.group.lock().expect("no panic under this lock")
    }
}

#[pymethods]
impl PyRequestGroup {
    #[getter]
    fn entry(&self) -> u32 {
        self.lock().entry
    }

    #[getter]
    fn count(&self) -> usize {
        self.lock().count
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.lock().nbytes
    }

    #[getter]
    fn kind(&self) -> &'static str {
        self.lock().kind.name()
    }

    #[getter]
    fn signal(&self) -> &'static str {
        self.lock().signal.name()
    }

    #[getter]
    fn tenants(&self) -> Vec<String> {
        self.lock().tenants.iter().map(|t| t.to_string()).collect()
    }

    #[getter]
    fn refused(&self) -> Vec<(usize, &'static str)> {
        self.lock().refused()
    }

    #[getter]
    fn order(&self) -> Vec<usize> {
        self.order.lock().expect("no panic under this lock").clone()
    }

    /// (request number, tenant, protobuf) of every body that can be opened.
    fn payloads<'py>(&self, py: Python<'py>) -> Vec<(usize, String, Bound<'py, PyBytes>)> {
        let opened = py.detach(|| self.lock().open());
        opened.iter().map(|o| (o.number, o.source.tenant.to_string(), PyBytes::new(py, &o.body))).collect()
    }

    /// The rows of every body that is a request; the others are answered and counted here. `order` then says which
    /// request each run of the batch came from.
    #[pyo3(signature = (*, keep_payload=false, whole=false, columns=true))]
    fn decode(&self, py: Python<'_>, keep_payload: bool, whole: bool, columns: bool) -> PyResult<PyBatch> {
        let options = DecodeOptions { keep_payload, attributes_whole: whole, ..DecodeOptions::default() };
        let batch = guarded(py, || {
            let (signal, opened) = {
                let mut group = self.lock();
                (group.signal, group.open())
            };
            let payload = |o: &Opened| Payload { body: o.body.clone(), source: o.source.clone() };
            let payloads: Vec<Payload> = opened.iter().map(payload).collect();
            let (batch, refused) = match columns {
                true => walker::decode(signal, &payloads, &options),
                false => walker::undecoded(signal, &payloads),
            };
            let mut order: Vec<Option<usize>> = opened.iter().map(|o| Some(o.number)).collect();
            for (at, error) in &refused {
                order[*at] = None;
                self.lock().refuse_malformed(opened[*at].number, error);
            }
            *self.order.lock().expect("no panic under this lock") = order.into_iter().flatten().collect();
            batch
        })?;
        Ok(PyBatch::new(batch))
    }

    #[pyo3(signature = (answer, exceptions=vec![]))]
    fn answer(&self, py: Python<'_>, answer: &PyAnswer, exceptions: Vec<(usize, PyRef<'_, PyAnswer>)>) {
        let exceptions: Vec<(usize, Answer)> = exceptions.iter().map(|(n, a)| (*n, a.answer.clone())).collect();
        py.detach(|| self.lock().answer(&answer.answer, &exceptions));
    }

    fn requests(&self) -> Vec<PyRequest> {
        self.lock().requests().into_iter().map(PyRequest::new).collect()
    }
}

/// A request for a Python handler.
#[pyclass(name = "Request", frozen, module = "colonnade._native")]
pub struct PyRequest {
    pending: Mutex<Pending>,
}

impl PyRequest {
    fn new(pending: Pending) -> PyRequest {
        PyRequest { pending: Mutex::new(pending) }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().expect("no panic under this lock")
    }
}

#[pymethods]
impl PyRequest {
    #[getter]
    fn entry(&self) -> u32 {
        self.lock().route.entry
    }

    #[getter]
    fn tenant(&self) -> String {
        self.lock().tenant.to_string()
    }

    #[getter]
    fn method(&self) -> String {
        self.lock().target.as_ref().map_or_else(String::new, |t| t.method.clone())
    }

    #[getter]
    fn path(&self) -> String {
        self.lock().target.as_ref().map_or_else(String::new, |t| t.path.clone())
    }

    #[getter]
    fn query(&self) -> String {
        self.lock().target.as_ref().map_or_else(String::new, |t| t.query.clone())
    }

    #[getter]
    fn peer(&self) -> String {
        self.lock().target.as_ref().map_or_else(String::new, |t| t.peer.clone())
    }

    #[getter]
    fn headers(&self) -> Vec<(String, String)> {
        self.lock().metadata.clone()
    }

    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let body = self.lock().body.clone();
        PyBytes::new(py, &body)
    }

    /// Answers it; False = it was answered before.
    #[pyo3(signature = (status, headers=vec![], body=b"".as_slice()))]
    fn respond(&self, status: u16, headers: Vec<(String, String)>, body: &[u8]) -> PyResult<bool> {
        let code = StatusCode::from_u16(status)
            .ok()
            .filter(|s| !s.is_informational())
            .ok_or_else(|| PyValueError::new_err(format!("not a status: {status}")))?;
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(pair).collect::<PyResult<Vec<_>>>()? {
            map.append(name, value);
        }
        let body = bytes::Bytes::copy_from_slice(body);
        let counted = Status::Http(status);
        let rendered = Rendered { status: code, headers: map, body, trailers: None, counted };
        Ok(self.lock().reply.send_rendered(rendered))
    }
}
