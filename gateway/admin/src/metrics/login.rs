//! Logins to the admin API.

use std::sync::atomic::Ordering;

use sluicegate_model::telemetry::metric::Point;

use super::family::{Page, count, family};
use crate::LoginStats;

pub(super) fn encode(e: &mut Page, stats: &LoginStats) {
    let reasons = [("token", &stats.tokens), ("certificate", &stats.certificates), ("refused", &stats.refused)];
    let rows = reasons.into_iter().map(|(reason, n)| (vec![("reason", reason.to_owned())], Point::counter(count(n))));
    let failed =
        "Logins to the admin API that failed: by a token or a certificate that has no role, or refused after too many of that address";
    family(e, "admin_logins_failed", failed, rows);
    let faulty = [(Vec::new(), Point::gauge(i64::from(stats.faulty.load(Ordering::Relaxed))))];
    family(e, "admin_login_files_faulty", "1 while a file that logins go by is faulty, and what it said before counts", faulty.into_iter());
}
