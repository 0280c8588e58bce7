//! TLS: the certificate with its key, and those that take their place.

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

/// How often to look whether the files have changed. They are small, so that they are read: the
/// times of files say less than what is in them.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How connections are encrypted now; a cheap clone.
#[derive(Clone)]
pub(crate) struct Tls {
    files: Arc<Files>,
    current: Arc<RwLock<Arc<ServerConfig>>>,
    /// What the files held at the start.
    first: Arc<Pair>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What the two files hold.
#[derive(PartialEq, Eq)]
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Takes the certificate and its key from two files.
    pub(crate) fn load(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let first = files.read()?;
        let current = RwLock::new(files.encryption(&first)?);
        Ok(Self { files: Arc::new(files), current: Arc::new(current), first: Arc::new(first) })
    }

    /// What encrypts the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)).into()
    }

    /// Looks after the files for ever. When they change, the connections that come then get the new
    /// certificate; those that are open go on. What can not be used is said once, and changes
    /// nothing.
    pub(crate) async fn follow_files(self) -> Infallible {
        let mut tried = Ok(Arc::clone(&self.first));
        let mut seen = tried.clone();
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let found = self.look().await;
            // Files that are just being written are not ready yet.
            let ready = found == seen;
            seen = found;
            if !ready || seen == tried {
                continue;
            }
            tried.clone_from(&seen);
            let encryption = tried.clone().and_then(|pair| {
                self.files.encryption(&pair).map_err(|error| format!("{error:#}"))
            });
            match encryption {
                Ok(encryption) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = encryption;
                    tracing::info!("the certificate has changed: new connections get the new one");
                }
                Err(error) => {
                    tracing::error!(
                        error,
                        "the certificate has changed, but the new one is no good: the old one stays"
                    );
                }
            }
        }
    }

    async fn look(&self) -> Result<Arc<Pair>, String> {
        let files = Arc::clone(&self.files);
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        let pair = read.unwrap_or_else(|error| Err(error.into()));
        pair.map(Arc::new).map_err(|error| format!("{error:#}"))
    }
}

impl Files {
    fn read(&self) -> anyhow::Result<Pair> {
        let read = |file: &Path, flag| {
            let text = fs::read(file)
                .with_context(|| format!("cannot read {} ({flag})", file.display()))?;
            // Some editors begin a file with a byte order mark.
            Ok::<_, anyhow::Error>(
                text.strip_prefix(b"\xef\xbb\xbf").map_or(text.clone(), Into::into),
            )
        };
        let certificate = read(&self.certificate, "--tls-cert")?;
        Ok(Pair { certificate, key: read(&self.key, "--tls-key")? })
    }

    fn encryption(&self, pair: &Pair) -> anyhow::Result<Arc<ServerConfig>> {
        let chain = certificates(&pair.certificate).with_context(|| {
            format!("{} (--tls-cert) can not be used", self.certificate.display())
        })?;
        let key = key(&pair.key)
            .with_context(|| format!("{} (--tls-key) can not be used", self.key.display()))?;
        let mut encryption =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .map_err(|error| match error {
                    Error::InconsistentKeys(_) => anyhow!(
                        "the key in {} (--tls-key) is not that of the certificate in {} \
                         (--tls-cert)",
                        self.key.display(),
                        self.certificate.display()
                    ),
                    error => anyhow!(
                        "the certificate in {} (--tls-cert) and the key in {} (--tls-key) can not \
                         be used: {error}",
                        self.certificate.display(),
                        self.key.display()
                    ),
                })?;
        encryption.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(encryption))
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
