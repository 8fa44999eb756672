//! What tells one request from all others: `X-Request-Id`, and the `traceparent` of W3C Trace Context.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt as _;
use sluicegate_model::settings::RequestIdAction;
use sluicegate_model::trace_context::TraceContext;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The longest `X-Request-Id` that is kept.
const MOST_ID: usize = 128;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Sets `X-Request-Id`. `trusted`: the one that is there comes from a trusted proxy.
pub(in crate::http) fn request_id(headers: &mut HeaderMap, action: RequestIdAction, trusted: bool) {
    let keep = match action {
        RequestIdAction::Disable => return,
        RequestIdAction::Generate => false,
        RequestIdAction::Preserve | RequestIdAction::PreserveOrGenerate => trusted,
    };
    let mut known = headers.get_all(&X_REQUEST_ID).iter();
    let known = known.next().filter(|_| keep && known.next().is_none());
    if known.is_some_and(|id| !id.is_empty() && id.len() <= MOST_ID && id.as_bytes().iter().all(u8::is_ascii_graphic)) {
        return;
    }
    if action == RequestIdAction::Preserve {
        headers.remove(&X_REQUEST_ID);
    } else if let Ok(id) = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&uuid(rand::rng().random()))) {
        headers.insert(X_REQUEST_ID, id);
    }
}

/// A random UUID (RFC 9562 §5.4) as text.
fn uuid(random: u128) -> [u8; 36] {
    let number = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let mut text = [b'-'; 36];
    let places = (0..36).filter(|at| !matches!(at, 8 | 13 | 18 | 23));
    for (digit, at) in places.enumerate() {
        text[at] = HEX[(number >> (124 - 4 * digit)) as usize & 0xf];
    }
    text
}

/// Begins a trace if there is none, or none that can be read; so many of 100 are marked as sampled. None: no trace is wanted.
pub(in crate::http) fn trace(headers: &mut HeaderMap, percent: Option<u32>) {
    let Some(percent) = percent else { return };
    let mut known = headers.get_all(&TRACEPARENT).iter();
    let known = known.next().filter(|_| known.next().is_none());
    if known.is_some_and(|value| TraceContext::parse(value.as_bytes()).is_some()) {
        return;
    }
    // Trace Context §2.4, §3.3: the state belongs to the trace that is gone.
    headers.remove(&TRACESTATE);
    let mut random = rand::rng();
    let (trace, span) = (random.random::<u128>().max(1), random.random::<u64>().max(1));
    let sampled = random.random_range(0..100) < percent;
    if let Ok(value) = HeaderValue::from_bytes(&TraceContext { trace, span, sampled }.text()) {
        headers.insert(TRACEPARENT, value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn uuids_say_their_version_and_variant() {
        assert_eq!(&uuid(0), b"00000000-0000-4000-8000-000000000000");
        assert_eq!(&uuid(u128::MAX), b"ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(&uuid(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef), b"01234567-89ab-4def-8123-456789abcdef");
    }

    #[test]
    fn request_ids_are_kept_from_those_who_may_give_them() {
        use RequestIdAction::*;
        let given = |action, trusted, id: &str| {
            let mut headers = HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_str(id).unwrap())]);
            request_id(&mut headers, action, trusted);
            headers.get(X_REQUEST_ID).map(|id| id.to_str().unwrap().to_owned())
        };
        let kept = Some("abc".to_owned());
        assert_eq!(given(Disable, false, "abc"), kept);
        assert_eq!(given(Preserve, true, "abc"), kept);
        assert_eq!(given(Preserve, false, "abc"), None);
        assert_eq!(given(PreserveOrGenerate, true, "abc"), kept);
        for (action, trusted, id) in
            [(PreserveOrGenerate, false, "abc"), (Generate, true, "abc"), (PreserveOrGenerate, true, "a b"), (Generate, true, "")]
        {
            assert_eq!(given(action, trusted, id).unwrap().len(), 36, "{action:?} {id}");
        }
        assert_eq!(given(PreserveOrGenerate, true, &"x".repeat(129)).unwrap().len(), 36);
        let mut none = HeaderMap::new();
        request_id(&mut none, Preserve, true);
        assert!(none.is_empty());
    }

    #[test]
    fn a_trace_begins_only_where_there_is_none() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let traced = |parents: &[&str], percent| {
            let mut headers = HeaderMap::from_iter([(TRACESTATE, HeaderValue::from_static("a=1"))]);
            for parent in parents {
                headers.append(TRACEPARENT, HeaderValue::from_str(parent).unwrap());
            }
            trace(&mut headers, percent);
            let values: Vec<_> = headers.get_all(TRACEPARENT).iter().map(|v| v.to_str().unwrap().to_owned()).collect();
            (values.join("|"), headers.contains_key(TRACESTATE))
        };
        assert_eq!(traced(&[good], Some(100)), (good.to_owned(), true));
        assert_eq!(traced(&["bad"], None), ("bad".to_owned(), true));
        for parents in [&[][..], &["bad"], &[good, good]] {
            let (made, state) = traced(parents, Some(100));
            assert!(TraceContext::parse(made.as_bytes()).is_some() && made.ends_with("-01") && !made.contains(good) && !state, "{made}");
        }
        assert!(traced(&[], Some(0)).0.ends_with("-00"));
    }
}
