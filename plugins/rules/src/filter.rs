//! Checks filters, and converts them into those that the host carries out.

use sluicegate_rule_values as values;
use sluicegate_sdk as sdk;

use crate::config::{
    Cors, DirectResponse, Filter, FilterType, HeaderModifier, HeaderValue, PathModifier, PathModifierType, RequestMirror, RequestRedirect,
    ServiceRef, UrlRewrite,
};
use crate::faults::Faults;

/// The number of filters that a rule or backend may have, as HTTPRoute allows.
const MOST_FILTERS: usize = 16;
const LONGEST_BODY: usize = 64 << 10;

/// The filters of a rule or backend, converted.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    pub(crate) filters: Vec<sdk::Filter>,
    /// The place of the filter that answers without a backend, if there is one.
    pub(crate) answers: Option<String>,
    /// The place of the filter that replaces the matched prefix, if there is one. It needs matches by prefix.
    pub(crate) replaces_prefix: Option<String>,
}

/// What the filters belong to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Owner {
    Rule,
    Backend,
}

/// Checks the filters at `place` and converts them. Filters with faults are left out.
pub(crate) fn convert(place: &str, filters: &[Filter], owner: Owner, faults: &mut Faults) -> Filters {
    let mut out = Filters::default();
    if filters.len() > MOST_FILTERS {
        faults.add(place, format!("must have at most {MOST_FILTERS} items"));
        return out;
    }
    for (i, filter) in filters.iter().enumerate() {
        let place = format!("{place}[{i}]");
        let kind = filter.kind;
        if kind != FilterType::RequestMirror && filters[..i].iter().any(|earlier| earlier.kind == kind) {
            faults.add(format_args!("{place}.type"), "stands here twice; only mirrors may be repeated");
        }
        let answers = matches!(kind, FilterType::RequestRedirect | FilterType::DirectResponse);
        if owner == Owner::Backend && (answers || kind == FilterType::Cors) {
            faults.add(format_args!("{place}.type"), "is settled before a backend is chosen: put the filter on the rule");
        }
        if answers {
            if let Some(other) = &out.answers {
                faults.add(format_args!("{place}.type"), format!("{other} answers already"));
            }
            out.answers = Some(place.clone());
        }
        out.filters.extend(convert_one(&place, filter, &mut out.replaces_prefix, faults));
    }
    let rewrites = filters.iter().position(|filter| filter.kind == FilterType::UrlRewrite);
    if let (Some(i), Some(answers)) = (rewrites, &out.answers) {
        faults.add(format_args!("{place}[{i}].type"), format!("nothing is forwarded that could be rewritten: {answers} answers"));
    }
    out
}

fn convert_one(place: &str, filter: &Filter, replaces_prefix: &mut Option<String>, faults: &mut Faults) -> Option<sdk::Filter> {
    let fields = [
        ("requestHeaderModifier", FilterType::RequestHeaderModifier, filter.request_header_modifier.is_some()),
        ("responseHeaderModifier", FilterType::ResponseHeaderModifier, filter.response_header_modifier.is_some()),
        ("requestRedirect", FilterType::RequestRedirect, filter.request_redirect.is_some()),
        ("urlRewrite", FilterType::UrlRewrite, filter.url_rewrite.is_some()),
        ("requestMirror", FilterType::RequestMirror, filter.request_mirror.is_some()),
        ("cors", FilterType::Cors, filter.cors.is_some()),
        ("directResponse", FilterType::DirectResponse, filter.direct_response.is_some()),
    ];
    let mut own = place.to_owned();
    for (name, kind, set) in fields {
        match (kind == filter.kind, set) {
            (true, false) => faults.add(format_args!("{place}.{name}"), "must be set, as the filter's type says"),
            (false, true) => faults.add(format_args!("{place}.{name}"), "must be absent: the filter's type says otherwise"),
            (true, true) => own = format!("{place}.{name}"),
            (false, false) => {}
        }
    }
    match filter.kind {
        FilterType::RequestHeaderModifier => {
            Some(sdk::Filter::RequestHeaders(header_changes(&own, filter.request_header_modifier.as_ref()?, faults)))
        }
        FilterType::ResponseHeaderModifier => {
            Some(sdk::Filter::ResponseHeaders(header_changes(&own, filter.response_header_modifier.as_ref()?, faults)))
        }
        FilterType::RequestRedirect => {
            let to = filter.request_redirect.as_ref()?;
            Some(sdk::Filter::Redirect(redirect(&own, to, replaces_prefix, faults)))
        }
        FilterType::UrlRewrite => {
            let UrlRewrite { hostname, path } = filter.url_rewrite.as_ref()?;
            let hostname = precise_hostname(&own, hostname.as_deref(), faults);
            let path = path_rewrite(&own, path.as_ref(), replaces_prefix, faults);
            Some(sdk::Filter::Rewrite(sdk::Rewrite { hostname, path }))
        }
        FilterType::RequestMirror => Some(sdk::Filter::Mirror(mirror(&own, filter.request_mirror.as_ref()?, faults))),
        FilterType::Cors => Some(sdk::Filter::Cors(cors(&own, filter.cors.as_ref()?, faults))),
        FilterType::DirectResponse => Some(sdk::Filter::Answer(answer(&own, filter.direct_response.as_ref()?, faults))),
    }
}

