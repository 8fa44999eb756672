//! Router `rules`: HTTPRoute rules, a superset of them, as configuration.
//!
//! [`config`] is what a policy writes; [`compile`] checks it, with [`sluicegate_rule_values`] for single values and [`filter`] for filters, and collects every
//! fault; [`table`] is what it becomes and routes by, with [`paths`] for the matches of one host name, [`value`] for conditions on headers and
//! query parameters and [`query`] to read the latter.

use sluicegate_sdk::{Configured, Decision, Listener, Request, Router};

mod compile;
pub mod config;
mod faults;
mod filter;
mod paths;
mod query;
mod table;
mod value;

#[cfg(test)]
mod precedence_tests;
#[cfg(test)]
mod tests;

/// The compiled rules of one listener.
#[derive(Debug)]
pub struct Rules(table::Table);

impl Router for Rules {
    type Config = config::Config;

    fn configure(config: config::Config, listener: &Listener) -> Result<(Self, Configured), String> {
        let (table, configured) = compile::compile(config, listener)?;
        Ok((Self(table), configured))
    }

    fn route(&mut self, request: &Request) -> Decision {
        self.0.route(request)
    }
}

sluicegate_sdk::export_router!(Rules);
