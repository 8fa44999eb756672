//! Certificates, clients that check them, and backends that show them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use sluicegate_tests::PATIENCE;

use super::world::{Answer, Ask};

/// A self-signed certificate.
pub(super) struct Identity {
    pub(super) pem: String,
    pub(super) der: CertificateDer<'static>,
    pub(super) key: rcgen::KeyPair,
}

impl Identity {
    pub(super) fn new(names: &[&str]) -> Self {
        Self::with_uri(names, None)
    }

    /// A certificate that also has the name of a workload (SPIFFE).
    pub(super) fn with_uri(names: &[&str], uri: Option<&str>) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.subject_alt_names.extend(uri.map(|uri| rcgen::SanType::URI(uri.try_into().expect("a URI"))));
        let key = rcgen::KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        Self { pem: made.pem(), der: made.der().clone(), key }
    }

    /// A ConfigMap with this as the certificate of an authority.
    pub(super) fn authority(&self, namespace: &str, name: &str) -> String {
        let indented: String = self.pem.lines().map(|line| format!("    {line}\n")).collect();
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n  ca.crt: |\n{indented}---\n")
    }

    /// The certificate as [`Identity::serve`] shows it.
    pub(super) fn hex(&self) -> String {
        hex(&self.der)
    }

    /// A backend at port 443 that answers with its name and the request's head, to which it adds the server name that it was asked for (`x-sni`), and,
    /// if it believes this client, the certificate that it was shown (`x-client-certificate`).
    pub(super) fn serve(&self, ip: IpAddr, name: &'static str, client: Option<&Self>) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().expect("versions");
        let config = match client {
            None => config.with_no_client_auth(),
            Some(client) => {
                let mut roots = RootCertStore::empty();
                roots.add(client.der.clone()).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().expect("a verifier");
                config.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        let config = Arc::new(config.with_single_cert(vec![self.der.clone()], key.into()).expect("a certificate"));
        let listener = TcpListener::bind((ip, 443)).expect("port 443 of a loopback address: run as root, or allow unprivileged ports");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = ServerConnection::new(config.clone()).expect("a connection");
                std::thread::spawn(move || answer(StreamOwned::new(connection, stream), name));
            }
        });
    }

    /// A Secret with the certificate and its key.
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

    /// Connects with a server name and a client certificate, and checks that the server's certificate is this one.
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

    /// Asks over TLS with a client certificate.
    pub(super) fn ask_as(&self, at: SocketAddr, server_name: &str, ask: &Ask, shows: Option<&Self>) -> std::io::Result<Answer> {
        ask.send(&mut self.connect_as(at, server_name, shows)?, server_name)
    }

    /// Asks over TLS.
    pub(super) fn ask(&self, at: SocketAddr, server_name: &str, ask: &Ask) -> std::io::Result<Answer> {
        ask.send(&mut self.connect(at, server_name)?, server_name)
    }
}

fn answer(mut stream: StreamOwned<ServerConnection, TcpStream>, name: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {
        head.push(byte[0]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let shown = stream.conn.peer_certificates().and_then(|chain| chain.first()).map_or_else(|| "-".to_owned(), |shown| hex(shown));
        let (head_text, sni) = (String::from_utf8_lossy(&head), stream.conn.server_name().unwrap_or("-"));
        let body = format!("{name}\n{}\r\nx-sni: {sni}\r\nx-client-certificate: {shown}\r\n\r\n", head_text.trim_end());
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
        head.clear();
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
