//! Rules of `http2` and `httpUpgrade` in the traffic policies.

use sluicegate_model::fault::Fault;

use crate::object::ours::{BackendTrafficPolicySpec, Bytes, ClientHttp2Policy};
use crate::object::{Object, error};

/// A window is at most this (RFC 9113 §6.9.1).
const LARGEST_WINDOW: usize = (1 << 31) - 1;
/// A window is at least what every connection begins with (RFC 9113 §6.9.2): a smaller one could not carry a frame.
const SMALLEST_WINDOW: usize = (1 << 16) - 1;

pub(super) fn client(object: &Object, http2: &ClientHttp2Policy, faults: &mut Vec<Fault>) {
    let windows = [http2.initial_stream_window_size, http2.initial_connection_window_size];
    check(object, http2.max_concurrent_streams, windows, faults);
}

pub(super) fn backend(object: &Object, spec: &BackendTrafficPolicySpec, faults: &mut Vec<Fault>) {
    let http2 = &spec.http2;
    let windows = [http2.initial_stream_window_size, http2.initial_connection_window_size];
    check(object, http2.max_concurrent_streams, windows, faults);
    let keepalive = &http2.connection_keepalive;
    for (field, span) in [("interval", keepalive.interval), ("timeout", keepalive.timeout)] {
        if span.is_some_and(|s| s.0.is_zero()) {
            invalid(object, &format!("spec.http2.connectionKeepalive.{field}"), "must be greater than 0", None, faults);
        }
    }
    for (i, upgrade) in spec.http_upgrade.iter().flatten().enumerate() {
        let path = format!("spec.httpUpgrade[{i}].type");
        let name = &upgrade.r#type;
        // Another HTTP inside would pass unseen: that is how requests are smuggled, and RFC 9113 §3.1 has dropped it.
        if name.to_ascii_lowercase().starts_with("h2c") || name.to_ascii_lowercase().starts_with("http") {
            invalid(object, &path, &format!("Invalid value: {name:?}: HTTP is not tunnelled in HTTP"), None, faults);
        } else if !token(name) {
            let hint = Some("a protocol's name, such as \"websocket\"".to_owned());
            invalid(object, &path, &format!("Invalid value: {name:?}: is no protocol's name"), hint, faults);
        }
    }
}

fn check(object: &Object, streams: Option<u32>, windows: [Option<Bytes>; 2], faults: &mut Vec<Fault>) {
    if streams == Some(0) {
        invalid(object, "spec.http2.maxConcurrentStreams", "Invalid value: 0: must be greater than 0", None, faults);
    }
    for (field, window) in ["initialStreamWindowSize", "initialConnectionWindowSize"].into_iter().zip(windows) {
        if let Some(Bytes(window)) = window.filter(|w| !(SMALLEST_WINDOW..=LARGEST_WINDOW).contains(&w.0)) {
            let hint = Some("64Ki, or 1Mi".to_owned());
            let what = format!("Invalid value: {window}: must be between {SMALLEST_WINDOW} and {LARGEST_WINDOW}, inclusive");
            invalid(object, &format!("spec.http2.{field}"), &what, hint, faults);
        }
    }
}

/// RFC 9110 §7.8: `protocol-name ["/" protocol-version]`.
fn token(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&b);
    !name.is_empty() && name.bytes().all(known)
}

fn invalid(object: &Object, path: &str, what: &str, hint: Option<String>, faults: &mut Vec<Fault>) {
    faults.push(error(&object.origin, &object.key, path, format!("{path}: {what}"), hint));
}
