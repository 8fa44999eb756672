//! The proxies that are compared, all configured to do the same: ten prefixes, of which the last takes the requests; four endpoints, of which the one
//! with the least work is picked; connections kept on both sides; the usual forwarding headers; one certificate; no access log.

mod caddy;
mod envoy;
mod haproxy;
mod nginx;
mod sluicegate;
mod traefik;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::load::h2load::MESSAGE;
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
    /// gRPC without TLS.
    Grpc,
    WebSocket,
    /// HTTP/1, of a gateway that may write an access log.
    Logged,
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
    /// A file with the message of a gRPC call.
    pub(crate) call: PathBuf,
    _backends: [Running; 3],
    _folder: tempfile::TempDir,
}

/// What all proxies are given.
struct Setting<'a> {
    folder: &'a Path,
    /// The port of the HTTP backends.
    backend: u16,
    /// The port of the gRPC backends.
    grpc: u16,
    /// The port of the WebSocket echo.
    websocket: u16,
    /// The port of the UDP echo.
    echo: u16,
    /// A file with the message of a gRPC call, and its answer.
    call: PathBuf,
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
    /// Starts all. `all`: also those that are not in the usual rows, as far as they are installed.
    pub(crate) fn start(gateway: &Path, tools: &Path, all: bool) -> Result<Self, String> {
        if !gateway.exists() {
            return Err(format!("{} does not exist: run `make build`", gateway.display()));
        }
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let at = folder.path();
        let setting = setting(at)?;
        let backends =
            [nginx::backend(&setting)?, echo(&setting, "udp-echo", setting.echo)?, echo(&setting, "websocket-echo", setting.websocket)?];
        for last in BACKENDS {
            for port in [setting.backend, setting.grpc, setting.websocket] {
                wait_for(SocketAddr::from(([127, 0, 0, last], port)), "the backend")?;
            }
        }
        let [plain, logging] = sluicegate::start(&setting, gateway)?;
        let mut peers = vec![plain, logging, nginx::start(&setting)?, haproxy::start(&setting)?];
        peers.extend(find(tools, "envoy").map(|program| envoy::start(&setting, &program, all)).transpose()?);
        if all {
            peers.extend(find(tools, "traefik").map(|program| traefik::start(&setting, &program)).transpose()?);
            peers.extend(find(tools, "caddy").map(|program| caddy::start(&setting, &program)).transpose()?);
        }
        let call = setting.call.clone();
        Ok(Self { all: peers, call, _backends: backends, _folder: folder })
    }
}

/// Makes what all proxies are given, with a certificate like most on the web: ECDSA on P-256.
fn setting(folder: &Path) -> Result<Setting<'_>, String> {
    let made = rcgen::generate_simple_self_signed(["bench.example".to_owned(), "127.0.0.1".to_owned()]).map_err(|e| e.to_string())?;
    let (certificate, key, both) = (folder.join("tls.crt"), folder.join("tls.key"), folder.join("tls.pem"));
    write(&certificate, made.cert.pem())?;
    write(&key, made.signing_key.serialize_pem())?;
    write(&both, made.cert.pem() + &made.signing_key.serialize_pem())?;
    let call = folder.join("call");
    write(&call, MESSAGE)?;
    let (backend, grpc, websocket, echo) = (port()?, port()?, port()?, port()?);
    Ok(Setting { folder, backend, grpc, websocket, echo, call, certificate, key, both })
}

/// The path of a program that is installed.
pub(crate) fn find(tools: &Path, program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").map(|all| std::env::split_paths(&all).collect::<Vec<_>>()).unwrap_or_default();
    let folders = std::iter::once(tools.to_owned()).chain(folders).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Starts a part of this program that echoes.
fn echo(setting: &Setting<'_>, part: &str, port: u16) -> Result<Running, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let addresses = BACKENDS.map(|last| SocketAddr::from(([127, 0, 0, last], port)).to_string());
    let arguments: Vec<&str> = std::iter::once(part).chain(addresses.iter().map(String::as_str)).collect();
    Running::start(BACKEND_CORE, text(&own)?, &arguments, &setting.folder.join(format!("{part}.log")))
}
