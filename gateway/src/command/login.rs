//! How commands log in to an admin API: by a token or a client certificate, and whom they believe to be the gateway.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sluicegate_model::tls::{Certificate, provider};
use ureq::Agent;
use ureq::tls::{self, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// How to log in, and whom to believe.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Login {
    /// A file with the token to log in by: its first line, as it is or as in the gateway's own file
    #[arg(long, value_name = "FILE", env = "SLUICEGATE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Send the token without TLS to another machine, too
    #[arg(long)]
    pub(super) token_without_tls: bool,
    /// Authorities that vouch for the admin API's certificate, in PEM [default: the system's]
    #[arg(long, value_name = "FILE", env = "SLUICEGATE_ADMIN_CA")]
    admin_ca: Option<PathBuf>,
    /// A client certificate to log in by, in PEM
    #[arg(long, value_name = "FILE", env = "SLUICEGATE_ADMIN_CERT", requires = "admin_key")]
    admin_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM
    #[arg(long, value_name = "FILE", env = "SLUICEGATE_ADMIN_KEY", requires = "admin_cert")]
    admin_key: Option<PathBuf>,
}

impl Login {
    /// Whether it is about TLS.
    pub(super) fn is_of_tls(&self) -> bool {
        self.admin_ca.is_some() || self.admin_cert.is_some()
    }

    /// The field that logs in by the token. What a file has before a colon is the role and the name.
    pub(super) fn token(&self) -> Result<Option<String>, String> {
        let Some(file) = self.token_file.as_deref().filter(|file| !file.as_os_str().is_empty()) else { return Ok(None) };
        let text = read(file)?;
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let token =
            line.and_then(|line| line.rsplit(':').next()).map(str::trim).filter(|token| token.bytes().all(|b| b.is_ascii_graphic()));
        match token {
            Some(token) if !token.is_empty() => Ok(Some(format!("Bearer {token}"))),
            _ => Err(format!("{}: it has no token", file.display())),
        }
    }

    /// What asks. The gateway tells what is wrong in its answer's text. It is asked directly, whatever proxy others use, and redirects nobody.
    pub(super) fn agent(&self, tls: bool, patience: Duration) -> Result<Agent, String> {
        let config = Agent::config_builder().http_status_as_error(false).max_redirects(0).proxy(None).timeout_global(Some(patience));
        Ok(if tls { config.tls_config(self.tls()?) } else { config }.build().into())
    }

    fn tls(&self) -> Result<TlsConfig, String> {
        let roots: Vec<_> = match &self.admin_ca {
            Some(file) => certificates(file, &read(file)?)?,
            None => {
                let found = rustls_native_certs::load_native_certs().certs;
                found.iter().map(|certificate| tls::Certificate::from_der(certificate).to_owned()).collect()
            }
        };
        let client = match (&self.admin_cert, &self.admin_key) {
            (Some(certificate), Some(key)) => Some(client(certificate, key)?),
            _ => None,
        };
        let config = TlsConfig::builder().root_certs(RootCerts::from(roots)).client_cert(client);
        Ok(config.unversioned_rustls_crypto_provider(provider().clone()).build())
    }
}

fn client(certificate: &Path, key: &Path) -> Result<ClientCert, String> {
    let (chain, secret) = (read(certificate)?, read(key)?);
    // It is checked here that the one belongs to the other.
    Certificate::from_pem("", &chain, &secret).map_err(|wrong| {
        let file = if wrong.field == "tls.key" { key } else { certificate };
        format!("{}: {}", file.display(), wrong.what)
    })?;
    let secret = PrivateKey::from_pem(&secret).map_err(|error| format!("{}: {error}", key.display()))?;
    Ok(ClientCert::new_with_certs(&certificates(certificate, &chain)?, secret))
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<tls::Certificate<'static>>, String> {
    let found: Result<Vec<_>, _> = parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect();
    let found = found.map_err(|error| format!("{}: {error}", file.display()))?;
    if found.is_empty() { Err(format!("{}: it has no certificate in PEM", file.display())) } else { Ok(found) }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_end_of_the_first_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        let token = |text: &str| {
            std::fs::write(&file, text).expect("written");
            Login { token_file: Some(file.clone()), ..Login::default() }.token()
        };
        for text in ["abc", "abc\n", "\n# mine\n abc \nxyz\n", "operator:alice:abc\n"] {
            assert_eq!(token(text), Ok(Some("Bearer abc".to_owned())), "{text:?}");
        }
        for text in ["", "#abc", "operator:", "a b"] {
            assert!(token(text).is_err_and(|error| error.ends_with("token: it has no token")), "{text:?}");
        }
        assert_eq!(Login::default().token(), Ok(None));
    }
}
