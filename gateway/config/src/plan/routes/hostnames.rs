//! Host names that a listener and a route have in common (Gateway API, `HTTPRoute.spec.hostnames`).

use std::sync::Arc;

/// The host names that a listener and a route have in common, in lower case. An empty list means every host. `None`: they have nothing in common.
pub(super) fn intersection(listener: Option<&str>, route: &Arc<[String]>) -> Option<Arc<[String]>> {
    let Some(listener) = listener.filter(|hostname| !hostname.is_empty()) else { return Some(route.clone()) };
    if route.is_empty() {
        return Some([listener.to_owned()].into());
    }
    let mut common: Vec<String> = route.iter().filter_map(|hostname| narrower(listener, hostname)).map(str::to_owned).collect();
    common.sort_unstable();
    common.dedup();
    (!common.is_empty()).then(|| common.into())
}

/// Whether two routes have host names in common. An empty list means every host.
pub(super) fn overlap(a: &[String], b: &[String]) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|a| b.iter().any(|b| narrower(a, b).is_some()))
}

/// The more specific of two names, if the other one covers it.
fn narrower<'n>(a: &'n str, b: &'n str) -> Option<&'n str> {
    if a == b || within(a, b) {
        Some(a)
    } else if within(b, a) {
        Some(b)
    } else {
        None
    }
}

/// Whether a wildcard covers a name, which may be a wildcard itself: the name has at least one label more.
fn within(name: &str, wildcard: &str) -> bool {
    wildcard.strip_prefix('*').is_some_and(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(listener: &str, route: &[&str]) -> Option<Vec<String>> {
        intersection(Some(listener), &route.iter().map(|name| (*name).to_owned()).collect()).map(|common| common.to_vec())
    }

    #[test]
    fn a_listener_and_a_route_serve_what_both_name() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(common("", &["a.com"]), names(&["a.com"]));
        assert_eq!(common("", &[]), names(&[]));
        assert_eq!(common("a.com", &[]), names(&["a.com"]));
        assert_eq!(common("very.specific.com", &["non.matching.com", "*.specific.com"]), names(&["very.specific.com"]));
        assert_eq!(
            common("*.wildcard.io", &["wildcard.io", "foo.wildcard.io", "a.b.wildcard.io"]),
            names(&["a.b.wildcard.io", "foo.wildcard.io"])
        );
        assert_eq!(common("*.a.io", &["*.b.a.io"]), names(&["*.b.a.io"]));
        assert_eq!(common("*.b.a.io", &["*.a.io"]), names(&["*.b.a.io"]));
        assert_eq!(common("*.a.io", &["*.a.io"]), names(&["*.a.io"]));
        assert_eq!(common("*.a.io", &["a.io", "*.io.a", "xa.io"]), None);
        assert_eq!(common("a.com", &["b.com"]), None);
    }

    #[test]
    fn routes_overlap_where_some_host_is_both_routes() {
        let both = |a: &[&str], b: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            assert_eq!(overlap(&names(a), &names(b)), overlap(&names(b), &names(a)));
            overlap(&names(a), &names(b))
        };
        assert!(both(&[], &[]) && both(&[], &["a.com"]) && both(&["b.com", "a.com"], &["a.com"]));
        assert!(both(&["*.a.com"], &["b.a.com"]) && both(&["*.a.com"], &["*.b.a.com"]));
        assert!(!both(&["a.com"], &["b.com"]) && !both(&["*.a.com"], &["a.com"]) && !both(&["*.a.com"], &["*.b.com"]));
    }
}
