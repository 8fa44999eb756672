//! Peers that share no code with the proxy, in front of it and behind it: curl, h2load, and OpenSSL's own client and server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use rustls::pki_types::DnsName;
use sluicegate_model::settings::BackendSettings;
use sluicegate_model::snapshot::{AppProtocol, EndpointTls, Front, ServicePort, TlsHost, TlsMode};
use sluicegate_model::tls::{ClientValidation, Demand, ServerSettings, Trust, UpstreamSettings, UpstreamTls, Verify};

use crate::support::http2::{echo, h2_backend, speaking};
use crate::support::tls::{Authority, Issued, ended, front, https, settings};
use crate::support::*;

/// Certificates, keys and sessions as files, in a folder of the test.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sluicegate-peers-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn authority(&self, name: &str, authority: &Authority) -> String {
        std::fs::write(self.0.join(name), &authority.pem).unwrap();
        self.path(name)
    }

    /// The flags with which a command shows a certificate.
    fn identity(&self, name: &str, issued: &Issued) -> [String; 4] {
        let pem = |label: &str, der: &[u8]| {
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
        };
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        std::fs::write(self.0.join(&cert), pem("CERTIFICATE", &issued.der)).unwrap();
        std::fs::write(self.0.join(&key), pem("PRIVATE KEY", issued.key().secret_der())).unwrap();
        ["-cert".into(), self.path(&cert), "-key".into(), self.path(&key)]
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a command prints on both streams. It is given `input`, and told its end only when the command has ended by itself.
async fn output(mut command: Command, input: &'static str) -> (bool, String) {
    let ran = tokio::task::spawn_blocking(move || {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} is a peer of this test and has to be installed: {error}"));
        // The command may have failed and ended already.
        let _ = child.stdin.as_mut().unwrap().write_all(input.as_bytes());
        let mut errors = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            errors.read_to_end(&mut text).map(|_| text)
        });
        let mut text = Vec::new();
        child.stdout.as_mut().unwrap().read_to_end(&mut text).unwrap();
        text.extend(errors.join().unwrap().unwrap());
        let ended = child.wait().unwrap();
        (ended.success(), String::from_utf8_lossy(&text).into_owned())
    });
    ran.await.unwrap()
}

const REQUEST: &str = "GET /x HTTP/1.1\r\nhost: a.example\r\nx-forwarded-client-cert: forged\r\nconnection: close\r\n\r\n";

/// OpenSSL's client: a handshake that it verifies, and one request.
async fn s_client(at: SocketAddr, name: &str, ca: &str, more: &[&str]) -> (bool, String) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &at.to_string(), "-servername", name, "-CAfile", ca, "-verify_return_error", "-ign_eof"]);
    command.args(more);
    let (succeeded, text) = output(command, REQUEST).await;
    // Later versions of it write names without the spaces.
    (succeeded, text.replace(" = ", "="))
}

#[test]
fn openssl_as_a_client_verifies_negotiates_and_resumes() {
    run(async {
        let (files, ca, proxy, at) = (Files::new(), Authority::new(), start(2), free());
        let (one, wild) = (ca.issue(&["a.example"]), ca.issue(&["*.wild.example"]));
        let of = |issued: &Issued| ended(ServerSettings { alpn: vec!["h2".into(), "http/1.1".into()], ..settings(&[issued]) });
        let hosts = vec![https(Some("a.example"), &of(&one), to(0)), https(Some("*.wild.example"), &of(&wild), to(0))];
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, Front::Tls(hosts.into()))], vec![service(&[to_backend])]).await;
        let authority = files.authority("ca.pem", &ca);
        for (version, named) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let session = files.path(named);
            let asked = ["-verify_hostname", "a.example", "-alpn", "http/1.1", version];
            let (_, first) = s_client(at, "a.example", &authority, &[&asked[..], &["-sess_out", &session]].concat()).await;
            for told in [format!("New, {named}"), "ALPN protocol: http/1.1".into(), "Verify return code: 0 (ok)".into()] {
                assert!(first.contains(&told), "{told:?} is not in {first}");
            }
            assert!(first.contains("HTTP/1.1 200 OK") && first.contains("x-forwarded-proto: https"), "{first}");
            let (_, again) = s_client(at, "a.example", &authority, &[&asked[..], &["-sess_in", &session]].concat()).await;
            assert!(again.contains(&format!("Reused, {named}")) && again.contains("HTTP/1.1 200 OK"), "{again}");
        }
        let (_, wild) = s_client(at, "y.wild.example", &authority, &["-verify_hostname", "y.wild.example", "-alpn", "h2,http/1.1"]).await;
        assert!(wild.contains("ALPN protocol: h2") && wild.contains("Verify return code: 0 (ok)"), "{wild}");
        assert!(wild.contains("subject=CN=*.wild.example"), "{wild}");
        let (succeeded, nobody) = s_client(at, "nobody.example", &authority, &[]).await;
        assert!(!succeeded && nobody.contains("unrecognized name"), "{nobody}");
        let (succeeded, old) = s_client(at, "a.example", &authority, &["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]).await;
        assert!(!succeeded && old.contains("SSL alert number") && !old.contains("200 OK"), "{old}");
    });
}

