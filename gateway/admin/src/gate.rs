//! Logins: by the tokens of a file, or by client certificates. The files are read again when they change; while what they say is faulty, what they said before counts.

use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, StatusCode, header};
use rustls::server::ProducesTickets;
use sluicegate_model::escape;
use sluicegate_model::tls::{Authorities, Certificate, ClientValidation, Demand, ServerSettings, ServerTls, subjects};
use zeroize::Zeroizing;

use crate::access::{Access, Caller, ClientCertificates, Login, Role, TlsFiles};
use crate::attempts::{Attempts, Failed};
use crate::connection::Connection;
use crate::refused::Refused;
use crate::tokens::Tokens;

/// The largest file that is read, in bytes.
const MOST: u64 = 1 << 20;
/// How often is looked whether the files have changed. Their names may lead elsewhere then, as those of a Secret in a pod do.
const LOOK: Duration = Duration::from_secs(1);

/// Who may use the admin API, by its files as they are now.
pub struct Gate {
    access: Access,
    tokens: Option<Followed<Tokens>>,
    tls: Option<Followed<ServerTls>>,
    attempts: Attempts,
    stats: Arc<LoginStats>,
}

/// What became of logins.
#[derive(Debug, Default)]
pub struct LoginStats {
    /// Tokens that were not known.
    pub(crate) tokens: AtomicU64,
    /// Client certificates that nobody vouches for, or whose names have no role.
    pub(crate) certificates: AtomicU64,
    /// Logins that were not looked at, since too many from the same address had failed.
    pub(crate) refused: AtomicU64,
    /// Whether a file is faulty, and what it said before counts.
    pub(crate) faulty: AtomicBool,
}

/// What files say, as long as it is not faulty.
struct Followed<T> {
    now: ArcSwap<T>,
    seen: Mutex<Seen>,
}

/// What is known of the files.
struct Seen {
    stamps: Vec<Option<Stamp>>,
    faulty: bool,
}

/// By this a file is known to be another one than before: its device, number, size, and the times of changes to it and to what is said of it.
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

impl Gate {
    /// Reads the files. The error says, for people, what is wrong with which of them.
    pub fn load(access: &Access) -> Result<Self, String> {
        let tokens = access.token_file.as_ref().map(|file| Followed::read(&[file], || tokens(file))).transpose()?;
        let tls = access.tls.as_ref().map(|files| Followed::read(&files.all(), || tls(files))).transpose()?;
        Ok(Self { access: access.clone(), tokens, tls, attempts: Attempts::default(), stats: Arc::default() })
    }

    /// What becomes of logins.
    pub fn stats(&self) -> Arc<LoginStats> {
        self.stats.clone()
    }

    /// Whether somebody can log in.
    pub fn takes_logins(&self) -> bool {
        self.tokens.is_some() || self.authorities().is_some()
    }

