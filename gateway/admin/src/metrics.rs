//! `/metrics`: read from the counters when asked, so counting costs the request path one relaxed add. One file a subject: [`process`] the
//! data plane as a whole, [`tls`] TLS with clients, [`acme`] certificates that are ordered, [`services`] each service port, [`health`] its endpoints, [`udp`] what only UDP ports have, [`limits`] what was refused, [`login`] logins to the admin API,
//! [`plugins`] each plugin, [`rollout`] those on trial, [`sources`] where objects come from, [`custom`] what plugins count themselves; [`family`] writes their rows.

mod acme;
mod custom;
mod family;
mod health;
mod limits;
mod login;
mod plugins;
mod process;
mod rollout;
mod services;
mod sources;
mod tls;
mod udp;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use crate::View;

pub(crate) fn encode(view: View) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("sluicegate");
    registry.register_collector(Box::new(Metrics(view)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

struct Metrics(View);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.0.status.load();
        process::encode(&mut encoder, &self.0.proxy, &self.0.log, &status)?;
        tls::encode(&mut encoder, &self.0.proxy.tls, &status)?;
        acme::encode(&mut encoder, &status.acme)?;
        services::encode(&mut encoder, &status)?;
        health::encode(&mut encoder, &status)?;
        udp::encode(&mut encoder, &status)?;
        login::encode(&mut encoder, &self.0.login)?;
        limits::encode(&mut encoder, &self.0.proxy, &status)?;
        plugins::encode(&mut encoder, &status)?;
        rollout::encode(&mut encoder, &status)?;
        sources::encode(&mut encoder, &crate::reports(&self.0))?;
        custom::encode(&mut encoder, &status)
    }
}
