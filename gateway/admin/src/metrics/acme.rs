//! Certificates that are ordered from ACME CAs.

use sluicegate_model::telemetry::metric::Point;
use sluicegate_model::tls::Acme;
use sluicegate_model::tls::acme::Named;

use super::family::{Page, family};

pub(super) fn encode(e: &mut Page, acme: &Acme) {
    let orders = acme.orders();
    let orders = orders
        .iter()
        .map(|((issuer, outcome), n)| (vec![("issuer", issuer.to_string()), ("outcome", (*outcome).to_owned())], Point::counter(*n)));
    family(e, "acme_orders", "Orders of certificates that ended, by outcome: issued, or why not", orders);
    let names = acme.names();
    let of = |what: fn(&Named) -> Option<i64>| {
        let all = names.iter().flat_map(|(issuer, names)| names.iter().map(move |(name, named)| (issuer, name, named)));
        all.filter_map(move |(issuer, name, named)| {
            Some((vec![("issuer", issuer.to_string()), ("name", name.clone())], Point::gauge(what(named)?)))
        })
    };
    let ends = of(|named| Some(named.certificate.as_ref()?.not_after()));
    family(e, "acme_certificate_not_after_seconds", "When the certificates that were ordered run out, in seconds since 1970", ends);
    let renewals = of(|named| named.renew_at);
    family(e, "acme_renewal_due_seconds", "When the certificates that were ordered are to be renewed, in seconds since 1970", renewals);
    let failing = of(|named| Some(i64::from(named.problem.is_some())));
    family(e, "acme_failing", "Whether the last order for the name brought no certificate", failing);
}
