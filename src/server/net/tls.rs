//! TLS: the certificate and its private key, reloaded when their files change.

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        Error, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject as _},
        },
    },
};

/// How often the files are read to see whether they have changed. Their contents are compared: they are
/// small, and modification times are less reliable.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The current TLS configuration; a cheap clone.
#[derive(Clone)]
pub(crate) struct Tls {
    files: Arc<Files>,
    current: Arc<RwLock<Arc<ServerConfig>>>,
    /// The contents of the files at the start.
    first: Arc<KeyPair>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// The contents of the two files, as PEM.
#[derive(PartialEq, Eq)]
struct KeyPair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Loads the certificate and its key from two PEM files.
    ///
    /// # Errors
    /// When a file cannot be read, is not valid PEM, or the key does not belong to the certificate.
    pub(crate) fn load(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let first = files.read()?;
        let current = RwLock::new(files.server_config(&first)?);
        Ok(Self { files: Arc::new(files), current: Arc::new(current), first: Arc::new(first) })
    }

    /// The acceptor for the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)).into()
    }

    /// Reloads the files when they change; never returns. New connections get the new certificate, open
    /// ones go on. A certificate that cannot be used is logged once, and the old one stays in use.
    pub(crate) async fn reload_on_change(self) -> Infallible {
        let mut tried = Ok(Arc::clone(&self.first));
        let mut seen = tried.clone();
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let found = self.read_files().await;
            // Files that differ from the last read may still be written.
            let is_stable = found == seen;
            seen = found;
            if !is_stable || seen == tried {
                continue;
            }
            tried.clone_from(&seen);
            let config = tried.clone().and_then(|key_pair| {
                self.files.server_config(&key_pair).map_err(|error| format!("{error:#}"))
            });
            match config {
                Ok(config) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                    tracing::info!("the certificate was reloaded: new connections use it");
                }
                Err(error) => {
                    tracing::error!(
                        error,
                        "the changed certificate cannot be used: the old one stays in use"
                    );
                }
            }
        }
    }

    async fn read_files(&self) -> Result<Arc<KeyPair>, String> {
        let files = Arc::clone(&self.files);
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        let key_pair = read.unwrap_or_else(|error| Err(error.into()));
        key_pair.map(Arc::new).map_err(|error| format!("{error:#}"))
    }
}

impl Files {
    fn read(&self) -> anyhow::Result<KeyPair> {
        let read = |file: &Path, flag| {
            let text = fs::read(file)
                .with_context(|| format!("cannot read {} ({flag})", file.display()))?;
            // Some editors begin a file with a byte order mark.
            Ok::<_, anyhow::Error>(
                text.strip_prefix(b"\xef\xbb\xbf").map_or(text.clone(), Into::into),
            )
        };
        let certificate = read(&self.certificate, "--tls-cert")?;
        Ok(KeyPair { certificate, key: read(&self.key, "--tls-key")? })
    }

    fn server_config(&self, key_pair: &KeyPair) -> anyhow::Result<Arc<ServerConfig>> {
        let chain = certificates(&key_pair.certificate).with_context(|| {
            format!("{} (--tls-cert) cannot be used", self.certificate.display())
        })?;
        let key = key(&key_pair.key)
            .with_context(|| format!("{} (--tls-key) cannot be used", self.key.display()))?;
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .map_err(|error| match error {
                    Error::InconsistentKeys(_) => anyhow!(
                        "the key in {} (--tls-key) does not belong to the certificate in {} \
                         (--tls-cert)",
                        self.key.display(),
                        self.certificate.display()
                    ),
                    error => anyhow!(
                        "the certificate in {} (--tls-cert) and the key in {} (--tls-key) cannot \
                         be used: {error}",
                        self.certificate.display(),
                        self.key.display()
                    ),
                })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let chain = found.map_err(|error| anyhow!("it is not valid PEM ({error})"))?;
    ensure!(!chain.is_empty(), "there is no certificate in it, as PEM");
    Ok(chain)
}

fn key(pem: &[u8]) -> anyhow::Result<PrivateKeyDer<'static>> {
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => {
            bail!("there is no private key in it, as PEM and without a password")
        }
        Err(error) => bail!("it is not valid PEM ({error})"),
    }
}
