//! TLS and mutual TLS from PEM.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, crypto, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// What a port's certificate is, as PEM texts.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    pub cert_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
    /// Certificates that clients have to come from; empty = clients need none.
    pub client_ca_pem: Vec<u8>,
    pub min_version: String,
    pub max_version: String,
    pub cipher_suites: Vec<String>,
    pub curves: Vec<String>,
}

/// Where the PEM texts are: files where one is named.
#[derive(Clone, Debug, Default)]
pub struct TlsSource {
    pub settings: TlsSettings,
    pub cert_file: String,
    pub key_file: String,
    pub client_ca_file: String,
    /// How old a configuration may be before the files are read again; zero = for ever.
    pub reload: Duration,
}

impl TlsSource {
    fn read(&self) -> Result<TlsSettings, String> {
        let mut settings = self.settings.clone();
        let files = [
            (&self.cert_file, &mut settings.cert_pem),
            (&self.key_file, &mut settings.key_pem),
            (&self.client_ca_file, &mut settings.client_ca_pem),
        ];
        for (file, text) in files {
            if !file.is_empty() {
                *text = std::fs::read(file).map_err(|e| format!("tls: can not read {file}: {e}"))?;
            }
        }
        Ok(settings)
    }
}

/// A port's TLS; a certificate that can not be read again leaves the old one.
pub struct Tls {
    source: TlsSource,
    config: Arc<ServerConfig>,
    checked: Instant,
    h1: bool,
    h2: bool,
}

impl Tls {
    pub fn new(source: TlsSource, h1: bool, h2: bool) -> Result<Tls, String> {
        let config = build(&source.read()?, h1, h2)?;
        Ok(Tls { source, config, checked: Instant::now(), h1, h2 })
    }

    /// The configuration of a new connection, and whether reading it again has failed.
    pub fn current(&mut self) -> (Arc<ServerConfig>, bool) {
        if self.source.reload.is_zero() || self.checked.elapsed() < self.source.reload {
            return (self.config.clone(), false);
        }
        self.checked = Instant::now();
        let fresh = self.source.read().and_then(|settings| build(&settings, self.h1, self.h2));
        let failed = fresh.is_err();
        if let Ok(config) = fresh {
            self.config = config;
        }
        (self.config.clone(), failed)
    }
}

/// The configuration, or what is wrong with it.
pub fn build(settings: &TlsSettings, h1: bool, h2: bool) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(provider(settings)?);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(settings)?)
        .map_err(|e| format!("tls: {e}"))?;
    let builder = if settings.client_ca_pem.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&settings.client_ca_pem, "client_ca")? {
            roots.add(certificate).map_err(|e| format!("tls client_ca: {e}"))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| format!("tls client_ca: {e}"))?;
        builder.with_client_cert_verifier(verifier)
    };
    let key = PrivateKeyDer::from_pem_slice(&settings.key_pem).map_err(|e| format!("tls key: {e}"))?;
    let mut config = builder
        .with_single_cert(certificates(&settings.cert_pem, "cert")?, key)
        .map_err(|e| format!("tls: certificate and key do not fit: {e}"))?;
    config.alpn_protocols = [(h2, &b"h2"[..]), (h1, b"http/1.1")]
        .into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, name)| name.to_vec())
        .collect();
    Ok(Arc::new(config))
}

pub fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(format!("tls {what}: no certificate in the PEM text")),
        Err(error) => Err(format!("tls {what}: {error}")),
    }
}

pub fn versions(settings: &TlsSettings) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let number = |text: &str, default| match text {
        "" => Ok(default),
        "1.2" => Ok(12),
        "1.3" => Ok(13),
        other => Err(format!("tls: version {other:?} is not offered; 1.2 and 1.3 are")),
    };
    let (min, max) = (number(&settings.min_version, 12)?, number(&settings.max_version, 13)?);
    let all = [(12, &version::TLS12), (13, &version::TLS13)];
    let wanted: Vec<_> = all.into_iter().filter(|(n, _)| (min..=max).contains(n)).map(|(_, v)| v).collect();
    match wanted.is_empty() {
        true => Err("tls: min_version is above max_version".into()),
        false => Ok(wanted),
    }
}

/// The Go names of suites and curves are accepted beside IANA's.
pub fn provider(settings: &TlsSettings) -> Result<crypto::CryptoProvider, String> {
    let mut provider = crypto::ring::default_provider();
    if !settings.cipher_suites.is_empty() {
        let plain = |name: &str| name.to_ascii_uppercase().replace("TLS13_", "TLS_");
        let wanted: Vec<String> = settings.cipher_suites.iter().map(|n| plain(n)).collect();
        // As in Go, a list of suites is about TLS 1.2; those of 1.3 are fixed.
        provider.cipher_suites.retain(|suite| {
            let name = format!("{:?}", suite.suite());
            suite.version().version == rustls::ProtocolVersion::TLSv1_3 || wanted.contains(&plain(&name))
        });
        let known = crypto::ring::default_provider().cipher_suites;
        for (given, name) in settings.cipher_suites.iter().zip(&wanted) {
            if !known.iter().any(|s| plain(&format!("{:?}", s.suite())) == *name) {
                return Err(format!("tls: cipher suite {given:?} is not offered"));
            }
        }
    }
    if !settings.curves.is_empty() {
        let known = [("X25519", "X25519"), ("P256", "secp256r1"), ("P384", "secp384r1")];
        let mut groups = Vec::new();
        for given in &settings.curves {
            let name = known.iter().find(|(go, _)| go.eq_ignore_ascii_case(given)).map_or(given.as_str(), |(_, n)| n);
            let found = provider.kx_groups.iter().find(|g| format!("{:?}", g.name()).eq_ignore_ascii_case(name));
            groups.push(*found.ok_or_else(|| format!("tls: curve {given:?} is not offered"))?);
        }
        provider.kx_groups = groups;
    }
    Ok(provider)
}
