//! Session tickets (RFC 5077; RFC 8446 §4.6.1): the state of a session, sealed, which the client keeps and shows when it comes again.
//!
//! All keys come from secrets of the process ([`TicketSecrets`]), by HKDF (RFC 5869) with what a ticket proves as context: the listener's
//! address and host name, the names of its certificates (also of those that an ACME issuer is asked for), and how clients are verified. So a ticket of one host is worth nothing at another one, and
//! nothing once one of these has changed; and a successor or a later start needs the secrets alone to take what was given out before.
//! A new secret comes every six hours; the one before opens its tickets until it is twelve hours old, as with rustls' own `Ticketer`.
//!
//! Whoever learns a secret can read what was sent in the sessions of its tickets if they were resumed by TLS 1.2 (forward secrecy ends where
//! tickets begin); so secrets are overwritten when they are dropped, and no key made of one is kept.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use super::server::ServerSettings;
use crate::unix::seconds;

/// How long a secret makes tickets, in seconds.
const MAKES: u64 = 6 * 60 * 60;
/// How long after its making a secret opens tickets, in seconds: a ticket is good for six to twelve hours. RFC 8446 allows seven days.
const OPENS: u64 = 12 * 60 * 60;
/// The largest number of secrets that are taken over. Two or three of them still open anything.
const MOST: usize = 16;
/// The length of a secret, and of its name, in bytes.
const LENGTH: usize = 32;
const NAME: usize = 16;

/// A secret of the process: random bytes, and the time at which they were made.
#[derive(Clone)]
pub struct TicketSecret {
    /// When the secret was made, in seconds since 1970.
    made: u64,
    bytes: Zeroizing<[u8; LENGTH]>,
    /// The name, which stands before each ticket, and tells nothing of the bytes.
    name: [u8; NAME],
}

impl TicketSecret {
    /// The number of bytes that [`Self::to_bytes`] makes.
    pub const SIZE: usize = 8 + LENGTH;

    fn fresh(now: u64) -> Result<Self, Unspecified> {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        rand::fill(&mut bytes[..])?;
        Self::of(now, bytes)
    }

    fn of(made: u64, bytes: Zeroizing<[u8; LENGTH]>) -> Result<Self, Unspecified> {
        let mut name = [0; NAME];
        derive(&bytes, &[b"name"], &mut name)?;
        Ok(Self { made, bytes, name })
    }

    /// Time and bytes, for another process.
    pub fn to_bytes(&self) -> Zeroizing<[u8; Self::SIZE]> {
        let mut all = Zeroizing::new([0; Self::SIZE]);
        all[..8].copy_from_slice(&self.made.to_be_bytes());
        all[8..].copy_from_slice(&self.bytes[..]);
        all
    }

    /// Reads what [`Self::to_bytes`] has made; none: these are not such bytes.
    pub fn from_bytes(all: &[u8]) -> Option<Self> {
        let (made, bytes) = all.split_first_chunk()?;
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        Self::of(u64::from_be_bytes(*made), Zeroizing::new(*bytes)).ok()
    }

    /// The secret's age in seconds. If the clock was set back, a secret counts as old rather than young, so that none is used for ever.
    fn age(&self, now: u64) -> u64 {
        now.abs_diff(self.made)
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketSecret").field("made", &self.made).finish_non_exhaustive()
    }
}

/// The secrets of a process, the newest first. Without any, no tickets are given out.
#[derive(Debug, Default)]
pub struct TicketSecrets(ArcSwap<Vec<TicketSecret>>);

impl TicketSecrets {
    /// One new secret.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn fresh() -> Result<Self, Unspecified> {
        let secrets = Self::default();
        secrets.rotate(seconds())?;
        Ok(secrets)
    }

    /// Takes the secrets of an earlier process, in the place of those that are there.
    pub fn adopt(&self, mut secrets: Vec<TicketSecret>) {
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.made));
        secrets.truncate(MOST);
        self.0.store(Arc::new(secrets));
    }

    /// All secrets that still open tickets, the newest first.
    pub fn all(&self) -> Arc<Vec<TicketSecret>> {
        self.0.load_full()
    }

    /// Makes a new secret if it is time, and drops those whose time is over. `now` is in seconds since 1970. Returns whether the secrets have changed.
    ///
    /// # Errors
    /// The system gives no random bytes. The secrets that are there stay in use as long as they may.
    pub fn rotate(&self, now: u64) -> Result<bool, Unspecified> {
        let before = self.0.load();
        let mut kept: Vec<TicketSecret> = before.iter().filter(|secret| secret.age(now) < OPENS).cloned().collect();
        let due = kept.first().is_none_or(|newest| newest.age(now) >= MAKES);
        let made = if due { TicketSecret::fresh(now).map(|fresh| kept.insert(0, fresh)) } else { Ok(()) };
        let changed = due || kept.len() < before.len();
        if changed {
            self.0.store(Arc::new(kept));
        }
        made.map(|()| changed)
    }

    /// What makes and opens tickets for what is served at an address under a host name.
    pub fn tickets(self: &Arc<Self>, address: SocketAddr, hostname: Option<&str>, settings: &ServerSettings) -> Arc<dyn ProducesTickets> {
        Arc::new(HostTickets { secrets: self.clone(), context: context(address, hostname, settings) })
    }
}