#[test]
fn openssl_as_a_client_shows_a_certificate_that_endpoints_are_told_of() {
    run(async {
        let (files, ca, people, strangers) = (Files::new(), Authority::new(), Authority::new(), Authority::new());
        let issued = ca.issue(&["a.example"]);
        let of = |demand| {
            let client = Some(ClientValidation { authorities: Some(people.authorities()), demand });
            front(&ended(ServerSettings { client, ..settings(&[&issued]) }), to(0))
        };
        let (proxy, required, optional, (to_backend, _)) = (start(1), free(), free(), mirror_back().await);
        let listeners = vec![listener(required, of(Demand::Required)), listener(optional, of(Demand::Optional))];
        proxy.serve(listeners, vec![service(&[to_backend])]).await;
        let authority = files.authority("ca.pem", &ca);
        let (alice, mallory) =
            (files.identity("alice", &people.issue(&["alice"])), files.identity("mallory", &strangers.issue(&["alice"])));
        let shows = |at, identity: &[String]| {
            let (identity, authority) = (identity.to_vec(), authority.clone());
            async move { s_client(at, "a.example", &authority, &identity.iter().map(String::as_str).collect::<Vec<_>>()).await.1 }
        };
        for at in [required, optional] {
            let text = shows(at, &alice).await;
            assert!(text.contains(";Subject=\"CN=alice\"") && !text.contains("client-cert: forged"), "{text}");
            let text = shows(at, &mallory).await;
            assert!(!text.contains("200 OK") && text.contains("alert"), "{text}");
        }
        let text = shows(required, &[]).await;
        assert!(!text.contains("200 OK") && text.contains("certificate required"), "{text}");
        let text = shows(optional, &[]).await;
        assert!(text.contains("200 OK") && !text.contains("x-forwarded-client-cert"), "{text}");
    });
}

#[test]
fn curl_comes_in_plain_text_by_either_version_of_http() {
    run(async {
        let (proxy, at) = (start(1), free());
        let (to_backend, _) = h2_backend(h2::server::Builder::new(), echo).await;
        proxy.serve(vec![listener(at, http(to(0)))], vec![speaking(AppProtocol::H2c, &[to_backend], BackendSettings::default())]).await;
        for version in ["--http2-prior-knowledge", "--http1.1"] {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "-m", "10", version, "-d", "hello", &format!("http://{at}/x")]);
            let (succeeded, text) = output(curl, "").await;
            assert!(succeeded && text.starts_with(&format!("POST http://{at}/x\n")) && text.ends_with("hello"), "{version}: {text}");
        }
    });
}

#[test]
fn h2load_gets_all_its_answers_over_many_streams() {
    run(async {
        let (proxy, plain, secure, ca) = (start(2), free(), free(), Authority::new());
        let tls = ended(ServerSettings { alpn: vec!["h2".into()], ..settings(&[&ca.issue(&["localhost"])]) });
        let (to_backend, log) = mirror_back().await;
        proxy.serve(vec![listener(plain, http(to(0))), listener(secure, front(&tls, to(0)))], vec![service(&[to_backend])]).await;
        for url in [format!("http://{plain}/x"), format!("https://{secure}/x")] {
            let mut h2load = Command::new("h2load");
            h2load.args(["-n", "2000", "-c", "4", "-m", "20", &url]);
            let (succeeded, text) = output(h2load, "").await;
            assert!(succeeded && text.contains("2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
            assert!(text.contains("status codes: 2000 2xx"), "{text}");
        }
        assert_eq!(log.requests.load(Ordering::Relaxed), 4000);
    });
}

#[test]
fn curl_comes_by_either_version_of_http_over_tls() {
    run(async {
        let (files, ca, proxy, at) = (Files::new(), Authority::new(), start(1), free());
        let tls = ended(ServerSettings { alpn: vec!["h2".into(), "http/1.1".into()], ..settings(&[&ca.issue(&["a.example"])]) });
        let (to_backend, _) = mirror_back().await;
        proxy.serve(vec![listener(at, front(&tls, to(0)))], vec![service(&[to_backend])]).await;
        let authority = files.authority("ca.pem", &ca);
        for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "-m", "10", flag, "--cacert", &authority, "-w", "\n%{http_version} %{ssl_verify_result}"]);
            curl.args(["--resolve", &format!("a.example:{}:{}", at.port(), at.ip()), &format!("https://a.example:{}/x", at.port())]);
            let (succeeded, text) = output(curl, "").await;
            assert!(succeeded && text.contains("GET /x HTTP/1.1\r\n") && text.ends_with(&format!("\n{version} 0")), "{text}");
        }
    });
}