    /// Whether tokens could be read on their way from other machines.
    pub fn reads_tokens_in_the_clear(&self) -> bool {
        self.tokens.is_some() && self.tls.is_none()
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// How connections speak TLS from now on; none: they do not.
    pub(crate) fn tls(&self) -> Option<Arc<ServerTls>> {
        self.tls.as_ref().map(|tls| tls.now.load_full())
    }

    fn authorities(&self) -> Option<&ClientCertificates> {
        self.access.tls.as_ref()?.clients.as_ref()
    }

    /// Follows the files.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let gate = self.clone();
            // Only a panic would be an error.
            let _ = tokio::task::spawn_blocking(move || gate.look()).await;
        }
    }

    fn look(&self) {
        let mut faulty = false;
        if let (Some(followed), Some(file)) = (&self.tokens, &self.access.token_file) {
            faulty |= followed.look(&[file], || tokens(file));
        }
        if let (Some(followed), Some(files)) = (&self.tls, &self.access.tls) {
            faulty |= followed.look(&files.all(), || tls(files));
        }
        self.stats.faulty.store(faulty, Ordering::Relaxed);
    }

    /// Who sends a request by this connection.
    pub(crate) fn caller(&self, connection: &Connection, headers: &HeaderMap) -> Result<Caller, Refused> {
        if !self.takes_logins() {
            return match connection.is_loopback() {
                true => Ok(Caller { role: Role::Operator, name: "loopback".into(), login: Login::None }),
                false => Err(Refused::new(
                    StatusCode::FORBIDDEN,
                    "from other machines only probes and metrics are answered, as nobody can log in: set `admin.tokenFile`, or `admin.tls` with `clientCAFile`",
                )),
            };
        }
        let authorization = headers.get(header::AUTHORIZATION).filter(|_| self.tokens.is_some());
        if authorization.is_none() && connection.chain.is_none() {
            return Err(Refused::login("log in by a token (`Authorization: Bearer`) or a client certificate"));
        }
        let (address, now) = (connection.peer.ip(), Instant::now());
        if let Some(rest) = self.attempts.refused(address, now) {
            self.stats.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::later("too many logins from this address have failed", rest));
        }
        let (caller, counter) = match (&self.tokens, authorization) {
            (Some(tokens), Some(authorization)) => (by_token(&tokens.now.load(), authorization.as_bytes()), &self.stats.tokens),
            _ => (self.by_certificate(connection), &self.stats.certificates),
        };
        caller.inspect_err(|_| {
            counter.fetch_add(1, Ordering::Relaxed);
            self.note_failure(connection);
        })
    }

    fn by_certificate(&self, connection: &Connection) -> Result<Caller, Refused> {
        let unknown = |why: &str| Refused::new(StatusCode::FORBIDDEN, why);
        let (Some(tls), Some(clients), Some(chain)) = (&self.tls, self.authorities(), &connection.chain) else {
            return Err(Refused::login("log in by a client certificate"));
        };
        // The authorities may be others than when the connection was made.
        let Some(first) = chain.first().filter(|_| tls.now.load().vouches(chain)) else {
            return Err(unknown("no authority of `admin.tls.clientCAFile` vouches for the client certificate any more"));
        };
        let names = subjects(first);
        let one_of = |wanted: &[String]| -> Option<String> {
            let all = wanted.iter().any(|wanted| wanted == "*");
            let name = names.iter().find(|name| all || wanted.contains(name)).cloned();
            name.or_else(|| all.then(|| "unnamed".into()))
        };
        let (role, name) = match (one_of(&clients.operators), one_of(&clients.viewers)) {
            (Some(name), _) => (Role::Operator, name),
            (None, Some(name)) => (Role::Viewer, name),
            (None, None) => {
                return Err(unknown("the names of the client certificate are neither among `admin.tls.operators` nor `viewers`"));
            }
        };
        Ok(Caller { role, name, login: Login::Certificate })
    }

    /// Notes a handshake that failed for the client's certificate.
    pub(crate) fn refused_certificate(&self, connection: &Connection) {
        self.stats.certificates.fetch_add(1, Ordering::Relaxed);
        self.note_failure(connection);
    }

    /// A login has failed. Of each address at most two lines a minute are logged.
    fn note_failure(&self, connection: &Connection) {
        let address = connection.peer.ip();
        match self.attempts.failed(address, Instant::now()) {
            Failed::First => tracing::warn!(%address, "a login to the admin API has failed"),
            Failed::Last => {
                tracing::warn!(%address, "too many logins to the admin API have failed; none is taken from there for the rest of the minute")
            }
            Failed::Again => {}
        }
    }
}

fn by_token(tokens: &Tokens, authorization: &[u8]) -> Result<Caller, Refused> {
    let token = match authorization.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ => return Err(Refused::login("`Authorization: Bearer TOKEN` is wanted")),
    };
    let (role, name) = tokens.find(token).ok_or_else(|| Refused::login("the token is not known"))?;
    Ok(Caller { role, name: name.to_string(), login: Login::Token })
}

impl<T> Followed<T> {
    fn read(files: &[&PathBuf], load: impl Fn() -> Result<T, String>) -> Result<Self, String> {
        // This comes first: what changes meanwhile is seen at the next look.
        let stamps = files.iter().map(|file| stamp(file)).collect();
        Ok(Self { now: ArcSwap::from_pointee(load()?), seen: Mutex::new(Seen { stamps, faulty: false }) })
    }

