//! Between control and the orders of certificates (`sluicegate-acme`): control says which names listeners ask for, and is told when something has come of one.

use std::io;
use std::path::Path;
use std::sync::Arc;

use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::tls::Acme;
use sluicegate_model::tls::acme::Ask;
use sluicegate_model::unix::seconds;
use tokio::sync::{Notify, watch};

/// What listeners ask for.
type Asks = Arc<[Arc<Ask>]>;

/// Control's end.
pub struct Link {
    acme: Arc<Acme>,
    asks: watch::Sender<Asks>,
    told: Arc<Notify>,
}

/// The end of whoever makes the orders.
pub struct Desk {
    acme: Arc<Acme>,
    asks: watch::Receiver<Asks>,
    told: Arc<Notify>,
}

/// Both ends, which share what ACME has brought.
pub fn link(acme: Arc<Acme>) -> (Link, Desk) {
    let (sender, receiver) = watch::channel(Asks::default());
    let told = Arc::new(Notify::new());
    (Link { acme: acme.clone(), asks: sender, told: told.clone() }, Desk { acme, asks: receiver, told })
}

impl Link {
    /// What ACME has brought.
    pub(crate) fn acme(&self) -> &Arc<Acme> {
        &self.acme
    }

    /// Says what listeners ask for.
    pub(crate) fn ask(&self, asks: Vec<Arc<Ask>>) {
        self.asks.send_if_modified(|known| {
            let same = known.len() == asks.len() && known.iter().zip(&asks).all(|(a, b)| Arc::ptr_eq(a, b));
            if !same {
                *known = asks.into();
            }
            !same
        });
    }

    /// Waits until something has come of a name.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }

    /// Why names have no certificate, or will have none once the one that they have runs out. Each name is told once.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let now = i64::try_from(seconds()).unwrap_or(i64::MAX);
        let mut seen = std::collections::HashSet::new();
        let asks = self.asks.borrow().clone();
        let names = asks.iter().flat_map(|ask| ask.names.iter().map(move |name| (ask, name)));
        let faults = names.filter_map(|(ask, name)| {
            let named = self.acme.named(&ask.issuer, name)?;
            let problem = named.problem.as_ref().filter(|_| seen.insert((ask.issuer.clone(), name.clone())))?;
            let good = named.certificate.as_ref().is_some_and(|certificate| certificate.not_after() > now);
            let (severity, state) = match &named.certificate {
                Some(_) if good => (Severity::Warning, "its certificate is not renewed"),
                Some(_) => (Severity::Error, "its certificate has run out and is not renewed"),
                None => (Severity::Error, "it has no certificate"),
            };
            let again = problem.again.and_then(|again| jiff::Timestamp::from_second(again).ok());
            Some(Fault {
                severity,
                place: ask.place.clone(),
                object: Some(ask.object.clone()),
                message: format!("{name}: {state}: issuer {:?}: {}: {}", ask.issuer, problem.reason, problem.message),
                expected: again.map(|again| format!("the next order is at {again}")),
            })
        });
        faults.collect()
    }
}

impl Desk {
    /// What ACME has brought.
    pub fn acme(&self) -> &Arc<Acme> {
        &self.acme
    }

    /// Waits until listeners ask for something else. False: control has ended.
    pub async fn changed(&mut self) -> bool {
        self.asks.changed().await.is_ok()
    }

    /// What listeners ask for.
    pub fn asks(&self) -> Arc<[Arc<Ask>]> {
        self.asks.borrow().clone()
    }

    /// Says that something has come of a name.
    pub fn tell(&self) {
        self.told.notify_one();
    }
}

/// Reads a file that the configuration names, of at most `most` bytes.
///
/// # Errors
/// The file system gives an error, it is not a regular file, or it is larger.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    crate::regular::read(path, most).map(|(bytes, _)| bytes)
}
