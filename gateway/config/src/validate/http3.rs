//! Rules of `http3` in `ClientTrafficPolicy`.

use sluicegate_model::fault::Fault;

use crate::object::ours::{ClientHttp3Policy, ClientTrafficPolicySpec};
use crate::object::{Object, error, warning};

pub(super) fn client(object: &Object, spec: &ClientTrafficPolicySpec, faults: &mut Vec<Fault>) {
    let Some(http3) = &spec.http3 else { return };
    if http3.advertised_port == Some(0) {
        let path = "spec.http3.advertisedPort";
        faults.push(error(
            &object.origin,
            &object.key,
            path,
            format!("{path}: Invalid value: 0: must be between 1 and 65535, inclusive"),
            None,
        ));
    }
    if let Some(why) = ClientHttp3Policy::why_not(spec) {
        faults.push(warning(&object.origin, &object.key, "spec.http3", format!("spec.http3 has no effect: {why}"), None));
    }
}
