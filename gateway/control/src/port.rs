//! The key of a service port within control.

use sluicegate_config::plan::PlannedPort;
use sluicegate_model::route::{Protocol, ServiceRef};

/// A service port with its protocol: TCP 53 and UDP 53 of one Service are two.
pub(crate) type PortId = (ServiceRef, Protocol);

/// The key of a planned service port.
pub(crate) fn port_id(port: &PlannedPort) -> PortId {
    (port.service.clone(), port.protocol.forwarded().unwrap_or(Protocol::Tcp))
}
