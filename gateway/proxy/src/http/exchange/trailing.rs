//! Which trailers of an exchange go on, either way.

use http::HeaderName;
use sluicegate_model::settings::{ClientSettings, WithUnderscoresAction};
use sluicegate_model::snapshot::{HashKey, ServicePort};

use super::Routed;
use crate::http::rules::trailers::{Pass, Trailers};

/// The trailers of a request. `nominated`: the fields that its `Connection` names (§7.6.1 counts trailers, too).
pub(in crate::http) fn of_request(nominated: Vec<HeaderName>, settings: &ClientSettings, routed: &Routed<'_>) -> Trailers {
    let service = routed.service;
    let pass = match (service.protocol.is_http2(), settings.headers.underscores) {
        (true, WithUnderscoresAction::Allow) => Pass::All,
        (true, _) => Pass::Plain,
        (false, _) if service.settings.request_trailers.is_empty() => return Trailers::default(),
        (false, _) => Pass::Named(service.settings.request_trailers.clone()),
    };
    let mut settled = nominated;
    settled.extend(settings.headers.extras.iter().flat_map(|extras| extras.early.names()).cloned());
    settled.extend(routed.actions().flat_map(|actions| actions.request_headers.names()).cloned());
    settled.extend(routed.names_read().cloned());
    settled.extend(hashed(service).cloned());
    Trailers::new(pass, settled)
}

/// The trailers of a response. `wanted`: its client's version has a place for them, or it has asked for them.
pub(in crate::http) fn of_response(nominated: Vec<HeaderName>, wanted: bool, routed: &Routed<'_>) -> Trailers {
    if !wanted {
        return Trailers::default();
    }
    let mut settled = nominated;
    settled.extend(routed.actions().flat_map(|actions| actions.response_headers.names()).cloned());
    Trailers::new(Pass::All, settled)
}

/// The header field by which an endpoint is chosen.
fn hashed(service: &ServicePort) -> Option<&HeaderName> {
    if let Some(HashKey::Header(name)) = &service.hash { Some(name) } else { None }
}
