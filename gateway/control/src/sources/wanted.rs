//! What control wants of sources that could tell more than anybody looks at: an API server may have thousands of Secrets, of which a gateway may only read
//! those that are referred to.

use std::collections::BTreeSet;
use std::sync::Arc;

use sluicegate_config::object::ObjectKey;
use tokio::sync::watch;

/// Carries what is wanted from control to a source, and back that it was looked for.
#[derive(Clone, Debug)]
pub struct Wanted(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wants: watch::Sender<Wants>,
    answered: watch::Sender<u64>,
}

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wants {
    /// A number that grows with each change.
    pub version: u64,
    /// Secrets and ConfigMaps that objects refer to.
    pub objects: Arc<BTreeSet<ObjectKey>>,
    /// Kinds of which all objects are wanted, as a discovery plugin watches them.
    pub kinds: Arc<BTreeSet<String>>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self(Arc::new(Inner { wants: watch::Sender::default(), answered: watch::Sender::default() }))
    }
}

impl Wanted {
    /// Sets what is wanted from now on. True: it is something else than before.
    pub(crate) fn want(&self, objects: &BTreeSet<ObjectKey>, kinds: &BTreeSet<String>) -> bool {
        self.0.wants.send_if_modified(|wants| {
            let same = *wants.objects == *objects && *wants.kinds == *kinds;
            if !same {
                *wants = Wants { version: wants.version + 1, objects: Arc::new(objects.clone()), kinds: Arc::new(kinds.clone()) };
            }
            !same
        })
    }

    /// Waits until all that is wanted now was looked for, whatever was found.
    pub(crate) async fn answered(&self) {
        let version = self.0.wants.borrow().version;
        // This has the sender, so it does not end.
        let _ = self.0.answered.subscribe().wait_for(|answered| *answered >= version).await;
    }

    /// What a source follows. It is told the newest only.
    pub fn follow(&self) -> watch::Receiver<Wants> {
        self.0.wants.subscribe()
    }

    /// Says that what was wanted at this version was looked for, and that what was found is reported.
    pub fn answer(&self, version: u64) {
        self.0.answered.send_if_modified(|answered| {
            let newer = version > *answered;
            *answered = version.max(*answered);
            newer
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_wants_something_else_waits_until_that_was_looked_for() {
        let wanted = Wanted::default();
        let mut follow = wanted.follow();
        let (none, kinds) = (BTreeSet::new(), BTreeSet::new());
        assert!(!wanted.want(&none, &kinds), "nothing was wanted before");
        wanted.answered().await;
        let one = BTreeSet::from([ObjectKey::new("Secret", "shop", "tls")]);
        assert!(wanted.want(&one, &kinds) && !wanted.want(&one, &kinds));
        follow.changed().await.expect("told");
        let wants = follow.borrow_and_update().clone();
        assert_eq!((wants.version, &*wants.objects), (1, &one));
        assert!(tokio::time::timeout(Duration::from_millis(5), wanted.answered()).await.is_err());
        wanted.answer(1);
        wanted.answer(0);
        wanted.answered().await;
    }
}
