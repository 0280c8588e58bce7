//! Options for a `PostgreSQL` database that stores the messages.

use std::path::PathBuf;

use clap::{Args, builder::BoolishValueParser};

use crate::server::log::{PostgresTls, Store};

/// A `PostgreSQL` database.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "PostgreSQL (with postgres://...)")]
pub struct DatabaseOptions {
    /// The password for the database. Prefer --data-password-file: other users of the machine can read
    /// a command line
    #[arg(long, env = "TIDINGS_DATA_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    pub data_password: Option<Password>,

    /// A file that holds the password; it is read again for each connection
    #[arg(
        long,
        env = "TIDINGS_DATA_PASSWORD_FILE",
        value_name = "FILE",
        conflicts_with = "data_password"
    )]
    pub data_password_file: Option<PathBuf>,

    /// A file with the certificate authorities (PEM) that the certificate of the database is verified
    /// with. Default: those of the system. Connections to other machines are encrypted and verified,
    /// unless the URL has sslmode=disable
    #[arg(long, env = "TIDINGS_DATA_CA", value_name = "FILE")]
    pub data_ca: Option<PathBuf>,

    /// A file with the certificate (PEM) by which the database identifies this server
    #[arg(long, env = "TIDINGS_DATA_CERT", value_name = "FILE", requires = "data_key")]
    pub data_cert: Option<PathBuf>,

    /// A file with the private key (PEM) of that certificate
    #[arg(long, env = "TIDINGS_DATA_KEY", value_name = "FILE", requires = "data_cert")]
    pub data_key: Option<PathBuf>,

    /// Refuse a database that does not wait for a synchronous standby before it acknowledges
    #[arg(long, env = "TIDINGS_REQUIRE_SYNCHRONOUS_STANDBY",
          value_parser = BoolishValueParser::new())]
    pub require_synchronous_standby: bool,
}

/// A password, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl From<&str> for Password {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl DatabaseOptions {
    /// The store, with these options.
    pub(super) fn apply_to(&self, store: &Store) -> Store {
        let mut store = store.clone();
        if let Store::Postgres(options) = &mut store {
            if let Some(Password(password)) = &self.data_password {
                options.set_password(password);
            }
            options.password_file.clone_from(&self.data_password_file);
            options.tls = PostgresTls {
                ca: self.data_ca.clone(),
                certificate: self.data_cert.clone().zip(self.data_key.clone()),
            };
            options.require_synchronous_standby = self.require_synchronous_standby;
        }
        store
    }

    /// Refuses a password in a store's URL that other users of the machine can read, because it is on the
    /// command line, as the value of `flag`.
    pub(super) fn check_visible(store: &Store, flag: &str) -> Result<(), String> {
        match store {
            Store::Postgres(options) if options.has_password() => Err(format!(
                "other users of the machine can read the password in {flag}; leave it out, and give it \
                 with --data-password-file or TIDINGS_DATA_PASSWORD"
            )),
            _ => Ok(()),
        }
    }

    /// Checks that there is a database that the options apply to.
    pub(super) fn check(&self, store: &Store) -> Result<(), String> {
        let Self {
            data_password,
            data_password_file,
            data_ca,
            data_cert,
            require_synchronous_standby,
            ..
        } = self;
        let files = [data_password_file, data_ca, data_cert];
        let is_any = data_password.is_some()
            || *require_synchronous_standby
            || files.iter().any(|file| file.is_some());
        if is_any && !matches!(store, Store::Postgres(_)) {
            return Err("a password, certificates and --require-synchronous-standby are for a \
                        database; give its URL: --data postgres://user@host/database"
                .to_owned());
        }
        Ok(())
    }
}
