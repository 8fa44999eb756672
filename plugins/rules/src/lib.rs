//! Router `rules`: its configuration is a superset of HTTPRoute's rules.
//!
//! [`config`] has the types of the configuration. [`compile`] checks it and collects every fault, with [`sluicegate_rule_values`] for single values and
//! [`filter`] for filters. The result is a [`table`], by which requests are routed, with [`paths`] for the matches of one host name, [`value`] for conditions
//! on headers and query parameters, [`names`] for those headers, and [`query`] to read the parameters.

use sluicegate_sdk::{Configured, Decision, Listener, Request, Router, Splice};

mod compile;
pub mod config;
mod faults;
mod filter;
mod names;
mod paths;
mod query;
mod table;
mod value;

use compile::Replaced;
use faults::Faults;

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

    fn change(&mut self, splices: Vec<Splice>) -> Option<Result<Configured, String>> {
        let replaced = |splice: &Splice| Ok(Replaced { at: splice.at, removed: splice.removed, rules: splice.read()? });
        let replaced = splices.iter().map(replaced).collect::<Result<Vec<_>, String>>();
        drop(splices);
        let rules = match replaced.and_then(|replaced| compile::replace(&mut self.0, replaced, Faults::default())) {
            Ok(rules) => rules,
            Err(error) => return Some(Err(error)),
        };
        // Headers that no rule names any more would be read for nothing, and more and more of them.
        (!self.0.reads_too_much).then(|| Ok(Configured { rules, interests: self.0.interests() }))
    }

    fn route(&mut self, request: &Request) -> Decision {
        self.0.route(request)
    }
}

sluicegate_sdk::export_router!(Rules);
