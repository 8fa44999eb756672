//! A persistent list in the order of names: a copy costs by its number of chunks, a change to a copy by the size of one chunk. What the admin API shows is
//! such a list: there is a new one with each snapshot, which mostly differs in one entry.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// The largest number of entries in a chunk.
const MOST_IN_A_CHUNK: usize = 128;

/// Something that has a name.
pub trait Named {
    /// The namespace and the name.
    fn name(&self) -> (&str, &str);
}

/// A list of shared entries, in which each name is there once.
pub struct Sorted<T> {
    /// The chunks, of which none is empty.
    chunks: Vec<Arc<Vec<Arc<T>>>>,
}

impl<T: Named> Sorted<T> {
    /// Adds an entry, or replaces the one of its name.
    pub fn insert(&mut self, entry: Arc<T>) {
        let Some(at) = self.chunk(entry.name()) else {
            self.chunks.push(Arc::new(vec![entry]));
            return;
        };
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        match chunk.binary_search_by(|known| known.name().cmp(&entry.name())) {
            Ok(known) => chunk[known] = entry,
            Err(between) => chunk.insert(between, entry),
        }
        if chunk.len() > MOST_IN_A_CHUNK {
            let rest = chunk.split_off(MOST_IN_A_CHUNK / 2);
            self.chunks.insert(at + 1, Arc::new(rest));
        }
    }

    /// Removes the entry of this name.
    pub fn remove(&mut self, name: (&str, &str)) {
        let Some(at) = self.chunk(name) else { return };
        let Ok(known) = self.chunks[at].binary_search_by(|known| known.name().cmp(&name)) else { return };
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        chunk.remove(known);
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
    }

    /// The entry of this name.
    pub fn get(&self, name: (&str, &str)) -> Option<&Arc<T>> {
        let chunk = self.chunks.get(self.chunk(name)?)?;
        chunk.get(chunk.binary_search_by(|known| known.name().cmp(&name)).ok()?)
    }

    /// The chunk where an entry of this name is, or would be; none: there is no chunk.
    fn chunk(&self, name: (&str, &str)) -> Option<usize> {
        let after = self.chunks.partition_point(|chunk| chunk.first().is_some_and(|first| first.name() <= name));
        (!self.chunks.is_empty()).then(|| after.saturating_sub(1))
    }
}

impl<T> Sorted<T> {
    /// All entries in their order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).map(|entry| &**entry)
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Clone for Sorted<T> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Sorted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Serialize> Serialize for Sorted<T> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Entry(String, usize);

    impl Named for Entry {
        fn name(&self) -> (&str, &str) {
            self.0.split_at(1)
        }
    }

    #[test]
    fn it_says_what_a_map_says_and_copies_stay_as_they_are() {
        let mut random = StdRng::seed_from_u64(1);
        let (mut sorted, mut plain) = (Sorted::<Entry>::default(), BTreeMap::new());
        let mut kept = Vec::new();
        for step in 0..20_000 {
            // The list grows first, and then shrinks to nothing.
            let name = format!("{:04}", random.random_range(0..2_000));
            if random.random_range(0..20_000) < step {
                sorted.remove(name.split_at(1));
                plain.remove(&name);
            } else {
                sorted.insert(Arc::new(Entry(name.clone(), step)));
                plain.insert(name.clone(), step);
            }
            assert_eq!(sorted.get(name.split_at(1)).map(|entry| entry.1), plain.get(&name).copied());
            if step % 1_000 == 0 {
                kept.push((sorted.clone(), plain.clone()));
            }
        }
        for name in plain.keys() {
            sorted.remove(name.split_at(1));
        }
        assert!(sorted.chunks.is_empty());
        for (sorted, plain) in &kept {
            assert!(sorted.iter().map(|entry| (&entry.0, &entry.1)).eq(plain));
            assert!(sorted.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= MOST_IN_A_CHUNK));
        }
    }
}
