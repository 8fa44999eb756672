//! The headers that rules name.

use rustc_hash::FxHashMap;

/// The headers that rules name, each once.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    names: Vec<String>,
    index: FxHashMap<String, usize>,
    uses: Uses,
}

impl Headers {
    /// Returns the index of a header, which is added if it is new.
    pub(crate) fn intern(&mut self, name: &str) -> usize {
        *self.index.entry(name.to_owned()).or_insert_with(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        })
    }

    /// The names of all headers, in the order of their indices.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Notes one more condition on a header.
    pub(crate) fn uses(&mut self, index: usize) {
        self.uses.up(index);
    }

    /// Notes one condition less on a header. Returns whether it was the last.
    pub(crate) fn leaves(&mut self, index: usize) -> bool {
        self.uses.down(index)
    }
}

/// The number of conditions on each header or parameter, by its index.
#[derive(Debug, Default)]
pub(crate) struct Uses(Vec<u32>);

impl Uses {
    /// Counts one more.
    pub(crate) fn up(&mut self, index: usize) {
        if self.0.len() <= index {
            self.0.resize(index + 1, 0);
        }
        self.0[index] += 1;
    }

    /// Counts one less. Returns whether it was the last.
    pub(crate) fn down(&mut self, index: usize) -> bool {
        let Some(count) = self.0.get_mut(index) else { return false };
        *count = count.saturating_sub(1);
        *count == 0
    }
}
