//! Pebble, the test CA of Let's Encrypt (Debian's package `pebble`), with its DNS server, which says that all names lead to the gateway. It rejects every tenth nonce,
//! so that orders meet `badNonce` (RFC 8555 §6.5), and really asks for the challenges.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use sluicegate_tests::{Gateway, eventually};

/// Where the CA asks for challenges, at the first address of the gateway.
pub(super) const HTTP_PORT: u16 = 5002;
pub(super) const TLS_PORT: u16 = 5001;

/// The last part of the CA's address in the gateway's network.
const HERE: u8 = 9;

/// A running CA. Its files are in the gateway's state folder, as the gateway's settings name them before it runs.
pub(super) struct Pebble {
    ip: IpAddr,
    folder: PathBuf,
    dns: Child,
    server: Child,
}

impl Pebble {
    /// Starts a CA beside a gateway. `more`: settings of its own.
    pub(super) fn start(gateway: &Gateway, more: &Value) -> Self {
        let (ip, folder) = (gateway.ip(HERE), gateway.state_dir().to_owned());
        let key = KeyPair::generate().expect("a key");
        let made = CertificateParams::new(vec![ip.to_string()]).expect("parameters").self_signed(&key).expect("a certificate");
        let (ca, private) = (folder.join("ca.pem"), folder.join("ca.key"));
        std::fs::write(&ca, made.pem()).expect("written");
        std::fs::write(&private, key.serialize_pem()).expect("written");
        let mut settings = json!({
            "listenAddress": format!("{ip}:14000"), "managementListenAddress": format!("{ip}:15000"), "certificate": ca, "privateKey": private,
            "httpPort": HTTP_PORT, "tlsPort": TLS_PORT, "externalAccountBindingRequired": false,
        });
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let file = folder.join("pebble.json");
        std::fs::write(&file, json!({"pebble": settings}).to_string()).expect("written");
        let ended = |tool: &mut Command| {
            let started = tool.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            started.expect("Debian's package pebble: make test-tools")
        };
        let dns = ended(
            Command::new("pebble-challtestsrv")
                .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "", "-defaultIPv4", &gateway.ip(1).to_string()])
                .args(["-dns01", &format!("{ip}:8053"), "-management", &format!("{ip}:8055")]),
        );
        let server =
            ended(
                Command::new("pebble")
                    .args([Path::new("-config"), &file, Path::new("-dnsserver"), Path::new(&format!("{ip}:8053"))])
                    .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "10"), ("PEBBLE_AUTHZREUSE", "0")]),
            );
        let pebble = Self { ip, folder, dns, server };
        for port in [14000, 15000, 8055] {
            eventually("the CA listens", || TcpStream::connect(SocketAddr::new(ip, port)).is_ok());
        }
        pebble
    }

    /// The certificate of the CA's root, in a file.
    pub(super) fn root(&self) -> PathBuf {
        let url = format!("https://{}:15000/roots/0", self.ip);
        let got =
            Command::new("curl").args(["--silent", "--fail", "--cacert"]).arg(self.folder.join("ca.pem")).arg(url).output().expect("curl");
        assert!(got.status.success(), "{got:?}");
        let file = self.folder.join("root.pem");
        std::fs::File::create(&file).and_then(|mut file| file.write_all(&got.stdout)).expect("written");
        file
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.dns] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
