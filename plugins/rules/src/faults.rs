//! The list that faults are collected in.

use std::fmt::Display;

/// How many faults are spelled out; a configuration can be wrong in thousands of places.
const SHOWN: usize = 20;

/// What is wrong, and where.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    shown: Vec<String>,
    more: usize,
}

impl Faults {
    pub(crate) fn add(&mut self, place: impl Display, problem: impl Display) {
        if self.shown.len() < SHOWN {
            self.shown.push(format!("{place}: {problem}"));
        } else {
            self.more += 1;
        }
    }

    /// Unwraps a checked value; a fault is noted, and `None` is left.
    pub(crate) fn take<T>(&mut self, place: impl Display, checked: Result<T, String>) -> Option<T> {
        checked.map_err(|problem| self.add(place, problem)).ok()
    }

    pub(crate) fn count(&self) -> usize {
        self.shown.len() + self.more
    }

    /// Takes over what another list has.
    pub(crate) fn append(&mut self, other: Self) {
        let room = SHOWN.saturating_sub(self.shown.len());
        self.more += other.more + other.shown.len().saturating_sub(room);
        self.shown.extend(other.shown.into_iter().take(room));
    }

    /// One line a fault.
    pub(crate) fn into_result(mut self) -> Result<(), String> {
        if self.shown.is_empty() {
            return Ok(());
        }
        if self.more > 0 {
            self.shown.push(format!("and {} more", self.more));
        }
        Err(self.shown.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_faults_are_spelled_out() {
        let mut faults = Faults::default();
        for i in 0..100 {
            faults.add(i, "wrong");
        }
        let text = faults.into_result().unwrap_err();
        assert_eq!(text.lines().count(), SHOWN + 1);
        assert!(text.ends_with("and 80 more"));
    }
}
