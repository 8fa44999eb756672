//! Where a document's fields stand, in little memory. Fields are sorted, and of each name only the part is kept in which it differs from the one before
//! (front coding, as LevelDB's blocks have it). A field takes 12 bytes so, where a map took 60.

use super::Position;

/// The number of fields in a block. To find a field, those before it in its block are read.
const BLOCK: usize = 16;

/// Fields, and where each stands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Positions {
    /// For each field: how many bytes its name has in common with the one before in its block, how many others follow, those bytes, line and column.
    bytes: Box<[u8]>,
    /// Where the blocks begin.
    blocks: Box<[u32]>,
}

/// One field as it is read.
struct Entry<'b> {
    common: usize,
    rest: &'b [u8],
    at: Position,
    /// The bytes behind this field.
    next: &'b [u8],
}

impl Positions {
    pub(super) fn new(all: impl IntoIterator<Item = (String, Position)>) -> Self {
        let mut all: Vec<(String, Position)> = all.into_iter().collect();
        all.sort_unstable();
        let (mut bytes, mut blocks, mut last) = (Vec::new(), Vec::new(), "");
        for (number, (field, (line, column))) in all.iter().enumerate() {
            if number.is_multiple_of(BLOCK) {
                // A file has 16 MiB at most, and so have the names of its fields: what lies beyond is not kept.
                let Ok(begin) = u32::try_from(bytes.len()) else { break };
                blocks.push(begin);
                last = "";
            }
            let differs = field.as_bytes().iter().zip(last.as_bytes()).position(|(a, b)| a != b);
            let common = differs.unwrap_or(field.len().min(last.len()));
            let rest = &field.as_bytes()[common..];
            put(&mut bytes, common);
            put(&mut bytes, rest.len());
            bytes.extend_from_slice(rest);
            put(&mut bytes, *line);
            put(&mut bytes, *column);
            last = field;
        }
        Self { bytes: bytes.into(), blocks: blocks.into() }
    }

    /// Where a field stands.
    pub(super) fn get(&self, field: &str) -> Option<Position> {
        let wanted = field.as_bytes();
        let begins = |begin: &u32| self.entry(*begin).is_some_and(|first| first.rest <= wanted);
        let block = self.blocks.partition_point(begins).checked_sub(1)?;
        let mut entry = self.entry(self.blocks[block])?;
        let mut name = entry.rest.to_vec();
        for _ in 1..BLOCK {
            if name.as_slice() >= wanted {
                break;
            }
            entry = Entry::read(entry.next)?;
            name.truncate(entry.common);
            name.extend_from_slice(entry.rest);
        }
        (name == wanted).then_some(entry.at)
    }

    fn entry(&self, begin: u32) -> Option<Entry<'_>> {
        Entry::read(self.bytes.get(begin as usize..)?)
    }
}

impl<'b> Entry<'b> {
    fn read(bytes: &'b [u8]) -> Option<Self> {
        let (common, bytes) = take(bytes)?;
        let (length, bytes) = take(bytes)?;
        let (rest, bytes) = bytes.split_at_checked(length)?;
        let (line, bytes) = take(bytes)?;
        let (column, next) = take(bytes)?;
        Some(Self { common, rest, at: (line, column), next })
    }
}

/// A number in as many bytes as it needs, seven bits each, the low ones first.
fn put(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(usize::BITS.div_ceil(7) as usize) {
        number |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    #[test]
    fn every_field_is_found_where_it_stands_and_no_other() {
        let mut random = StdRng::seed_from_u64(1);
        for size in [0, 1, 2, 15, 16, 17, 32, 33, 500] {
            let mut all = BTreeMap::new();
            while all.len() < size {
                let part = |random: &mut StdRng| ["a", "ab", "é", "ports", "[0]", "[10]", ".", ""][random.random_range(0..8)];
                let name: String = (0..random.random_range(0..8)).map(|_| part(&mut random)).collect();
                all.insert(name, (random.random_range(1..100_000), random.random_range(1..2_000_000)));
            }
            let positions = Positions::new(all.clone());
            for (field, at) in &all {
                assert_eq!(positions.get(field), Some(*at), "{field} of {size}");
                for other in [format!("{field}x"), field.chars().rev().collect(), format!("a{field}")] {
                    assert_eq!(positions.get(&other), all.get(&other).copied(), "{other} of {size}");
                }
            }
            assert_eq!(positions, Positions::new(all));
        }
    }

    #[test]
    fn a_field_takes_some_ten_bytes() {
        let rule =
            |i: usize| ["", ".name", ".matches", ".matches[0].path.value", ".backendRefs[0].name"].map(|f| format!("spec.rules[{i}]{f}"));
        let all: Vec<(String, Position)> = (0..1_000).flat_map(rule).map(|field| (field, (1_000, 20))).collect();
        let (count, positions) = (all.len(), Positions::new(all));
        let size = positions.bytes.len() + 4 * positions.blocks.len();
        assert!(size < 18 * count, "{size} bytes of {count} fields");
        assert_eq!(positions.get("spec.rules[999].matches"), Some((1_000, 20)));
    }
}