fn header_changes(place: &str, modifier: &HeaderModifier, faults: &mut Faults) -> sdk::HeaderChanges {
    let mut headers = |field: &str, values: &[HeaderValue]| {
        let mut out = Vec::new();
        for (i, HeaderValue { name, value }) in values.iter().enumerate() {
            let name = faults.take(format_args!("{place}.{field}[{i}].name"), values::changeable_header_name(name));
            let value = faults.take(format_args!("{place}.{field}[{i}].value"), values::header_value(value));
            out.extend(name.zip(value).map(|(name, value)| sdk::Header { name, value }));
        }
        out
    };
    let set = headers("set", &modifier.set);
    let add = headers("add", &modifier.add);
    let mut remove = Vec::new();
    for (i, name) in modifier.remove.iter().enumerate() {
        remove.extend(faults.take(format_args!("{place}.remove[{i}]"), values::changeable_header_name(name)));
    }
    sdk::HeaderChanges { set, add, remove }
}

fn precise_hostname(place: &str, hostname: Option<&str>, faults: &mut Faults) -> Option<String> {
    faults.take(format_args!("{place}.hostname"), values::precise_hostname(hostname?))
}

fn redirect(place: &str, to: &RequestRedirect, replaces_prefix: &mut Option<String>, faults: &mut Faults) -> sdk::Redirect {
    if to.scheme.as_deref().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        faults.add(format_args!("{place}.scheme"), "must be http or https");
    }
    let status = to.status_code.unwrap_or(302);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        faults.add(format_args!("{place}.statusCode"), format!("{status} must be 301, 302, 303, 307 or 308"));
    }
    sdk::Redirect {
        scheme: to.scheme.clone(),
        hostname: precise_hostname(place, to.hostname.as_deref(), faults),
        path: path_rewrite(place, to.path.as_ref(), replaces_prefix, faults),
        port: to.port.and_then(|port| faults.take(format_args!("{place}.port"), values::port(port))),
        status,
    }
}

fn path_rewrite(
    place: &str,
    path: Option<&PathModifier>,
    replaces_prefix: &mut Option<String>,
    faults: &mut Faults,
) -> Option<sdk::PathRewrite> {
    let PathModifier { kind, replace_full_path, replace_prefix_match } = path?;
    let (wanted, new, other, stray) = match kind {
        PathModifierType::ReplaceFullPath => ("replaceFullPath", replace_full_path, "replacePrefixMatch", replace_prefix_match),
        PathModifierType::ReplacePrefixMatch => ("replacePrefixMatch", replace_prefix_match, "replaceFullPath", replace_full_path),
    };
    if stray.is_some() {
        faults.add(format_args!("{place}.path.{other}"), "must be absent: the type says otherwise");
    }
    let Some(new) = new else {
        faults.add(format_args!("{place}.path.{wanted}"), "must be set, as the type says");
        return None;
    };
    match kind {
        PathModifierType::ReplaceFullPath => {
            faults.take(format_args!("{place}.path.{wanted}"), values::new_path(new))?;
            Some(sdk::PathRewrite::Full(new.clone()))
        }
        PathModifierType::ReplacePrefixMatch => {
            *replaces_prefix = Some(format!("{place}.path.{wanted}"));
            // HTTPRoute allows that the prefix is replaced by the empty text.
            if !new.is_empty() {
                faults.take(format_args!("{place}.path.{wanted}"), values::new_path(new))?;
            }
            Some(sdk::PathRewrite::Prefix(new.clone()))
        }
    }
}

