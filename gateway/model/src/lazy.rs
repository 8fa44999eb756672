//! Values that are made when they are first used: of ten thousand service ports and a hundred thousand endpoints most never need most of their counters.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// A shared value that is made at its first use. Reading it afterwards costs one atomic load more than a field.
#[derive(Debug)]
pub struct Lazy<T>(OnceLock<Arc<T>>);

impl<T> Lazy<T> {
    /// The value if it was made already, for readers that do not need it.
    pub fn get(&self) -> Option<&T> {
        self.0.get().map(|made| &**made)
    }
}

impl<T> Default for Lazy<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: Default> Deref for Lazy<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        self.0.get_or_init(Arc::default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_by_who_uses_it() {
        let lazy = Lazy::<[u64; 20]>::default();
        assert!(lazy.get().is_none() && size_of_val(&lazy) <= 16);
        let first = lazy.clone();
        assert!(Arc::ptr_eq(&first, &lazy) && lazy.get().is_some());
    }
}
