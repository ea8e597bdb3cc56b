//! TLS of a client: whom it trusts, and who it is.

use std::{fs, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

use crate::listen::tls::{TlsSettings, certificates, provider, versions};

/// Where certificates are. Files are read again for each connection, so that new ones are taken up.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    pub settings: TlsSettings,
    pub cert_file: String,
    pub key_file: String,
    pub ca_file: String,
    pub ca_pem: Vec<u8>,
    /// Authorities in DER that are trusted besides those of `ca_file` and `ca_pem`.
    pub roots: Vec<Vec<u8>>,
    pub skip_verify: bool,
    /// Expected in the server's certificate in place of the address's host.
    pub server_name: String,
}

impl ClientTls {
    /// The configuration of a new connection, or what is wrong with it.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(provider(&self.settings)?);
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions(&self.settings)?)
            .map_err(|e| format!("tls: {e}"))?;
        let builder = match self.skip_verify {
            true => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
            false => builder.with_root_certificates(self.authorities()?),
        };
        let cert = read(&self.cert_file, &self.settings.cert_pem)?;
        let mut config = match cert.is_empty() {
            true => builder.with_no_client_auth(),
            false => {
                let key = PrivateKeyDer::from_pem_slice(&read(&self.key_file, &self.settings.key_pem)?)
                    .map_err(|e| format!("tls key: {e}"))?;
                builder
                    .with_client_auth_cert(certificates(&cert, "cert")?, key)
                    .map_err(|e| format!("tls: certificate and key do not fit: {e}"))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn authorities(&self) -> Result<RootCertStore, String> {
        let mut store = RootCertStore::empty();
        // Some of a system's authorities are too old to be read; the others are what counts.
        store.add_parsable_certificates(self.roots.iter().map(|der| CertificateDer::from_slice(der)));
        let pem = read(&self.ca_file, &self.ca_pem)?;
        if !pem.is_empty() {
            for certificate in certificates(&pem, "ca")? {
                store.add(certificate).map_err(|e| format!("tls ca: {e}"))?;
            }
        }
        Ok(store)
    }
}

fn read(file: &str, pem: &[u8]) -> Result<Vec<u8>, String> {
    match file.is_empty() {
        true => Ok(pem.to_vec()),
        false => fs::read(file).map_err(|e| format!("tls: can not read {file}: {e}")),
    }
}

/// Takes any certificate: `insecure_skip_verify`. Signatures are checked all the same.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
