//! What each request is asked before anything answers it: for which host it is, who sends it and may do that, and, if it is an order, whether a page of another site
//! could have sent it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sluicegate_model::escape;

use crate::access::{Access, Caller, Role};
use crate::connection::Connection;
use crate::gate::Gate;
use crate::refused::Refused;

/// The field that an order must carry, with any value. A page in a browser cannot send it to another site without asking first (CORS preflight), which is never
/// granted. Without it, any page could give orders to a gateway on its visitor's machine.
const REQUEST: HeaderName = HeaderName::from_static("x-sluicegate-request");

/// Who has sent a request, and what for, as browsers say of each (W3C, Fetch Metadata Request Headers).
const FETCH_SITE: &str = "sec-fetch-site";
const FETCH_MODE: &str = "sec-fetch-mode";

/// What probes and Prometheus ask for, which log in nowhere.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Answers a request if nothing speaks against it.
pub(crate) async fn guarded(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<Connection>().cloned();
    let checked = connection.as_ref().ok_or_else(|| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the request came by no connection"));
    let checked = checked.and_then(|connection| check(&gate, connection, request.method(), request.uri(), request.headers()));
    let mut response = match checked {
        Ok(caller) => {
            if let Some(caller) = caller {
                note(&caller, &request);
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    };
    // What the gateway says is for whoever asked: no cache keeps it, no other site's page frames it, and nothing is taken for another type than it has.
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Logs who gives an order.
fn note(caller: &Caller, request: &Request) {
    if !request.method().is_safe() {
        let (name, path) = (escape::line(&caller.name), escape::line(request.uri().path()));
        tracing::info!(%name, role = caller.role.name(), "the admin API takes an order: {} {path}", request.method());
    }
}

/// Who sends the request, if that makes a difference to what is asked for.
fn check(gate: &Gate, connection: &Connection, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Option<Caller>, Refused> {
    let open = OPEN.contains(&uri.path());
    // Elsewhere than on the loopback they are there for everybody, and Prometheus may know the gateway by any name.
    if connection.is_loopback() || !open {
        host(gate.access(), uri, headers)?;
    }
    sender(method, headers)?;
    let caller = if open || is_page(uri.path()) { None } else { Some(gate.caller(connection, headers)?) };
    if !method.is_safe() {
        if !headers.contains_key(REQUEST) {
            return Err(Refused::new(StatusCode::FORBIDDEN, format!("an order needs the field {REQUEST}, with any value")));
        }
        if caller.as_ref().is_some_and(|caller| caller.role < Role::Operator) {
            return Err(Refused::new(StatusCode::FORBIDDEN, "a viewer gives no orders; log in as an operator"));
        }
    }
    Ok(caller)
}

/// Refuses what a page of another site has sent. It could not read the answer, but have work done. Whoever follows a link from there sees the answer himself.
fn sender(method: &Method, headers: &HeaderMap) -> Result<(), Refused> {
    let is = |name: &str, values: &[&str]| headers.get(name).map(|value| values.iter().any(|known| value.as_bytes() == known.as_bytes()));
    let own = is(FETCH_SITE, &["same-origin", "none"]).unwrap_or(true);
    let followed = method.is_safe() && is(FETCH_MODE, &["navigate"]) == Some(true);
    if own || followed { Ok(()) } else { Err(Refused::new(StatusCode::FORBIDDEN, "a page of another site has sent this request")) }
}

/// Whether it is a file of the page, which tells nothing of this gateway and is where people log in.
fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/page/")
}

/// Checks that the request is for a host that this is. A page of another site can have its own name resolve to this address, and would be of one origin with the
/// admin API then (DNS rebinding); but its requests still name its host.
fn host(access: &Access, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
    let fields = headers.get_all(header::HOST).iter().map(|value| value.to_str().unwrap_or_default());
    let mut asked = fields.chain(uri.authority().map(Authority::as_str));
    match asked.find(|host| !access.is_known(host)) {
        None => Ok(()),
        // RFC 9110 §15.5.20.
        Some(other) => Err(Refused::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!("this is not {:?}; `admin.hosts` has the names by which the admin API may be asked", escape::line(other)),
        )),
    }
}

impl Access {
    /// Whether this is the admin API's host: an address, which no name can be made to stand for, `localhost`, or a name that was configured.
    fn is_known(&self, host: &str) -> bool {
        let Some(authority) = host.parse::<Authority>().ok().filter(|authority| !authority.as_str().contains('@')) else { return false };
        let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        address.parse::<std::net::IpAddr>().is_ok()
            || name == "localhost"
            || self.hosts.iter().any(|known| known.trim_end_matches('.').eq_ignore_ascii_case(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(local: &str, method: &Method, path: &str, fields: &[(&str, &str)]) -> Result<(), u16> {
        let gate = Gate::load(&Access { hosts: vec!["gateway.example".to_owned()], ..Access::default() }).expect("there are no files");
        let local: std::net::SocketAddr = local.parse().expect("an address");
        let connection = Connection { peer: (local.ip(), 4000).into(), local, chain: None };
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), HeaderValue::from_str(value).expect("a value"));
        }
        let uri = path.parse().expect("a URI");
        check(&gate, &connection, method, &uri, &headers).map(|_| ()).map_err(|refused| refused.status.as_u16())
    }

    #[test]
    fn only_known_hosts_are_asked() {
        let host = |host| asked("127.0.0.1:9901", &Method::GET, "/api/v1/services", &[("host", host)]);
        for known in
            ["127.0.0.1:9901", "127.0.0.1", "[::1]:9901", "localhost:1", "LocalHost.", "gateway.example:80", "GATEWAY.example", "10.1.2.3"]
        {
            assert_eq!(host(known), Ok(()), "{known}");
        }
        for other in [
            "evil.example:9901",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "",
            "a b",
            "[::1",
            "x.gateway.example",
        ] {
            assert_eq!(host(other), Err(421), "{other}");
        }
        let get = |local, path, fields: &[(&str, &str)]| asked(local, &Method::GET, path, fields);
        assert_eq!(get("127.0.0.1:9901", "/healthz", &[]), Ok(()), "HTTP/1.0 has no such field");
        assert_eq!(get("127.0.0.1:9901", "http://evil.example/healthz", &[("host", "localhost")]), Err(421));
        assert_eq!(get("127.0.0.1:9901", "/", &[("host", "localhost"), ("host", "evil.example")]), Err(421));
        assert_eq!(get("127.0.0.1:9901", "/metrics", &[("host", "evil.example")]), Err(421));
        assert_eq!(get("10.0.0.1:9901", "/metrics", &[("host", "any.example")]), Ok(()), "Prometheus may know it by any name");
        assert_eq!(get("10.0.0.1:9901", "/api/v1/services", &[("host", "any.example")]), Err(421));
        assert_eq!(get("10.0.0.1:9901", "/api/v1/services", &[("host", "10.0.0.1")]), Err(403), "nobody can log in");
        assert_eq!(get("[::ffff:127.0.0.1]:9901", "/metrics", &[("host", "any.example")]), Err(421), "a socket of IPv6 for both");
    }

    #[test]
    fn other_sites_may_link_here_and_do_nothing_else() {
        for (site, mode, get, post) in [
            ("same-origin", "cors", Ok(()), Ok(())),
            ("none", "navigate", Ok(()), Ok(())),
            ("cross-site", "navigate", Ok(()), Err(403)),
            ("cross-site", "no-cors", Err(403), Err(403)),
            ("same-site", "cors", Err(403), Err(403)),
        ] {
            let fields = [("host", "localhost"), ("sec-fetch-site", site), ("sec-fetch-mode", mode), ("x-sluicegate-request", "1")];
            assert_eq!(asked("127.0.0.1:9901", &Method::GET, "/api/v1/explain", &fields), get, "{site} {mode}");
            assert_eq!(asked("127.0.0.1:9901", &Method::POST, "/api/v1/drain", &fields), post, "{site} {mode}");
        }
    }

    #[test]
    fn an_order_needs_a_field_that_no_other_site_can_send() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let order = |fields: &[(&str, &str)]| asked("127.0.0.1:9901", &method, "/api/v1/plugins/a/reload", fields);
            assert_eq!(order(&[("host", "localhost"), ("content-type", "text/plain")]), Err(403));
            assert_eq!(order(&[("host", "localhost"), ("X-Sluicegate-Request", "1")]), Ok(()));
            assert_eq!(order(&[("host", "evil.example"), ("X-Sluicegate-Request", "1")]), Err(421));
        }
        assert_eq!(
            asked("127.0.0.1:9901", &Method::OPTIONS, "/api/v1/plugins/a/reload", &[]),
            Ok(()),
            "it is answered without a permission"
        );
    }
}
