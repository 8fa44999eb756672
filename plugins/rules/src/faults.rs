//! A list of faults.

use std::fmt::Display;

/// How many faults are shown. A configuration can be wrong in thousands of places.
const SHOWN: usize = 20;

/// The faults, each with its place.
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

    /// Unwraps a value that was checked. If it has a fault, that is noted, and `None` is returned.
    pub(crate) fn take<T>(&mut self, place: impl Display, checked: Result<T, String>) -> Option<T> {
        checked.map_err(|problem| self.add(place, problem)).ok()
    }

    pub(crate) fn count(&self) -> usize {
        self.shown.len() + self.more
    }

    /// Adds the faults of another list.
    pub(crate) fn append(&mut self, other: Self) {
        let room = SHOWN.saturating_sub(self.shown.len());
        self.more += other.more + other.shown.len().saturating_sub(room);
        self.shown.extend(other.shown.into_iter().take(room));
    }

    /// Returns the faults as an error, with a line for each.
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
