//! Requests that go round. No endpoint is this gateway's own listener, but one may lead back to it, by an address that cannot be recognized: another proxy's, a
//! load balancer's, a translated one. So each pass adds this gateway's name to `CDN-Loop` (RFC 8586), which nobody on the way removes, and a request that has it
//! too often is answered 508 (RFC 5842 §7.2). `Via` would serve as well, but servers that see it stop compressing (nginx's `gzip_proxied`, IIS).

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use sluicegate_decide::answer::Reason;

pub(in crate::http) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// How often a request may pass. More than once is not a loop yet: a service may ask another one through this gateway, and send on all fields of the request
/// that it answers.
const MOST: usize = 8;

/// This gateway's name, which is random for each process.
static NAME: LazyLock<HeaderValue> = LazyLock::new(|| {
    let name = format!("sluicegate-{:016x}", rand::random::<u64>());
    HeaderValue::from_maybe_shared(Bytes::from(name)).unwrap_or_else(|_| HeaderValue::from_static("sluicegate"))
});

/// What a pass adds.
pub(in crate::http) fn name() -> &'static HeaderValue {
    &NAME
}

/// Adds this pass to those that a request tells of.
pub(in crate::http) fn pass(headers: &mut HeaderMap) -> Result<(), Reason> {
    let own = NAME.as_bytes();
    let infos = |value: &HeaderValue| value.as_bytes().split(|b| *b == b',').filter(|info| id(info) == own).count();
    if headers.get_all(CDN_LOOP).iter().map(infos).sum::<usize>() >= MOST {
        return Err(Reason::Loop);
    }
    // It becomes one field, where there may have been several.
    let mut all: Vec<u8> = headers.get_all(CDN_LOOP).iter().flat_map(|value| [value.as_bytes(), b", "]).flatten().copied().collect();
    all.extend_from_slice(own);
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(all)) {
        headers.insert(CDN_LOOP, value);
    }
    Ok(())
}

/// The id of a `cdn-info`, which ends where its parameters begin (RFC 8586 §2).
fn id(info: &[u8]) -> &[u8] {
    info.split(|b| *b == b';').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn passes_are_counted_whatever_others_add() {
        let mut headers = HeaderMap::new();
        headers.append(CDN_LOOP, HeaderValue::from_static("other.example; v=1, sluicegate-0"));
        headers.append(CDN_LOOP, HeaderValue::from_static("third"));
        for _ in 0..MOST {
            pass(&mut headers).unwrap();
        }
        let told = headers[CDN_LOOP].to_str().unwrap();
        assert!(told.starts_with("other.example; v=1, sluicegate-0, third, sluicegate-") && headers.get_all(CDN_LOOP).iter().count() == 1);
        assert_eq!(pass(&mut headers), Err(Reason::Loop));
        headers.insert(CDN_LOOP, HeaderValue::from_str(&format!("{};x=1,", NAME.to_str().unwrap()).repeat(MOST)).unwrap());
        assert_eq!(pass(&mut headers), Err(Reason::Loop), "with parameters");
    }
}