/// A digest of what tickets prove. It is the same in another process, so it must not depend on anything of this one.
fn context(address: SocketAddr, hostname: Option<&str>, settings: &ServerSettings) -> [u8; 32] {
    let mut digest = digest::Context::new(&SHA256);
    let mut add = |part: &[u8]| {
        // Each part has its length before it, so that no two lists of parts are the same bytes.
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    };
    add(b"sluicegate session tickets 1");
    add(address.to_string().as_bytes());
    add(hostname.map_or(&[0], |_| &[1]));
    add(hostname.unwrap_or_default().as_bytes());
    let mut names: Vec<&str> = settings.certificates.iter().flat_map(|c| c.names()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    add(&(names.len() as u64).to_be_bytes());
    names.iter().for_each(|name| add(name.as_bytes()));
    if let Some(ask) = &settings.acme {
        add(b"acme");
        add(ask.issuer.as_bytes());
        add(&(ask.names.len() as u64).to_be_bytes());
        ask.names.iter().for_each(|name| add(name.as_bytes()));
    }
    if let Some(client) = &settings.client {
        add(&[1 + client.demand as u8]);
        client.authorities.iter().flat_map(|authorities| authorities.certificates()).for_each(|der| add(der));
    }
    let mut context = [0; 32];
    context.copy_from_slice(digest.finish().as_ref());
    context
}

/// Makes and opens tickets of one host.
struct HostTickets {
    secrets: Arc<TicketSecrets>,
    context: [u8; 32],
}

impl HostTickets {
    /// The key for tickets of this host. It is derived at each use, which takes some microseconds beside a handshake's hundred or more; so nothing is left of
    /// a secret whose time is over.
    fn key(&self, secret: &TicketSecret) -> Result<LessSafeKey, Unspecified> {
        let mut key = Zeroizing::new([0; LENGTH]);
        derive(&secret.bytes, &[b"key", &self.context], &mut key[..])?;
        // SIV (RFC 8452) is used as nonces are random: two workers, or two processes, may draw the same one.
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &key[..])?))
    }

    /// Seals a state: the ticket is the secret's name, the nonce, and the sealed state.
    fn seal(&self, state: &[u8], now: u64) -> Option<Vec<u8>> {
        let secrets = self.secrets.0.load();
        let secret = secrets.first().filter(|newest| newest.age(now) < OPENS)?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(NAME + NONCE_LEN + state.len() + MAX_TAG_LEN);
        ticket.extend(secret.name);
        ticket.extend(nonce);
        ticket.extend(state);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key(secret).ok()?.seal_in_place_separate_tag(nonce, Aad::from(secret.name), &mut ticket[NAME + NONCE_LEN..]).ok()?;
        ticket.extend(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let secrets = self.secrets.0.load();
        let secret = secrets.iter().find(|secret| secret.name == *name && secret.age(now) < OPENS)?;
        let mut state = sealed.to_vec();
        let length = self.key(secret).ok()?.open_in_place(Nonce::from(nonce), Aad::from(secret.name), &mut state).ok()?.len();
        state.truncate(length);
        Some(state)
    }
}

impl ProducesTickets for HostTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        OPENS as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, seconds())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, seconds())
    }
}

impl fmt::Debug for HostTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostTickets").finish_non_exhaustive()
    }
}

/// HKDF-Expand. The secret is random already, so nothing needs to be extracted.
fn derive(secret: &[u8; LENGTH], info: &[&[u8]], out: &mut [u8]) -> Result<(), Unspecified> {
    Prk::new_less_safe(HKDF_SHA256, secret).expand(info, Length(out.len()))?.fill(out)
}

