//! Self-signed certificates, and clients that trust them.

use std::{fs, net::TcpStream, path::Path, sync::Arc};

use reqwest::{Certificate, Client, ClientBuilder};
use tempfile::TempDir;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, pem::PemObject as _},
    },
};

/// A self-signed certificate for this machine, and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let generated = rcgen::generate_simple_self_signed(names).expect("a certificate");
        Self { certificate: generated.cert.pem(), key: generated.signing_key.serialize_pem() }
    }

    /// A client that trusts only this certificate.
    pub(crate) fn client(&self) -> ClientBuilder {
        let root = Certificate::from_pem(self.certificate.as_bytes()).expect("a certificate");
        Client::builder().no_proxy().tls_certs_only([root])
    }

    /// A TLS connection that offers these protocols by ALPN.
    pub(crate) async fn connect(
        &self,
        address: &str,
        protocols: &[&str],
    ) -> TlsStream<tokio::net::TcpStream> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        roots.add(root.expect("a certificate")).expect("a root");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols =
            protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let socket = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let name = "127.0.0.1".try_into().expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.expect("a handshake")
    }
}

/// The files with a certificate and its key, which can be replaced.
pub(crate) struct CertificateFiles(TempDir);

impl CertificateFiles {
    pub(crate) fn of(identity: &Identity) -> Self {
        let files = Self(TempDir::new().expect("a folder"));
        files.write(&identity.certificate, &identity.key);
        files
    }

    pub(crate) fn write(&self, certificate: &str, key: &str) {
        fs::write(self.certificate(), certificate).expect("a file");
        fs::write(self.key(), key).expect("a file");
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn certificate(&self) -> String {
        self.0.path().join("certificate.pem").to_str().expect("text").to_owned()
    }

    pub(crate) fn key(&self) -> String {
        self.0.path().join("key.pem").to_str().expect("text").to_owned()
    }
}

/// A port that is currently free.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Waits until the port accepts connections.
pub(crate) fn wait_for_listener(port: u16) {
    for _ in 0..1_000 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("port {port} does not accept connections");
}
