//! TLS with clients.

use sluicegate_model::stats::{TlsFailure, TlsStats};
use sluicegate_model::status::Status;
use sluicegate_model::telemetry::metric::Point;

use super::family::{Labels, Page, count, counter, family, gauge};

/// Of thousands of certificates those matter that end next.
const MOST_CERTIFICATES: usize = 20;

pub(super) fn encode(e: &mut Page, tls: &TlsStats, status: &Status) {
    family(e, "tls_handshakes", "TLS handshakes done with clients", counter(&tls.handshakes));
    family(e, "tls_resumed", "TLS handshakes that resumed a session", counter(&tls.resumed));
    family(e, "tls_passed_through", "TLS connections forwarded as they are", counter(&tls.passed));
    family(e, "tls_handshakes_under_way", "TLS handshakes under way", gauge(&tls.under_way));
    let failures = TlsFailure::ALL.into_iter().zip(&tls.failures);
    let failures = failures.map(|(why, n)| (vec![("reason", why.label().to_owned())], Point::counter(count(n))));
    family(e, "tls_failures", "TLS handshakes with clients that failed, by reason", failures);
    let certificates = status.listeners.iter().flat_map(|l| l.hosts.iter().map(move |h| (l, h)));
    let ends = certificates.flat_map(|(l, h)| {
        h.certificates.iter().map(move |c| {
            let labels = vec![
                ("address", l.address.clone()),
                ("hostname", h.hostname.clone().unwrap_or_else(|| "*".to_owned())),
                ("secret", c.secret.clone()),
            ];
            (c.not_after, labels)
        })
    });
    let mut ends: Vec<(i64, Labels)> = ends.collect();
    ends.sort();
    let ends = ends.into_iter().take(MOST_CERTIFICATES).map(|(end, labels)| (labels, Point::gauge(end)));
    family(e, "tls_certificate_not_after_seconds", "When the certificates served run out, those that do first, in seconds since 1970", ends)
}
