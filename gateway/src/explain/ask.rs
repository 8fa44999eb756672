//! Plugins are asked as the data plane asks them, by instances that serve for one question, and what failed is remembered.

use std::sync::Arc;

use sluicegate_decide::ladder::{Balancers, Routers};
use sluicegate_model::plugin::{Balancer, Generation, PluginError, Router, RouterGeneration};
use sluicegate_model::snapshot::{RouterRung, ServicePort};

use super::Story;

/// A plugin and its generation, for the story.
pub(super) fn who(what: &str, generation: &Generation) -> String {
    format!("{what} {}, generation {}", generation.plugin, generation.number)
}

/// Makes instances of routers.
#[derive(Default)]
pub(super) struct AskedRouters {
    instance: Option<Box<dyn Router>>,
    failures: Vec<String>,
}

impl AskedRouters {
    /// Tells which generations failed.
    pub(super) fn tell_failures(&mut self, story: &mut Story) {
        self.failures.drain(..).for_each(|failure| story.say("route", failure));
    }
}

impl Routers for AskedRouters {
    fn router(&mut self, generation: &Arc<dyn RouterGeneration>) -> Result<&mut dyn Router, PluginError> {
        Ok(self.instance.insert(generation.instantiate()?).as_mut())
    }

    fn failed(&mut self, rung: &RouterRung, error: &PluginError) {
        self.failures.push(format!("{} failed: {error}", who("router", rung.generation.generation())));
    }
}

/// Makes instances of a service port's balancer.
pub(super) struct AskedBalancers<'a> {
    pub(super) service: &'a ServicePort,
    pub(super) story: &'a mut Story,
    pub(super) instance: Option<Box<dyn Balancer>>,
}

impl AskedBalancers<'_> {
    pub(super) fn who(&self, rung: usize) -> String {
        self.service.balancers.get(rung).map_or_else(String::new, |balancer| who("balancer", balancer.generation()))
    }
}

impl Balancers for AskedBalancers<'_> {
    fn count(&self) -> usize {
        self.service.balancers.len()
    }

    fn is_quarantined(&self, rung: usize) -> bool {
        self.service.balancers[rung].generation().stats.quarantined()
    }

    fn balancer(&mut self, rung: usize) -> Result<&mut dyn Balancer, PluginError> {
        Ok(self.instance.insert(self.service.balancers[rung].instantiate()?).as_mut())
    }

    fn failed(&mut self, rung: usize, error: &PluginError) {
        let who = self.who(rung);
        self.story.say("pick", format!("{who} failed: {error}"));
    }

    /// Each failure was told already.
    fn fell_back(&mut self) {}
}
