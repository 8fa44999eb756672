//! Methods that are not forwarded.

use http::header::MAX_FORWARDS;
use http::{HeaderValue, Method, Request, StatusCode};

use crate::answer::{LocalReply, Reason, Why, empty};

/// Refuses CONNECT, which would open a tunnel to wherever the client likes.
///
/// # Errors
/// The method is refused.
pub fn check<B>(request: &Request<B>) -> Result<(), Reason> {
    if request.method() == Method::CONNECT { Err(Reason::Connect) } else { Ok(()) }
}

/// Whether [`last_hop`] looks at requests of this method.
pub fn ends_hops(method: &Method) -> bool {
    matches!(*method, Method::OPTIONS | Method::TRACE)
}

/// Follows `Max-Forwards` (RFC 9110 §7.6.2): if it is 0, the request has arrived. TRACE would show a script its own cookies, so no endpoint is asked for it.
///
/// # Errors
/// The request is answered here.
pub fn last_hop<B>(request: &mut Request<B>) -> Result<(), Box<LocalReply>> {
    if !ends_hops(request.method()) {
        return Ok(());
    }
    if request.method() == Method::TRACE {
        return Err(Reason::Trace.into());
    }
    let Some(left) = request.headers().get(MAX_FORWARDS) else { return Ok(()) };
    match left.to_str().ok().and_then(|left| left.parse::<u64>().ok()) {
        Some(0) => Err(LocalReply::new(Why::Direct, empty(StatusCode::NO_CONTENT))),
        Some(left) => {
            request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from(left - 1));
            Ok(())
        }
        // It is not a number that could be counted down.
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_counted_down() {
        let mut options = Request::options("/").header("max-forwards", "2").body(()).unwrap();
        assert!(last_hop(&mut options).is_ok());
        assert_eq!(options.headers()["max-forwards"], "1");
        options.headers_mut().insert(MAX_FORWARDS, HeaderValue::from_static("0"));
        assert_eq!(last_hop(&mut options).err().map(|own| own.response.status()), Some(StatusCode::NO_CONTENT));
        let trace = last_hop(&mut Request::trace("/").body(()).unwrap());
        assert_eq!(trace.err().map(|own| own.why), Some(Why::Reason(Reason::Trace)));
    }
}