/// The length of what is derived, in bytes.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::testing::{certificate, pem};
    use super::super::{Authorities, ClientValidation, Demand};
    use super::*;

    const HOUR: u64 = 60 * 60;

    fn at(address: &str, hostname: Option<&str>, settings: &ServerSettings, secrets: &Arc<TicketSecrets>) -> HostTickets {
        HostTickets { secrets: secrets.clone(), context: context(address.parse().unwrap(), hostname, settings) }
    }

    fn secrets(now: u64) -> Arc<TicketSecrets> {
        let secrets = TicketSecrets::default();
        secrets.rotate(now).unwrap();
        Arc::new(secrets)
    }

    #[test]
    fn a_ticket_is_good_where_it_was_given_out_and_nowhere_else() {
        let settings = ServerSettings { certificates: vec![certificate(&["a.example", "b.example"])], ..ServerSettings::default() };
        let secrets = secrets(0);
        let ticket = at("127.0.0.1:443", Some("a.example"), &settings, &secrets).seal(b"state", 0).unwrap();
        let opens = |address, hostname, settings: &ServerSettings| at(address, hostname, settings, &secrets).open(&ticket, 0);
        assert_eq!(opens("127.0.0.1:443", Some("a.example"), &settings).unwrap(), b"state");
        let renewed = ServerSettings { certificates: vec![certificate(&["b.example"]), certificate(&["a.example"])], ..settings.clone() };
        assert_eq!(opens("127.0.0.1:443", Some("a.example"), &renewed).unwrap(), b"state", "the same names");
        assert_eq!(opens("127.0.0.1:443", Some("b.example"), &settings), None, "another host name");
        assert_eq!(opens("127.0.0.1:443", None, &settings), None, "any host name");
        assert_eq!(opens("127.0.0.1:444", Some("a.example"), &settings), None, "another port");
        assert_eq!(opens("127.0.0.2:443", Some("a.example"), &settings), None, "another address");
        let less = ServerSettings { certificates: vec![certificate(&["a.example"])], ..settings.clone() };
        assert_eq!(opens("127.0.0.1:443", Some("a.example"), &less), None, "the server is another one");
    }

    #[test]
    fn a_ticket_is_good_as_long_as_clients_are_verified_in_one_way() {
        let authorities = |names: &[&str]| Some(Authorities::from_pem(pem(names).0.as_bytes()).unwrap());
        let (ours, theirs) = (authorities(&["ours"]), authorities(&["theirs"]));
        let mut ways = vec![None];
        for authorities in [ours, theirs, None] {
            for demand in [Demand::Required, Demand::Optional, Demand::Fallback] {
                ways.push(Some(ClientValidation { authorities: authorities.clone(), demand }));
            }
        }
        let secrets = secrets(0);
        let hosts: Vec<HostTickets> = ways
            .into_iter()
            .map(|client| at("[::1]:443", None, &ServerSettings { client, ..ServerSettings::default() }, &secrets))
            .collect();
        for (i, host) in hosts.iter().enumerate() {
            let ticket = host.seal(b"state", 0).unwrap();
            for (j, other) in hosts.iter().enumerate() {
                assert_eq!(other.open(&ticket, 0).is_some(), i == j, "{i} at {j}");
            }
        }
    }

    #[test]
    fn secrets_make_tickets_for_six_hours_and_open_them_for_twelve() {
        let secrets = secrets(1000 * HOUR);
        let host = at("127.0.0.1:443", None, &ServerSettings::default(), &secrets);
        let first = host.seal(b"first", 1000 * HOUR).unwrap();
        assert!(!secrets.rotate(1006 * HOUR - 1).unwrap());
        assert!(secrets.rotate(1006 * HOUR).unwrap());
        let second = host.seal(b"second", 1006 * HOUR).unwrap();
        assert_ne!(first[..NAME], second[..NAME]);
        assert_eq!(host.open(&first, 1012 * HOUR - 1).unwrap(), b"first");
        assert_eq!(host.open(&first, 1012 * HOUR), None, "also if nobody rotates");
        assert!(secrets.rotate(1012 * HOUR).unwrap());
        assert_eq!(secrets.all().len(), 2);
        assert_eq!(host.open(&second, 1012 * HOUR).unwrap(), b"second");
        assert_eq!(host.seal(b"late", 1024 * HOUR), None, "nobody has rotated");
        // The clock was set back.
        assert!(secrets.rotate(5 * HOUR).unwrap());
        assert_eq!((secrets.all().len(), host.open(&second, 5 * HOUR)), (1, None));
    }

    #[test]
    fn another_process_that_has_the_secrets_opens_what_one_without_them_does_not() {
        let (ours, theirs) = (secrets(0), Arc::new(TicketSecrets::default()));
        let ticket = at("127.0.0.1:443", None, &ServerSettings::default(), &ours).seal(b"state", 0).unwrap();
        let there = at("127.0.0.1:443", None, &ServerSettings::default(), &theirs);
        assert_eq!((there.open(&ticket, 0), there.seal(b"state", 0)), (None, None));
        ours.rotate(HOUR * 6).unwrap();
        let handed = ours.all().iter().rev().map(|secret| TicketSecret::from_bytes(&secret.to_bytes()[..]).unwrap()).collect();
        theirs.adopt(handed);
        assert!(!theirs.rotate(HOUR * 6).unwrap(), "the newest is known as such");
        assert_eq!(there.open(&ticket, HOUR * 6).unwrap(), b"state");
        assert!(TicketSecret::from_bytes(&[0; TicketSecret::SIZE + 1]).is_none() && TicketSecret::from_bytes(&[]).is_none());
    }

    #[test]
    fn what_is_no_ticket_opens_nothing_and_secrets_are_not_shown() {
        let secrets = secrets(0);
        let host = at("127.0.0.1:443", None, &ServerSettings::default(), &secrets);
        let ticket = host.seal(b"state", 0).unwrap();
        for length in 0..ticket.len() {
            assert_eq!(host.open(&ticket[..length], 0), None);
            let mut changed = ticket.clone();
            changed[length] ^= 1;
            assert_eq!(host.open(&changed, 0), None, "byte {length}");
        }
        let shown = format!("{secrets:?} {host:?}");
        assert!(shown.contains("made: 0") && !shown.contains("bytes") && !shown.contains("name"), "{shown}");
    }
}
