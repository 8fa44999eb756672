//! The proxies that are compared, all configured to do the same: ten prefixes, of which the last takes the requests; four endpoints, of which the one
//! with the least work is picked; connections kept on both sides; the usual forwarding headers; one certificate; no access log.

mod haproxy;
mod nginx;
mod sluicegate;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::process::{Running, family, wait_for};

pub(crate) use sluicegate::{routes, rules};

const PROXY_CORE: usize = 0;
const BACKEND_CORE: usize = 1;
const BACKENDS: [u8; 4] = [2, 3, 4, 5];

/// A kind of traffic that a proxy takes at a port of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Door {
    Http,
    Https,
    H2,
    L4,
    Udp,
    /// HTTP/1, with this many routes.
    Routes(u16),
}

/// The numbers of routes whose requests are compared.
pub(crate) const ROUTES: [u16; 3] = [1, 100, 5_000];

/// The prefixes of this many routes; the last takes the requests.
fn prefixes(routes: u16) -> impl Iterator<Item = String> {
    (0..routes).map(|i| format!("/service-{i}"))
}

/// One proxy.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) doors: BTreeMap<Door, SocketAddr>,
    running: Running,
}

impl Peer {
    pub(crate) fn processes(&self) -> Result<Vec<u32>, String> {
        family(self.running.pid())
    }

    /// A peer that was started, if its process is still there.
    fn started(name: &'static str, running: Running, doors: &[(Door, u16)]) -> Result<Self, String> {
        for (_, port) in doors.iter().filter(|(door, _)| *door != Door::Udp) {
            wait_for(local(*port), name)?;
        }
        Ok(Self { name, doors: doors.iter().map(|(door, port)| (*door, local(*port))).collect(), running })
    }
}

/// All proxies, and the backends.
pub(crate) struct Peers {
    pub(crate) all: Vec<Peer>,
    _backends: [Running; 2],
    _folder: tempfile::TempDir,
}

/// What all proxies are given.
struct Setting<'a> {
    folder: &'a Path,
    /// The port of the HTTP backends.
    backend: u16,
    /// The port of the UDP echo.
    echo: u16,
    /// PEM files: the certificate, its key, and both in one.
    certificate: PathBuf,
    key: PathBuf,
    both: PathBuf,
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

pub(crate) fn port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    listener.local_addr().map(|a| a.port()).map_err(|e| e.to_string())
}

pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

pub(crate) fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

impl Peers {
    pub(crate) fn start(gateway: &Path) -> Result<Self, String> {
        if !gateway.exists() {
            return Err(format!("{} does not exist: run `make build`", gateway.display()));
        }
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let at = folder.path();
        let (backend, echo) = (port()?, port()?);
        let setting = setting(at, backend, echo)?;
        let backends = [nginx::backend(&setting)?, udp_echo(&setting)?];
        for last in BACKENDS {
            wait_for(SocketAddr::from(([127, 0, 0, last], backend)), "the backend")?;
        }
        let all = vec![sluicegate::start(&setting, gateway)?, nginx::start(&setting)?, haproxy::start(&setting)?];
        Ok(Self { all, _backends: backends, _folder: folder })
    }
}

/// Makes what all proxies are given, with a certificate like most on the web: ECDSA on P-256.
fn setting(folder: &Path, backend: u16, echo: u16) -> Result<Setting<'_>, String> {
    let made = rcgen::generate_simple_self_signed(["bench.example".to_owned(), "127.0.0.1".to_owned()]).map_err(|e| e.to_string())?;
    let (certificate, key, both) = (folder.join("tls.crt"), folder.join("tls.key"), folder.join("tls.pem"));
    write(&certificate, made.cert.pem())?;
    write(&key, made.signing_key.serialize_pem())?;
    write(&both, made.cert.pem() + &made.signing_key.serialize_pem())?;
    Ok(Setting { folder, backend, echo, certificate, key, both })
}

fn udp_echo(setting: &Setting<'_>) -> Result<Running, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let addresses = BACKENDS.map(|last| SocketAddr::from(([127, 0, 0, last], setting.echo)).to_string());
    let arguments: Vec<&str> = std::iter::once("udp-echo").chain(addresses.iter().map(String::as_str)).collect();
    Running::start(BACKEND_CORE, text(&own)?, &arguments, &setting.folder.join("udp-echo.log"))
}