    /// Reads the files again if they have changed. Returns whether they are faulty.
    fn look(&self, files: &[&PathBuf], load: impl Fn() -> Result<T, String>) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps: Vec<_> = files.iter().map(|file| stamp(file)).collect();
        if stamps == seen.stamps {
            return seen.faulty;
        }
        match load() {
            Ok(now) => {
                self.now.store(Arc::new(now));
                tracing::info!("what logins to the admin API go by was read anew: {}", shown(files));
                *seen = Seen { stamps, faulty: false };
            }
            Err(error) => {
                tracing::error!(error = %escape::line(&error), "what logins to the admin API go by is faulty; what was read before counts");
                *seen = Seen { stamps, faulty: true };
            }
        }
        seen.faulty
    }
}

fn shown(files: &[&PathBuf]) -> String {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    escape::line(&names.join(", ")).into_owned()
}

fn stamp(file: &Path) -> Option<Stamp> {
    let of =
        |found: Metadata| (found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
    std::fs::metadata(file).ok().map(of)
}

impl TlsFiles {
    fn all(&self) -> Vec<&PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(self.clients.iter().map(|clients| &clients.authorities)).collect()
    }
}

/// Reads a file, if it is a regular one of a size that is to be expected.
fn read(file: &Path) -> Result<(Zeroizing<Vec<u8>>, Metadata), String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let found = std::fs::metadata(file).map_err(|error| wrong(&error))?;
    if !found.is_file() || found.len() > MOST {
        return Err(wrong(&format_args!("a regular file of at most {MOST} bytes is wanted")));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(found.len()).unwrap_or_default() + 1));
    let opened = std::fs::File::open(file).map_err(|error| wrong(&error))?;
    opened.take(MOST).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
    Ok((bytes, found))
}

/// Warns of a secret that everybody on this machine can read.
fn warn_if_open(file: &Path, found: &Metadata) {
    if found.mode() & 0o004 != 0 {
        let file = file.display().to_string();
        tracing::warn!(
            "everybody on this machine may read {}: `chmod o-r`, or a Secret's `defaultMode: 0440`, would help",
            escape::line(&file)
        );
    }
}

fn tokens(file: &Path) -> Result<Tokens, String> {
    let (text, found) = read(file)?;
    warn_if_open(file, &found);
    let text = std::str::from_utf8(&text).map_err(|_| format!("{}: it is not UTF-8", file.display()))?;
    Tokens::parse(text).map_err(|error| format!("{}: {error}", file.display()))
}

fn tls(files: &TlsFiles) -> Result<ServerTls, String> {
    let (chain, _) = read(&files.certificate)?;
    let (key, found) = read(&files.key)?;
    warn_if_open(&files.key, &found);
    let certificate = Certificate::from_pem("the admin API", &chain, &key)
        .map_err(|wrong| format!("{}: {}", if wrong.field == "tls.key" { &files.key } else { &files.certificate }.display(), wrong.what))?;
    let authorities = files.clients.as_ref().map(|clients| {
        let (bundle, _) = read(&clients.authorities)?;
        Authorities::from_pem(&bundle).map_err(|error| format!("{}: {error}", clients.authorities.display()))
    });
    // Probes have no certificate, so whether one is needed depends on the path.
    let client = authorities.transpose()?.map(|authorities| ClientValidation { authorities: Some(authorities), demand: Demand::Optional });
    let settings = ServerSettings {
        certificates: vec![Arc::new(certificate)],
        alpn: vec!["http/1.1".to_owned()],
        client,
        ..ServerSettings::default()
    };
    ServerTls::build(Arc::new(settings), Arc::new(NoTickets)).map_err(|error| format!("{}: {error}", files.certificate.display()))
}

/// Each connection shows its certificate: few are made, and who has shown one once may not have it any more.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }
    fn lifetime(&self) -> u32 {
        0
    }
    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}
