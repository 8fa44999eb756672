//! The handles that a core module has of its own resources, as the component model keeps them: while the guest owns one, it is an index here; what it hands over
//! to the host is the host's from then on.

use wasmtime::{Result, bail};

/// The largest number of handles that a guest owns at a time. A pool or table that it was asked for is handed over at once.
const MOST: usize = 1 << 16;

/// The handles of one instance. The first has index 1.
#[derive(Default)]
pub(crate) struct Handles {
    /// The guest's own number for each.
    owned: Vec<Option<u32>>,
    free: Vec<u32>,
}

impl Handles {
    /// Gives out a handle of a resource.
    pub(crate) fn add(&mut self, number: u32) -> Result<u32> {
        if let Some(index) = self.free.pop() {
            if let Some(place) = self.owned.get_mut(index as usize - 1) {
                *place = Some(number);
            }
            return Ok(index);
        }
        if self.owned.len() >= MOST {
            bail!("cannot allocate another handle: index overflow");
        }
        self.owned.push(Some(number));
        Ok(u32::try_from(self.owned.len())?)
    }

    /// The guest's number for the resource of a handle.
    pub(crate) fn get(&self, index: u32) -> Result<u32> {
        let found = (index as usize).checked_sub(1).and_then(|at| *self.owned.get(at)?);
        let Some(number) = found else { bail!("unknown handle index {index}") };
        Ok(number)
    }

    /// Takes a handle back, and tells the guest's number for its resource.
    pub(crate) fn take(&mut self, index: u32) -> Result<u32> {
        let number = self.get(index)?;
        if let Some(place) = self.owned.get_mut(index as usize - 1) {
            *place = None;
        }
        self.free.push(index);
        Ok(number)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_handle_counts_until_it_is_taken() {
        let mut handles = Handles::default();
        let (a, b) = (handles.add(7).unwrap(), handles.add(8).unwrap());
        assert_eq!((a, b, handles.get(a).unwrap(), handles.get(b).unwrap()), (1, 2, 7, 8));
        assert_eq!(handles.take(a).unwrap(), 7);
        assert_eq!(handles.get(a).unwrap_err().to_string(), "unknown handle index 1");
        assert_eq!(handles.add(9).unwrap(), 1);
        for unknown in [0, 3, u32::MAX] {
            assert!(handles.get(unknown).is_err() && handles.take(unknown).is_err());
        }
        let given = (0..).take_while(|number| handles.add(*number).is_ok()).count();
        assert_eq!(given, MOST - 2);
    }
}