/// OpenSSL's server, which answers each request with what it knows of the connection.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(more: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-www"]).args(more).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl is a peer of this test and has to be installed");
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "it has ended");
            if let Some(address) = line.trim_end().strip_prefix("ACCEPT ") {
                break address.parse().unwrap();
            }
        };
        // The output is read on, so that the server never waits.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn openssl_as_an_endpoint_gets_its_name_and_a_certificate_and_is_verified() {
    run(async {
        let (files, ca, clients, strangers) = (Files::new(), Authority::new(), Authority::new(), Authority::new());
        let identity = files.identity("server", &ca.issue(&["b.example"]));
        let second = [&identity[1], &identity[3]];
        let authority = files.authority("clients.pem", &clients);
        let flags: Vec<&str> = identity.iter().map(String::as_str).collect();
        // Another server name, no certificate, or another authority's certificate ends the handshake.
        let strict = ["-servername", "b.example", "-servername_fatal", "-cert2", second[0], "-key2", second[1]];
        let wants = ["-CAfile", &authority, "-Verify", "1", "-verify_return_error"];
        let server = Server::start(&[&flags[..], &strict, &wants].concat());
        let met = |trusts: &Authority, sni: &str, shows: Option<&Authority>| {
            let certificate = shows.map(|authority| authority.issue(&["gateway"]).certificate());
            let sni = Some(DnsName::try_from(sni.to_owned()).unwrap());
            let verify = Verify::Signed { trust: Trust::Only(trusts.authorities()), names: vec![] };
            let rules = UpstreamTls::build(Arc::new(UpstreamSettings { verify, sni, certificate })).unwrap();
            ServicePort { tls: EndpointTls::On(Arc::new(rules)), ..service(&[server.address]) }
        };
        let services = vec![
            met(&ca, "b.example", Some(&clients)),
            met(&ca, "c.example", Some(&clients)),
            met(&strangers, "b.example", Some(&clients)),
            met(&ca, "b.example", None),
            met(&ca, "b.example", Some(&strangers)),
        ];
        let (proxy, at): (_, Vec<SocketAddr>) = (start(1), services.iter().map(|_| free()).collect());
        proxy.serve(at.iter().enumerate().map(|(i, at)| listener(*at, http(to(i)))).collect(), services).await;
        let asked = |at: SocketAddr| async move {
            let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.unwrap();
            String::from_utf8_lossy(&answer).replace(" = ", "=")
        };
        let text = asked(at[0]).await;
        assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("TLSv1.3") && text.contains("CN=gateway"), "{text}");
        for refused in &at[1..] {
            let text = asked(*refused).await;
            assert!(text.starts_with("HTTP/1.1 502 "), "{text}");
        }
    });
}

#[test]
fn openssl_on_both_ends_is_passed_through() {
    run(async {
        let (files, ca, proxy, at) = (Files::new(), Authority::new(), start(1), free());
        let identity = files.identity("server", &ca.issue(&["b.example"]));
        let server = Server::start(&identity.iter().map(String::as_str).collect::<Vec<_>>());
        let hosts = vec![TlsHost { hostname: Some("b.example".into()), mode: TlsMode::Passthrough, target: to(0) }];
        proxy.serve(vec![listener(at, Front::Tls(hosts.into()))], vec![service(&[server.address])]).await;
        let authority = files.authority("ca.pem", &ca);
        for version in ["-tls1_2", "-tls1_3"] {
            let (_, text) = s_client(at, "b.example", &authority, &["-verify_hostname", "b.example", version]).await;
            assert!(text.contains("Verify return code: 0 (ok)") && text.contains("HTTP/1.0 200 ok"), "{text}");
        }
        let (succeeded, text) = s_client(at, "c.example", &authority, &[]).await;
        // Nobody here speaks TLS, so nobody sends an alert.
        assert!(!succeeded && !text.contains("unrecognized name"), "{text}");
    });
}
