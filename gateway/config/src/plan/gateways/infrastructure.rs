//! `spec.infrastructure` of a Gateway.

use super::*;

impl Compiler<'_> {
    /// Labels and annotations are for objects that are made for a Gateway, and none are: who sets them is told so.
    pub(super) fn infrastructure(&mut self, object: &Object, gateway: &Gateway) {
        let Some(infrastructure) = &gateway.spec.infrastructure else { return };
        for (field, given) in [("labels", &infrastructure.labels), ("annotations", &infrastructure.annotations)] {
            if given.as_ref().is_some_and(|given| !given.is_empty()) {
                let path = format!("spec.infrastructure.{field}");
                let message = format!("{path} has no effect: no object is made for a Gateway that could have them");
                self.part.faults.push(warning(&object.origin, &object.key, &path, message, None));
            }
        }
    }
}
