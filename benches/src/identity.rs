//! TLS: a self-signed certificate for the measured servers.

use std::fs;

use reqwest::{Certificate, Client, ClientBuilder};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// A self-signed certificate, and the files with it and its key.
pub(crate) struct Identity {
    certificate: Certificate,
    der: CertificateDer<'static>,
    folder: TempDir,
}

impl Identity {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("certificate.pem"), made.cert.pem())?;
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem())?;
        let certificate = Certificate::from_pem(made.cert.pem().as_bytes())?;
        Ok(Self { certificate, der: made.cert.der().clone(), folder })
    }

    /// The flags of a server with this certificate.
    pub(crate) fn flags(&self) -> [String; 2] {
        let file = |name| self.folder.path().join(name).display().to_string();
        [
            format!("--tls-cert={}", file("certificate.pem")),
            format!("--tls-key={}", file("key.pem")),
        ]
    }

    /// The certificate as TLS has it.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.der.clone()
    }

    /// A client that trusts this certificate.
    pub(crate) fn client(&self) -> ClientBuilder {
        Client::builder().no_proxy().tls_certs_only([self.certificate.clone()])
    }
}
