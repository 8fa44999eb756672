//! `filters[].extensionRef` of HTTPRoutes and GRPCRoutes, which refers to an HTTPRouteFilter of ours.

use serde_json::{Value, json};
use sluicegate_model::plugin::PluginKind;
use sluicegate_model::settings::Rate;

use crate::object::ours::DirectResponseFilter;
use crate::object::{Body, Object};
use crate::plan::compile::Compiler;
use crate::plan::limits::rates;
use crate::plan::{PluginUse, Reason, Refusal};

/// What an HTTPRouteFilter stands for.
pub(super) enum Extension {
    /// It stands for a filter of the plugin `rules`.
    Filter(Value),
    /// It stands for rate limits of the rule, of which the plugin `rules` knows nothing.
    Rates(Vec<Rate>),
    /// It stands for a router that decides in place of the rule, of which the plugin `rules` knows nothing either.
    Router(PluginUse),
}

/// The group of our kinds.
const OURS: &str = "sluicegate.dev";

impl Compiler<'_> {
    /// Finds the filter that a reference means. A route refers to filters of its own namespace only.
    pub(super) fn extension(&mut self, route: &Object, reference: &Value) -> Result<Extension, Refusal> {
        let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or_default();
        let (group, kind, name) = (text("group"), text("kind"), text("name"));
        if (group, kind) != (OURS, "HTTPRouteFilter") {
            return Err(Refusal::new(Reason::InvalidKind, format!("there is no filter {kind} of group {group:?}")));
        }
        let namespace = &route.key.namespace;
        let (object, filter) = match self.object(kind, namespace, name).map(|object| (object, &object.body)) {
            Some((object, Body::HttpRouteFilter(filter))) => (object, filter),
            _ => {
                return Err(Refusal::new(
                    Reason::FilterNotFound,
                    format!("there is no HTTPRouteFilter {name:?} in namespace {namespace:?}"),
                ));
            }
        };
        // Validation makes sure that a filter has exactly one of these fields.
        if let Some(router) = &filter.spec.router {
            let found = self.plugin(object, "spec.router.plugin", &router.plugin, PluginKind::Router, &router.config);
            let missing =
                || Refusal::new(Reason::FilterNotFound, format!("{} names a router {:?} that is not there", object.key, router.plugin));
            return found.map(Extension::Router).ok_or_else(missing);
        }
        Ok(match &filter.spec.direct_response {
            Some(response) => Extension::Filter(direct(response)),
            None => Extension::Rates(rates(filter.spec.rate_limit.as_ref())),
        })
    }
}

fn direct(response: &DirectResponseFilter) -> Value {
    let mut answer = json!({"statusCode": response.status_code.unwrap_or(200)});
    if let Some(body) = &response.body {
        answer["body"] = body.inline.as_str().into();
    }
    if let Some(kind) = &response.content_type {
        answer["contentType"] = kind.as_str().into();
    }
    json!({"type": "DirectResponse", "directResponse": answer})
}
