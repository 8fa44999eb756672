//! What a gRPC call is (grpc.io, "gRPC over HTTP2").

use http::{HeaderMap, header};

/// Whether a request is a gRPC call: its content is `application/grpc`, with or without a message format. gRPC-Web is not.
pub fn is_call(headers: &HeaderMap) -> bool {
    let rest = headers.get(header::CONTENT_TYPE).and_then(|v| v.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn calls_are_told_by_their_content_type() {
        let call = |text: &'static str| is_call(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(text))]));
        assert!(call("application/grpc") && call("application/grpc+proto") && call("application/grpc;x=y"));
        assert!(!call("application/grpc-web") && !call("application/json") && !is_call(&HeaderMap::new()));
    }
}
