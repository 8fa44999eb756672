//! The status of a Backend.

use serde_json::{Value, json};

use super::{Condition, generation};
use crate::plan::{PlannedEndpointTls, PlannedService, Reason};

pub(super) fn status(backend: &PlannedService) -> Value {
    let generation = generation(&backend.object);
    let broken = backend.ports.iter().any(|port| port.tls == PlannedEndpointTls::Broken);
    let accepted = if broken {
        let what = "what spec.tls refers to cannot be used: nothing is sent to its endpoints";
        Condition::new("Accepted", false, Reason::Invalid, what, generation)
    } else {
        Condition::new("Accepted", true, Reason::Accepted, "", generation)
    };
    json!({"conditions": [accepted]})
}
