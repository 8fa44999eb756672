//! Which index a service port has in snapshots: the same one as long as it lives, so that routers and listeners that lead to it stay as they are
//! when others come and go.

use std::collections::HashMap;

use sluicegate_model::family::IpFamily;
use sluicegate_model::snapshot::ServiceIndex;

use crate::port::PortId;

/// The indices in use, and those that were.
#[derive(Default)]
pub(crate) struct Indices {
    /// The indices of service ports. A dual-stack service port has one for each IP family.
    known: HashMap<PortId, Vec<Used>>,
    /// Indices that are free again.
    free: Vec<ServiceIndex>,
    /// One more than the largest that was ever given.
    next: ServiceIndex,
}

struct Used {
    family: Option<IpFamily>,
    index: ServiceIndex,
}

impl Indices {
    /// The index of a service port, or of one IP family of it.
    pub(crate) fn of(&mut self, port: &PortId, family: Option<IpFamily>) -> ServiceIndex {
        if let Some(used) = self.known.get(port).and_then(|all| all.iter().find(|used| used.family == family)) {
            return used.index;
        }
        let index = self.take();
        self.known.entry(port.clone()).or_default().push(Used { family, index });
        index
    }

    /// An index that nobody has. Whoever takes it [gives it back](Self::give_back).
    pub(crate) fn take(&mut self) -> ServiceIndex {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Frees an index, which others may then get.
    pub(crate) fn give_back(&mut self, index: ServiceIndex) {
        self.free.push(index);
    }

    /// The indices of a service port.
    pub(crate) fn all_of(&self, port: &PortId) -> Vec<ServiceIndex> {
        self.known.get(port).into_iter().flatten().map(|used| used.index).collect()
    }

    /// Takes back the indices of a service port that are not of one of these families, and returns them.
    pub(crate) fn keep(&mut self, port: &PortId, families: &[Option<IpFamily>]) -> Vec<ServiceIndex> {
        let mut gone = Vec::new();
        if let Some(all) = self.known.get_mut(port) {
            gone.extend(all.extract_if(.., |used| !families.contains(&used.family)).map(|used| used.index));
            if all.is_empty() {
                self.known.remove(port);
            }
        }
        self.free.extend(&gone);
        gone
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_model::route::{Protocol, ServiceRef};

    use super::*;

    fn port(name: &str) -> PortId {
        (ServiceRef { namespace: "default".into(), name: name.into(), port: 80 }, Protocol::Tcp)
    }

    #[test]
    fn an_index_is_kept_while_its_service_port_lives_and_then_given_to_another() {
        let mut indices = Indices::default();
        let (a, b) = (indices.of(&port("a"), None), indices.of(&port("b"), Some(IpFamily::V4)));
        let second = indices.of(&port("b"), Some(IpFamily::V6));
        let both = [Some(IpFamily::V4), Some(IpFamily::V6)];
        assert!(indices.keep(&port("a"), &[None]).is_empty() && indices.keep(&port("b"), &both).is_empty());
        assert_eq!(indices.all_of(&port("b")), [b, second]);
        let gone = [indices.keep(&port("a"), &[]), indices.keep(&port("b"), &both[..1])].concat();
        assert_eq!(gone, [a, second]);
        assert_eq!(indices.of(&port("b"), Some(IpFamily::V4)), b, "not moved by what is gone before it");
        let c = indices.of(&port("c"), None);
        assert!(gone.contains(&c), "indices do not grow without end");
        assert!(indices.keep(&port("a"), &[]).is_empty(), "it is gone already");
    }
}
