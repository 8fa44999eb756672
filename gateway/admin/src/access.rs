//! Who may use the admin API: what is configured of it, and who somebody is.

use std::path::PathBuf;

use serde::Serialize;

/// Who may use the admin API, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Host names of the admin API, besides `localhost` and addresses.
    pub hosts: Vec<String>,
    /// A file of tokens, by which people and programs log in.
    pub token_file: Option<PathBuf>,
    /// The files by which the admin API speaks TLS; none: it does not.
    pub tls: Option<TlsFiles>,
}

/// The files by which the admin API speaks TLS, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// By which certificates clients log in; none: they are not asked for any.
    pub clients: Option<ClientCertificates>,
}

/// By which certificates clients log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The file of the authorities that vouch for clients.
    pub authorities: PathBuf,
    /// Names of certificates whose holders may give orders; `*` stands for all.
    pub operators: Vec<String>,
    /// Names of certificates whose holders may look; `*` stands for all.
    pub viewers: Vec<String>,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Look at everything, and give no order.
    Viewer,
    /// Everything.
    Operator,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// How somebody has logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Login {
    /// Nobody logs in here, and the connection comes from this machine.
    None,
    /// By a token.
    Token,
    /// By a client certificate.
    Certificate,
}

/// Who sends a request.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Caller {
    pub(crate) role: Role,
    /// That of the token's line, or of the certificate.
    pub(crate) name: String,
    pub(crate) login: Login,
}
