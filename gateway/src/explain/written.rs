//! How what is served is written: places in files, and what is wrong with objects.

use sluicegate_config::diagnose::Diagnosis;
use sluicegate_config::objects::Objects;
use sluicegate_config::plan::Plan;
use sluicegate_model::fault::{Fault, Place};
use sluicegate_model::route::RouteTable;
use sluicegate_model::snapshot::RouterRung;

/// Knows how things are written.
pub(crate) trait Written {
    /// Where a rule is written, for routers whose configuration has a list `rules` in the order of the table's, as `rules` has; none: that is not known.
    fn rule(&self, rung: &RouterRung, index: usize) -> Option<Place>;

    /// What is wrong with a Service that has no endpoint.
    fn service(&self, namespace: &str, name: &str) -> Vec<Fault>;
}

/// A plan, and the objects that it is made of.
pub(crate) struct Planned<'p> {
    pub(crate) objects: &'p Objects,
    pub(crate) plan: &'p Plan,
}

impl Planned<'_> {
    /// Where a rule of a table is written.
    pub(crate) fn place(&self, table: &RouteTable, index: usize) -> Option<Place> {
        let written = self.plan.routers.iter().find(|r| r.listener == table.listener && r.plugin.config == table.config);
        written.and_then(|router| router.plugin.place(&format!("rules[{index}]")))
    }
}

impl Written for Planned<'_> {
    fn rule(&self, rung: &RouterRung, index: usize) -> Option<Place> {
        self.place(&rung.table, index)
    }

    fn service(&self, namespace: &str, name: &str) -> Vec<Fault> {
        let planned = self.plan.services.values().find(|service| service.namespace == namespace && service.name == name);
        planned.into_iter().flat_map(|planned| Diagnosis::new(self.objects).service(planned)).collect()
    }
}