/// Checks a reference to a service port. That of a `Backend` is called `NAME.backend`.
pub(crate) fn service(place: &str, to: &ServiceRef, faults: &mut Faults) -> sdk::ServiceRef {
    let name = match (to.group.as_deref().unwrap_or_default(), to.kind.as_deref().unwrap_or("Service")) {
        ("sluicegate.dev", "Backend") => {
            faults.take(format_args!("{place}.name"), values::backend_name(&to.name));
            format!("{}.backend", to.name)
        }
        (group, kind) => {
            if !group.is_empty() {
                faults.add(format_args!("{place}.group"), "must be empty, or sluicegate.dev for a Backend");
            }
            if kind != "Service" {
                faults.add(format_args!("{place}.kind"), "must be Service, or Backend of group sluicegate.dev");
            }
            faults.take(format_args!("{place}.name"), values::object_name(&to.name));
            to.name.clone()
        }
    };
    if let Some(namespace) = &to.namespace {
        faults.take(format_args!("{place}.namespace"), values::object_name(namespace));
    }
    faults.take(format_args!("{place}.port"), values::port(to.port));
    sdk::ServiceRef { namespace: to.namespace.clone(), name, port: to.port }
}

fn mirror(place: &str, mirror: &RequestMirror, faults: &mut Faults) -> sdk::Mirror {
    let (numerator, denominator) = match (mirror.percent, &mirror.fraction) {
        (None, None) => (1, 1),
        (Some(percent), None) => {
            if percent > 100 {
                faults.add(format_args!("{place}.percent"), format!("{percent} must be between 0 and 100, inclusive"));
            }
            (percent, 100)
        }
        (None, Some(fraction)) => {
            let denominator = fraction.denominator.unwrap_or(100);
            if denominator == 0 {
                faults.add(format_args!("{place}.fraction.denominator"), "must be at least 1");
            } else if fraction.numerator > denominator {
                faults.add(format_args!("{place}.fraction.numerator"), format!("must be at most the denominator, {denominator}"));
            }
            (fraction.numerator, denominator)
        }
        (Some(_), Some(_)) => {
            faults.add(format_args!("{place}.fraction"), "must be absent when percent is set");
            (1, 1)
        }
    };
    let backend = service(&format!("{place}.backendRef"), &mirror.backend_ref, faults);
    sdk::Mirror { backend, numerator, denominator }
}

fn cors(place: &str, cors: &Cors, faults: &mut Faults) -> sdk::Cors {
    let mut list = |field: &str, values: &[String], check: &dyn Fn(&str) -> Result<(), String>| {
        for (i, value) in values.iter().enumerate() {
            if value != "*" {
                faults.take(format_args!("{place}.{field}[{i}]"), check(value));
            } else if values.len() > 1 {
                faults.add(format_args!("{place}.{field}[{i}]"), "`*` must stand alone");
            }
        }
        values.to_vec()
    };
    let header = |name: &str| values::header_name(name).map(drop);
    let allow_origins = list("allowOrigins", &cors.allow_origins, &values::origin);
    let allow_methods = list("allowMethods", &cors.allow_methods, &|method| values::method(method).map(drop));
    let allow_headers = list("allowHeaders", &cors.allow_headers, &header);
    let expose_headers = list("exposeHeaders", &cors.expose_headers, &header);
    if cors.max_age == Some(0) {
        faults.add(format_args!("{place}.maxAge"), "must be at least 1");
    }
    sdk::Cors {
        allow_origins,
        allow_methods,
        allow_headers,
        expose_headers,
        allow_credentials: cors.allow_credentials.unwrap_or(false),
        // This is HTTPRoute's default.
        max_age_seconds: cors.max_age.unwrap_or(5),
    }
}

fn answer(place: &str, response: &DirectResponse, faults: &mut Faults) -> sdk::Answer {
    let DirectResponse { status_code: status, body, content_type } = response;
    if !(200..=599).contains(status) {
        faults.add(format_args!("{place}.statusCode"), format!("{status} must be between 200 and 599, inclusive"));
    }
    if body.len() > LONGEST_BODY {
        faults.add(format_args!("{place}.body"), format!("must be at most {LONGEST_BODY} bytes"));
    }
    // Responses of these statuses have no content (RFC 9110 §6.4.1).
    if matches!(status, 204 | 205 | 304) && !body.is_empty() {
        faults.add(format_args!("{place}.body"), format!("must be empty: an answer with status {status} has no content"));
    }
    let content_type = match content_type {
        Some(value) => faults.take(format_args!("{place}.contentType"), values::header_value(value)),
        None if body.is_empty() => None,
        None => Some("text/plain; charset=utf-8".to_owned()),
    };
    let headers = content_type.map(|value| sdk::Header::new("content-type", value)).into_iter().collect();
    sdk::Answer { status: *status, headers, body: body.clone() }
}
