//! The settings that policies make for client addresses, header fields and paths. Objects that validation has refused do not come here.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use sluicegate_model::route::HeaderChanges;
use sluicegate_model::settings::{HeaderExtras, HeaderSettings, PathSettings, Trust, Via};

use crate::object::ours::{BackendTrafficPolicySpec, ClientTrafficPolicySpec, HeaderField, HeaderFilter};

pub(super) fn trust(spec: &ClientTrafficPolicySpec) -> Trust {
    let Some(given) = &spec.client_ip_detection.x_forwarded_for else { return Trust::Nobody };
    match (given.num_trusted_hops, &given.trusted_cidrs) {
        (Some(hops @ 1..), _) => Trust::Hops(hops as usize),
        (_, Some(networks)) if !networks.is_empty() => Trust::Networks(networks.clone()),
        _ => Trust::Nobody,
    }
}

pub(super) fn headers(spec: &ClientTrafficPolicySpec) -> HeaderSettings {
    let given = &spec.headers;
    let via = given.via.as_ref().and_then(|pseudonym| {
        Some(Via { pseudonym: pseudonym.clone(), element: HeaderValue::from_str(&format!("1.1 {pseudonym}")).ok()? })
    });
    let extras = HeaderExtras {
        early: given.early_request_headers.as_ref().map(changes).unwrap_or_default(),
        forwarded: given.forwarded,
        via,
        request_id: given.request_id,
        trace: given.trace_context.as_ref().map(|trace| trace.sampling_rate.unwrap_or(100)),
    };
    HeaderSettings {
        underscores: given.with_underscores_action,
        preserve_case: given.preserve_case,
        extras: (extras != HeaderExtras::default()).then(|| Box::new(extras)),
    }
}

fn changes(filter: &HeaderFilter) -> HeaderChanges {
    let fields = |list: &[HeaderField]| {
        list.iter().filter_map(|f| Some((f.name.parse().ok()?, HeaderValue::from_str(&f.value).ok()?))).collect::<Vec<_>>()
    };
    let remove = filter.remove.iter().filter_map(|name| name.parse::<HeaderName>().ok()).collect();
    HeaderChanges { set: fields(&filter.set), add: fields(&filter.add), remove }
}

pub(super) fn path(spec: &ClientTrafficPolicySpec) -> PathSettings {
    let given = &spec.path;
    PathSettings {
        escaped: given.escaped_slashes_action,
        merge: !given.disable_merge_slashes,
        parameters: given.parameters_action,
        reserved: given.escaped_reserved_action,
    }
}

pub(super) fn request_trailers(spec: &BackendTrafficPolicySpec) -> Arc<[HeaderName]> {
    spec.trailers.request.allow.iter().filter_map(|name| name.parse().ok()).collect()
}
