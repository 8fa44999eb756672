//! `spec.infrastructure` of a Gateway.

use super::*;

impl Compiler<'_> {
    /// Labels and annotations are for objects that are made for a Gateway, and none are: who sets them is told so.
    pub(super) fn infrastructure(&mut self, object: &Object, gateway: &Gateway) -> Verdict {
        let Some(infrastructure) = &gateway.spec.infrastructure else { return Ok(()) };
        for (field, given) in [("labels", &infrastructure.labels), ("annotations", &infrastructure.annotations)] {
            if given.as_ref().is_some_and(|given| !given.is_empty()) {
                let path = format!("spec.infrastructure.{field}");
                let message = format!("{path} has no effect: no object is made for a Gateway that could have them");
                self.part.faults.push(warning(&object.origin, &object.key, &path, message, None));
            }
        }
        let Some(parameters) = &infrastructure.parameters_ref else { return Ok(()) };
        let path = "spec.infrastructure.parametersRef";
        let what = format!("{path}: a {} of group {:?} has no parameters for this gateway", parameters.kind, parameters.group);
        let hint = "a ClientTrafficPolicy that targets the Gateway";
        self.part.faults.push(warning(&object.origin, &object.key, path, what.clone(), Some(hint.to_owned())));
        Err(Refusal::new("InvalidParameters", what))
    }
}
