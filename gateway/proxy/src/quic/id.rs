//! Connection IDs that say which worker has the connection. To everybody else they are random bytes: the worker's number is sealed by a secret of the process
//! and by the ID's own random part, so two IDs of one connection cannot be told to belong together (RFC 9000 §5.1).

use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use rand::RngExt as _;

/// The length of an ID, in bytes: random ones, then the sealed number.
pub(crate) const LENGTH: usize = RANDOM + SEALED;
const RANDOM: usize = 7;
/// Two bytes of the worker's number, and three that are zero, by which an ID of this process is known: one in 16 million of others looks like one.
const SEALED: usize = 5;

/// The length of the secret, in bytes.
pub(crate) const SECRET: usize = 16;

/// Seals and opens the IDs of a process.
#[derive(Clone, Copy)]
pub(crate) struct Ids([u8; SECRET]);

impl Default for Ids {
    fn default() -> Self {
        Self(rand::random())
    }
}

impl Ids {
    /// The IDs of a process whose secret is known.
    pub(crate) fn of(secret: [u8; SECRET]) -> Self {
        Self(secret)
    }

    pub(crate) fn secret(&self) -> &[u8; SECRET] {
        &self.0
    }

    /// Makes another ID of a worker.
    pub(super) fn make(&self, worker: u16) -> [u8; LENGTH] {
        let mut id = [0; LENGTH];
        let (random, sealed) = id.split_at_mut(RANDOM);
        rand::rng().fill(random);
        sealed.copy_from_slice(&self.mask(random));
        sealed.iter_mut().zip(worker.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
        id
    }

    /// The worker that has made an ID; none: it is not of this process.
    pub(crate) fn worker(&self, id: &[u8]) -> Option<u16> {
        let (random, sealed) = (id.len() == LENGTH).then(|| id.split_at_checked(RANDOM))??;
        let mask = self.mask(random);
        let mut open = [0; SEALED];
        open.iter_mut().zip(sealed.iter().zip(mask)).for_each(|(byte, (sealed, mask))| *byte = sealed ^ mask);
        let [high, low, rest @ ..] = open;
        (rest == [0; SEALED - 2]).then_some(u16::from_be_bytes([high, low]))
    }

    /// SipHash keeps the number from whoever does not know the secret. More is not at stake: with a forged number a packet goes to another worker, which
    /// drops it.
    fn mask(&self, random: &[u8]) -> [u8; SEALED] {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.0);
        hasher.write(random);
        let hash = hasher.finish().to_be_bytes();
        let mut mask = [0; SEALED];
        mask.iter_mut().zip(hash).for_each(|(byte, hash)| *byte = hash);
        mask
    }
}

/// Makes the IDs of one worker's connections.
pub(super) struct Generator {
    pub(super) ids: Ids,
    pub(super) worker: u16,
}

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.ids.make(self.worker))
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The connection ID to which a packet is addressed (RFC 9000 §17); none: it is not a packet of QUIC.
pub(super) fn destination(packet: &[u8]) -> Option<&[u8]> {
    const LONG: u8 = 0x80;
    match *packet.first()? & LONG {
        0 => packet.get(1..1 + LENGTH),
        // The version, which every version has here (RFC 8999), comes before the ID's length.
        _ => {
            let length = usize::from(*packet.get(5)?);
            packet.get(6..6 + length)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_whose_it_is_to_its_process_alone() {
        let (ids, others) = (Ids::default(), Ids::default());
        for worker in [0, 1, 7, u16::MAX] {
            let id = ids.make(worker);
            assert_eq!(ids.worker(&id), Some(worker));
            assert_eq!(Ids::of(*ids.secret()).worker(&id), Some(worker), "a successor opens it with the secret");
            assert_eq!(others.worker(&id), None);
            assert_eq!(ids.worker(&id[1..]), None);
            assert_ne!(ids.make(worker)[RANDOM..], id[RANDOM..], "the number cannot be seen");
        }
    }

    #[test]
    fn a_packet_says_to_which_id_it_goes() {
        let id: Vec<u8> = (1..=12).collect();
        let short = [&[0x40][..], &id, &[9; 20]].concat();
        assert_eq!(destination(&short), Some(&id[..]));
        let long = |first: u8, id: &[u8]| [&[first, 0, 0, 0, 1, u8::try_from(id.len()).unwrap()][..], id, &[0; 20]].concat();
        assert_eq!(destination(&long(0xc0, &id)), Some(&id[..]));
        assert_eq!(destination(&long(0xc0, &[])), Some(&[][..]));
        for cut in [&short[..12], &[][..], &[0xc0, 0, 0, 0, 1][..], &[0xc0, 0, 0, 0, 1, 200, 1][..]] {
            assert_eq!(destination(cut), None);
        }
    }
}
