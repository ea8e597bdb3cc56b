//! Routes, options, certificates and answers as Python gives them.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::seconds;
use crate::batch::Signal;
use crate::decode::Encoding;
use crate::listen::answer::Answer;
use crate::listen::cors::Cors;
use crate::listen::options::{Kind, Route, ServerOptions};
use crate::listen::server::Protocols;
use crate::listen::tls::{Tls, TlsSettings, TlsSource};

/// A file of client certificates that is to be watched is read again this often.
const CLIENT_CA_RELOAD: Duration = Duration::from_secs(10);

fn wrong<E: std::fmt::Display>(what: &str, given: &str) -> impl FnOnce(E) -> PyErr {
    let text = format!("{what} {given:?}");
    move |error| PyValueError::new_err(format!("{text}: {error}"))
}

fn header(name: &str) -> PyResult<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).map_err(wrong("not a header name", name))
}

#[pyclass(name = "Route", frozen, module = "colonnade._native")]
pub struct PyRoute {
    pub route: Route,
}

#[pymethods]
impl PyRoute {
    #[new]
    #[pyo3(signature = (*, entry, method, path, kind, max_body_bytes, signal=None, tenant="", tenant_header=None,
                        auth_header=None, include_metadata=false, share_status=429))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        entry: u32,
        method: &str,
        path: &str,
        kind: &str,
        max_body_bytes: usize,
        signal: Option<&str>,
        tenant: &str,
        tenant_header: Option<&str>,
        auth_header: Option<&str>,
        include_metadata: bool,
        share_status: u16,
    ) -> PyResult<PyRoute> {
        let unknown = |what: &str, given: &str| PyValueError::new_err(format!("unknown {what} {given:?}"));
        let signal = signal.unwrap_or("events");
        Ok(PyRoute {
            route: Route {
                entry,
                method: Method::from_bytes(method.as_bytes()).map_err(wrong("not a method", method))?,
                path: path.to_owned(),
                kind: Kind::from_name(kind).ok_or_else(|| unknown("kind", kind))?,
                signal: Signal::from_name(signal).ok_or_else(|| unknown("signal", signal))?,
                max_body_bytes,
                tenant: tenant.into(),
                share_status,
                tenant_header: tenant_header.map(header).transpose()?,
                auth_header: auth_header.map(header).transpose()?,
                include_metadata,
            },
        })
    }
}

#[pyclass(name = "ServerOptions", frozen, module = "colonnade._native")]
pub struct PyServerOptions {
    pub options: ServerOptions,
}

#[pymethods]
impl PyServerOptions {
    #[new]
    #[pyo3(signature = (*, response_headers=vec![], compression=None, read_header_timeout_s=60.0, read_timeout_s=0.0,
                        body_idle_timeout_s=30.0, write_timeout_s=60.0, idle_timeout_s=0.0, keep_alive=true,
                        max_header_bytes=65_536, max_connections=10_000, max_concurrent_streams=1_000,
                        ping_interval_s=0.0, ping_timeout_s=20.0, max_age_s=0.0, max_age_grace_s=0.0,
                        cors_origins=vec![], cors_headers=vec![], cors_exposed=vec![], cors_max_age_s=0))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        response_headers: Vec<(String, String)>,
        compression: Option<Vec<String>>,
        read_header_timeout_s: f64,
        read_timeout_s: f64,
        body_idle_timeout_s: f64,
        write_timeout_s: f64,
        idle_timeout_s: f64,
        keep_alive: bool,
        max_header_bytes: usize,
        max_connections: usize,
        max_concurrent_streams: u32,
        ping_interval_s: f64,
        ping_timeout_s: f64,
        max_age_s: f64,
        max_age_grace_s: f64,
        cors_origins: Vec<String>,
        cors_headers: Vec<String>,
        cors_exposed: Vec<String>,
        cors_max_age_s: u64,
    ) -> PyResult<PyServerOptions> {
        let encodings = match compression {
            None => Encoding::ALL.to_vec(),
            Some(names) => names
                .iter()
                .map(|n| Encoding::from_name(n).ok_or_else(|| PyValueError::new_err(format!("unknown encoding {n:?}"))))
                .collect::<PyResult<_>>()?,
        };
        let cors =
            Cors { origins: cors_origins, headers: cors_headers, exposed: cors_exposed, max_age_s: cors_max_age_s };
        Ok(PyServerOptions {
            options: ServerOptions {
                response_headers: response_headers.iter().map(pair).collect::<PyResult<_>>()?,
                encodings,
                read_header_timeout: seconds(read_header_timeout_s),
                read_timeout: seconds(read_timeout_s),
                body_idle_timeout: seconds(body_idle_timeout_s),
                write_timeout: seconds(write_timeout_s),
                idle_timeout: seconds(idle_timeout_s),
                keep_alive,
                max_header_bytes,
                max_connections,
                max_concurrent_streams,
                ping_interval: seconds(ping_interval_s),
                ping_timeout: seconds(ping_timeout_s),
                max_age: seconds(max_age_s),
                max_age_grace: seconds(max_age_grace_s),
                cors: (!cors.origins.is_empty()).then_some(cors),
            },
        })
    }
}

pub fn pair((name, value): &(String, String)) -> PyResult<(HeaderName, HeaderValue)> {
    Ok((header(name)?, HeaderValue::from_str(value).map_err(wrong("not a header value of", name))?))
}

/// TLS of a server; unknown keys are refused.
pub fn tls(given: &Bound<'_, PyDict>, protocols: Protocols) -> PyResult<Tls> {
    let mut source = TlsSource::default();
    let mut watch_client_ca = false;
    for (key, value) in given {
        if value.is_none() {
            continue;
        }
        let settings: &mut TlsSettings = &mut source.settings;
        match key.extract::<String>()?.as_str() {
            "cert_file" => source.cert_file = value.extract()?,
            "key_file" => source.key_file = value.extract()?,
            "client_ca_file" => source.client_ca_file = value.extract()?,
            "cert_pem" => settings.cert_pem = pem(&value)?,
            "key_pem" => settings.key_pem = pem(&value)?,
            "client_ca_pem" => settings.client_ca_pem = pem(&value)?,
            "client_ca_file_reload" => watch_client_ca = value.extract()?,
            "reload_interval_s" => source.reload = seconds(value.extract()?),
            "min_version" => settings.min_version = value.extract()?,
            "max_version" => settings.max_version = value.extract()?,
            "cipher_suites" => settings.cipher_suites = value.extract()?,
            "curve_preferences" => settings.curves = value.extract()?,
            other => return Err(PyValueError::new_err(format!("unknown tls setting {other:?}"))),
        }
    }
    if watch_client_ca && source.reload.is_zero() {
        source.reload = CLIENT_CA_RELOAD;
    }
    Tls::new(source, protocols.h1, protocols.h2).map_err(PyValueError::new_err)
}

/// PEM as text or bytes.
pub fn pem(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match value.extract::<String>() {
        Ok(text) => Ok(text.into_bytes()),
        Err(_) => value.extract(),
    }
}

#[pyclass(name = "Answer", frozen, module = "colonnade._native")]
pub struct PyAnswer {
    pub answer: Answer,
}

#[pymethods]
impl PyAnswer {
    #[new]
    #[pyo3(signature = (*, http_status, grpc_code, message="", retry_after_s=None, rejected=0))]
    fn new(http_status: u16, grpc_code: u32, message: &str, retry_after_s: Option<f64>, rejected: u64) -> PyAnswer {
        PyAnswer { answer: Answer { http_status, grpc_code, message: message.to_owned(), retry_after_s, rejected } }
    }
}
