//! `/metrics`: read from the counters when asked, so counting costs the request path one relaxed add. One file a subject: [`process`] the
//! data plane as a whole, [`tls`] TLS with clients, [`acme`] certificates that are ordered, [`services`] each service port, of which [`ports`] says which have series of their own, [`health`] its endpoints, [`udp`] what only UDP ports have, [`limits`] what was refused, [`login`] logins to the admin API,
//! [`plugins`] each plugin, [`rollout`] those on trial, [`sources`] where objects come from, [`custom`] what plugins count themselves; [`mod@family`] makes their rows, and [`text`] writes them.

mod acme;
mod custom;
mod family;
mod health;
mod limits;
mod login;
mod plugins;
pub(crate) mod ports;
mod process;
mod rollout;
mod services;
mod sources;
mod text;
mod tls;
mod udp;

use std::fmt;

use sluicegate_model::telemetry::metric::{Family, Point};

use crate::View;
use family::{Page, family};

/// The page in the text format, with or without exemplars.
pub(crate) fn encode(view: &View, exemplars: bool) -> Result<String, fmt::Error> {
    text::encode(gather(view), exemplars)
}

/// All metrics as they are now.
pub(crate) fn gather(view: &View) -> Vec<Family> {
    let (status, mut page) = (view.status.load(), Page::default());
    process::encode(&mut page, &view.proxy, &view.log, &status);
    tls::encode(&mut page, &view.proxy.tls, &status);
    acme::encode(&mut page, &status.acme);
    login::encode(&mut page, &view.login);
    limits::encode(&mut page, &view.proxy);
    plugins::encode(&mut page, &status);
    rollout::encode(&mut page, &status);
    sources::encode(&mut page, &crate::reports(view));
    custom::encode(&mut page, &status);
    // What all others leave is for service ports.
    let (ports, summed) = view.ports.rows(&status, page.series() + 1);
    let summed = std::iter::once((Vec::new(), Point::gauge(summed as u64)));
    let about = "Service ports without series of their own, whose sums are those of the service other";
    family(&mut page, "service_ports_summed", about, summed);
    services::encode(&mut page, &ports);
    health::encode(&mut page, &ports);
    udp::encode(&mut page, &ports);
    limits::services(&mut page, &ports);
    page.families
}
