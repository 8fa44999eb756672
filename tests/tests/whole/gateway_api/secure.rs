//! Certificates, and clients that check them.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sluicegate_tests::PATIENCE;

use super::world::{Answer, Ask};

/// A certificate that stands for itself.
pub(super) struct Identity {
    pub(super) pem: String,
    pub(super) der: CertificateDer<'static>,
    pub(super) key: rcgen::KeyPair,
}

impl Identity {
    pub(super) fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        Self { pem: made.cert.pem(), der: made.cert.der().clone(), key: made.signing_key }
    }

    /// A Secret with it.
    pub(super) fn secret(&self, namespace: &str, name: &str) -> String {
        let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let (chain, key) = (indented(&self.pem), indented(&self.key.serialize_pem()));
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{chain}  tls.key: |\n{key}---\n"
        )
    }

    /// Connects with a server name, and checks that the certificate is this one.
    pub(super) fn connect(&self, at: SocketAddr, server_name: &str) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        self.connect_as(at, server_name, None)
    }

    /// The same with a certificate of the client's.
    fn connect_as(
        &self,
        at: SocketAddr,
        server_name: &str,
        shows: Option<&Self>,
    ) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).map_err(std::io::Error::other)?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(std::io::Error::other)?.with_root_certificates(roots);
        let name = ServerName::try_from(server_name.to_owned()).map_err(std::io::Error::other)?;
        let config = match shows {
            None => config.with_no_client_auth(),
            Some(shown) => {
                let key = PrivatePkcs8KeyDer::from(shown.key.serialize_der());
                config.with_client_auth_cert(vec![shown.der.clone()], key.into()).map_err(std::io::Error::other)?
            }
        };
        let client = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
        let stream = TcpStream::connect_timeout(&at, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(StreamOwned::new(client, stream))
    }

    /// Asks over TLS with a certificate of the client's.
    pub(super) fn ask_as(&self, at: SocketAddr, server_name: &str, ask: &Ask, shows: Option<&Self>) -> std::io::Result<Answer> {
        ask.send(&mut self.connect_as(at, server_name, shows)?, server_name)
    }

    /// Asks over TLS.
    pub(super) fn ask(&self, at: SocketAddr, server_name: &str, ask: &Ask) -> std::io::Result<Answer> {
        ask.send(&mut self.connect(at, server_name)?, server_name)
    }
}
