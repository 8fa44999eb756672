//! Places for connections to a service port and to an endpoint, over all workers. Where a policy limits nothing, nothing is counted.

use std::sync::Arc;

use sluicegate_model::slots::{Slot, Slots};
use sluicegate_model::snapshot::ServicePort;

use super::decider::Picked;

/// The places that a connection to an endpoint takes, until it is closed.
pub(crate) struct Places {
    pub(crate) service: Option<Slot>,
    pub(crate) endpoint: Option<Slot>,
}

impl Places {
    /// Whether somebody waits for one of them.
    pub(crate) fn is_wanted(&self) -> bool {
        [&self.service, &self.endpoint].into_iter().flatten().any(|slot| slot.of().waiting() > 0)
    }

    /// Whether one of them is of these slots.
    pub(crate) fn is_of(&self, slots: &Arc<Slots>) -> bool {
        self.service.as_ref().is_some_and(|slot| Arc::ptr_eq(slot.of(), slots))
    }
}

/// What has no place for another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Service,
    Endpoint,
}

/// Takes places for another connection; none: nothing limits them.
pub(crate) fn connection(service: &ServicePort, to: &Picked) -> Result<Option<Box<Places>>, Full> {
    let breaker = &service.settings.breaker;
    if breaker.connections.is_none() && breaker.endpoint_connections.is_none() {
        return Ok(None);
    }
    let take = |most: Option<u32>, slots: &Arc<Slots>, full| most.map(|most| slots.take(most).ok_or(full)).transpose();
    let endpoint = take(breaker.endpoint_connections, &to.stats.connections, Full::Endpoint)?;
    let service = take(breaker.connections, &service.stats.load.connections, Full::Service)?;
    Ok(Some(Box::new(Places { service, endpoint })))
}
