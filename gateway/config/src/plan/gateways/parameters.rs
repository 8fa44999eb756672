//! `parametersRef` of a Gateway and of its GatewayClass: a GatewayParameters of ours.

use gateway_api::apis::standard::gatewayclasses::GatewayClass;

use super::*;
use crate::object::ours::GatewayParametersSpec;

/// The group of our kinds.
const OURS: &str = "sluicegate.dev";
/// The kind that parameters are of.
const KIND: &str = "GatewayParameters";

/// A `parametersRef`.
pub(super) struct Reference<'r> {
    pub(super) path: &'static str,
    pub(super) group: &'r str,
    pub(super) kind: &'r str,
    pub(super) namespace: Option<&'r str>,
    pub(super) name: &'r str,
}

/// The parameters of a Gateway: its own, and those of its class.
#[derive(Clone, Copy, Default)]
pub(in crate::plan) struct Parameters<'a> {
    own: Option<&'a GatewayParametersSpec>,
    of_class: Option<&'a GatewayParametersSpec>,
}

impl<'a> Parameters<'a> {
    /// All parameters, the Gateway's own first.
    pub(super) fn all(self) -> impl Iterator<Item = &'a GatewayParametersSpec> {
        self.own.into_iter().chain(self.of_class)
    }

    /// The addresses of a Gateway that names none.
    pub(super) fn addresses(self) -> &'a [IpAddr] {
        self.all().map(|parameters| parameters.addresses.as_slice()).find(|addresses| !addresses.is_empty()).unwrap_or_default()
    }
}

/// Finds objects by kind, namespace and name.
struct Found<F>(F);

impl<'a> Compiler<'a> {
    /// The parameters of a Gateway, and whether all that are referred to exist. Missing ones are reported elsewhere.
    pub(super) fn parameters(&self, object: &Object, gateway: &Gateway) -> (Parameters<'a>, Verdict) {
        Found(|kind: &str, namespace: &str, name: &str| self.object(kind, namespace, name)).parameters(object, gateway)
    }

    /// Plans a GatewayClass that this gateway implements: whether its parameters exist.
    pub(in crate::plan) fn gateway_class(&mut self, object: &Arc<Object>, class: &GatewayClass) {
        if class.spec.controller_name != CONTROLLER {
            return;
        }
        let found = Found(|kind: &str, namespace: &str, name: &str| self.object(kind, namespace, name));
        let accepted = found.class_parameters(class).map(drop);
        if let Err(refusal) = &accepted {
            self.part.faults.push(warning(&object.origin, &object.key, "spec.parametersRef", refusal.message.clone(), None));
        }
        self.part.class = Some(Arc::new(PlannedClass { object: object.clone(), accepted }));
    }
}

/// The addresses of a Gateway that names none, by its parameters or those of its class. The list is empty if these do not say.
pub fn default_addresses<'a>(objects: &'a Objects, object: &Object, gateway: &Gateway) -> &'a [IpAddr] {
    Found(|kind: &str, namespace: &str, name: &str| objects.get(kind, namespace, name)).parameters(object, gateway).0.addresses()
}

impl<'a, F: Fn(&str, &str, &str) -> Option<&'a Arc<Object>>> Found<F> {
    fn parameters(&self, object: &Object, gateway: &Gateway) -> (Parameters<'a>, Verdict) {
        let mut parameters = Parameters::default();
        let class = (self.0)("GatewayClass", "", &gateway.spec.gateway_class_name);
        let mut verdict = Ok(());
        if let Some(Body::GatewayClass(class)) = class.map(|class| &class.body) {
            match self.class_parameters(class) {
                Ok(found) => parameters.of_class = found,
                Err(refusal) => {
                    let what = format!("GatewayClass {}: {}", gateway.spec.gateway_class_name, refusal.message);
                    verdict = Err(Refusal::new(Reason::InvalidParameters, what));
                }
            }
        }
        match own(object, gateway).map(|reference| self.parameters_at(&reference)).transpose() {
            Ok(found) => parameters.own = found,
            Err(refusal) => verdict = Err(refusal),
        }
        (parameters, verdict)
    }

    fn class_parameters(&self, class: &GatewayClass) -> Result<Option<&'a GatewayParametersSpec>, Refusal> {
        let Some(given) = &class.spec.parameters_ref else { return Ok(None) };
        let (group, kind, name) = (given.group.as_str(), given.kind.as_str(), given.name.as_str());
        // A reference without a namespace names an object of the whole cluster. No kind of ours has such objects.
        let namespace = given.namespace.as_deref();
        self.parameters_at(&Reference { path: "spec.parametersRef", group, kind, namespace, name }).map(Some)
    }

    fn parameters_at(&self, reference: &Reference<'_>) -> Result<&'a GatewayParametersSpec, Refusal> {
        let Reference { path, group, kind, namespace, name } = *reference;
        let invalid = |what: String| Err(Refusal::new(Reason::InvalidParameters, format!("{path}: {what}")));
        if (group, kind) != (OURS, KIND) {
            return invalid(format!("a {kind} of group {group:?} has no parameters for this gateway, but a {KIND} of group {OURS:?}"));
        }
        let Some(namespace) = namespace else { return invalid(format!("a {KIND} has a namespace")) };
        match (self.0)(KIND, namespace, name).map(|object| &object.body) {
            Some(Body::GatewayParameters(parameters)) => Ok(&parameters.spec),
            _ => invalid(format!("there is no {KIND} {name:?} in namespace {namespace:?}")),
        }
    }
}

/// The `parametersRef` of a Gateway, which names an object in the Gateway's own namespace.
pub(super) fn own<'r>(object: &'r Object, gateway: &'r Gateway) -> Option<Reference<'r>> {
    let given = gateway.spec.infrastructure.as_ref()?.parameters_ref.as_ref()?;
    let (group, kind, name) = (given.group.as_str(), given.kind.as_str(), given.name.as_str());
    Some(Reference { path: "spec.infrastructure.parametersRef", group, kind, namespace: Some(&object.key.namespace), name })
}
