//! Where the database is, and the credentials for it.

use std::{error::Error as _, fmt, fs, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use tokio_postgres::config::{Config, Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// The port of `PostgreSQL` where the URL has none.
const DEFAULT_PORT: u16 = 5432;
/// When the system gives up on a connection whose data is not acknowledged by the other machine.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an idle connection is probed, and after how many lost probes it is closed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;

/// A `PostgreSQL` database that stores the log.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// Everything but the host, which is tried one after the other.
    base: Config,
    hosts: Vec<Endpoint>,
    /// A file that holds the password; read for each connection, so that it can be changed.
    pub(crate) password_file: Option<PathBuf>,
    /// The files for TLS.
    pub(crate) tls: PostgresTls,
    /// Whether to refuse a database that does not replicate synchronously.
    pub(crate) require_synchronous_standby: bool,
}

/// Certificates for TLS connections to the database, as PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PostgresTls {
    /// The certificate authorities to trust; by default those of the system.
    pub(crate) ca: Option<PathBuf>,
    /// The certificate with which the server identifies itself, and its key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

/// One server of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    host: Host,
    port: u16,
}

impl FromStr for PostgresOptions {
    type Err = String;

    /// Parses a connection URL, `postgres://user@host:port,host:port/database?option=value`.
    fn from_str(url: &str) -> Result<Self, String> {
        // Connections that are encrypted are always verified.
        let url = url.replace("sslmode=verify-full", "sslmode=require");
        let mut base: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            // The error does not repeat the URL, which may hold a password.
            format!("{}; write it like postgres://user@host/database", describe(&error))
        })?;
        let is_part_of_password =
            |host: &Host| matches!(host, Host::Tcp(name) if name.contains('@'));
        if base.get_hosts().iter().any(is_part_of_password) {
            return Err("a user or password with @ must have it as %40".to_owned());
        }
        if !base.get_hostaddrs().is_empty() {
            return Err("hostaddr is not supported; use the host name or its address".to_owned());
        }
        let (hosts, ports) = (base.get_hosts(), base.get_ports());
        let port = |index: usize| ports.get(index).or(ports.last()).copied();
        let endpoint = |(index, host): (usize, &Host)| Endpoint {
            host: host.clone(),
            port: port(index).unwrap_or(DEFAULT_PORT),
        };
        let hosts: Vec<_> = hosts.iter().enumerate().map(endpoint).collect();
        if hosts.is_empty() || base.get_user().is_none() {
            return Err("name a user and a host: postgres://user@host/database".to_owned());
        }
        base.tcp_user_timeout(TCP_TIMEOUT)
            .keepalives_idle(TCP_TIMEOUT)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Self {
            base: without_hosts(&base),
            hosts,
            password_file: None,
            tls: PostgresTls::default(),
            require_synchronous_standby: false,
        })
    }
}

/// A copy of everything but the hosts and their ports.
fn without_hosts(config: &Config) -> Config {
    let mut copy = Config::new();
    copy.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs())
        .keepalives_idle(config.get_keepalives_idle());
    if let Some(user) = config.get_user() {
        copy.user(user);
    }
    if let Some(password) = config.get_password() {
        copy.password(password);
    }
    if let Some(database) = config.get_dbname() {
        copy.dbname(database);
    }
    if let Some(options) = config.get_options() {
        copy.options(options);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        copy.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        copy.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        copy.keepalives_retries(retries);
    }
    copy
}

impl PostgresOptions {
    /// Whether the URL holds a password, which other users of the machine can read in a command line.
    pub(crate) fn has_password(&self) -> bool {
        self.base.get_password().is_some()
    }

    pub(crate) fn set_password(&mut self, password: &str) {
        self.base.password(password);
    }

    pub(super) fn hosts(&self) -> &[Endpoint] {
        &self.hosts
    }

    /// The configuration of a connection to one server.
    ///
    /// # Errors
    /// When the password cannot be read.
    pub(super) fn config(&self, server: &Endpoint, application: &str) -> anyhow::Result<Config> {
        let mut config = self.base.clone();
        config.application_name(application).port(server.port);
        match &server.host {
            Host::Tcp(name) => config.host(name),
            #[cfg(unix)]
            Host::Unix(folder) => config.host_path(folder),
        };
        // Encrypted and verified, unless the URL says otherwise, or the database is on this machine.
        if config.get_ssl_mode() == SslMode::Prefer {
            let mode = if server.is_local() { SslMode::Disable } else { SslMode::Require };
            config.ssl_mode(mode);
        }
        if let Some(file) = &self.password_file {
            let password = fs::read_to_string(file).with_context(|| {
                format!("cannot read {} (--data-password-file)", file.display())
            })?;
            config.password(password.trim_end_matches(['\r', '\n']));
        }
        Ok(config)
    }
}

impl Endpoint {
    fn is_local(&self) -> bool {
        match &self.host {
            Host::Tcp(name) => {
                let name = name.trim_matches(['[', ']']);
                name == "localhost"
                    || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            #[cfg(unix)]
            Host::Unix(_) => true,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp(name) => write!(f, "{name}:{}", self.port),
            #[cfg(unix)]
            Host::Unix(folder) => write!(f, "{}:{}", folder.display(), self.port),
        }
    }
}

impl fmt::Debug for PostgresOptions {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("hosts", &self.hosts)
            .field("database", &self.base.get_dbname())
            .field("user", &self.base.get_user())
            .finish_non_exhaustive()
    }
}

impl PostgresTls {
    /// The connector for encrypted connections.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub(super) fn connector(&self) -> anyhow::Result<MakeRustlsConnect> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.ca {
            let unusable = || format!("{} (--data-ca) cannot be used", file.display());
            for certificate in CertificateDer::pem_file_iter(file).with_context(unusable)? {
                roots.add(certificate.with_context(unusable)?).with_context(unusable)?;
            }
            if roots.is_empty() {
                return Err(anyhow!("{} (--data-ca) holds no certificate", file.display()));
            }
        } else {
            // Those that cannot be read are left out; a server that needs one of them is refused.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match &self.certificate {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let read = |error, file: &PathBuf, flag| {
                    anyhow::Error::new(error).context(format!("{} ({flag})", file.display()))
                };
                let chain = CertificateDer::pem_file_iter(certificate)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|error| read(error, certificate, "--data-cert"))?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| read(error, key, "--data-key"))?;
                config.with_client_auth_cert(chain, key)?
            }
        };
        Ok(MakeRustlsConnect::new(config))
    }
}

/// A description of an error of the database, for the log.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        None => match error.source() {
            None => error.to_string(),
            Some(source) => format!("{error}: {source}"),
        },
        Some(refused) => {
            let hint = refused.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{}: {}{hint}", refused.severity(), refused.message())
        }
    }
}
