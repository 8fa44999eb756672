//! What all nodes have told of what they run, as the leader knows it: each in an annotation of a Lease of its own ([`crate::nodes`]).

mod report;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use report::OfPlugin;
pub(crate) use report::Report;

/// The names of these Leases begin so; the node's name follows.
pub(crate) const PREFIX: &str = "sluicegate-node-";
/// Their label, and its value.
pub(crate) const LABEL: (&str, &str) = ("sluicegate.dev/report", "plugins");
/// The annotation with what is told.
pub(crate) const ANNOTATION: &str = "sluicegate.dev/plugins";
/// For how long a report counts that is not told again, in seconds.
pub(crate) const LASTS: u64 = 300;
/// A report that was not told again for so many times as it counts may be cleared away.
const FORGOTTEN: u32 = 12;
/// So many generations are shown of a plugin.
const SHOWN: usize = 8;

/// What all nodes have told. Copies share it.
#[derive(Clone, Default)]
pub struct Fleet(Arc<Mutex<BTreeMap<String, Node>>>);

struct Node {
    report: Report,
    /// When it was told, by the node's own clock, and since when it is so, as far as is known here. Clocks of other machines do not count.
    renewed: Value,
    since: Instant,
    version: Value,
}

impl Node {
    fn counts(&self, now: Instant) -> bool {
        now < self.since + Duration::from_secs(LASTS)
    }
}

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node's Lease is this now.
    pub(crate) fn applied(&self, lease: &Value, now: Instant) {
        let metadata = &lease["metadata"];
        let Some(name) = metadata["name"].as_str() else { return };
        let (renewed, version) = (lease["spec"]["renewTime"].clone(), metadata["resourceVersion"].clone());
        let mut nodes = self.lock();
        let since = nodes.get(name).filter(|known| known.renewed == renewed).map_or(now, |known| known.since);
        let report = Report::read(metadata["annotations"][ANNOTATION].as_str().unwrap_or_default());
        nodes.insert(name.to_owned(), Node { report, renewed, since, version });
    }

    /// A node's Lease is gone.
    pub(crate) fn gone(&self, name: &str) {
        self.lock().remove(name);
    }

    /// These are all there are.
    pub(crate) fn listed(&self, leases: &[Value], now: Instant) {
        let there = |name: &str| leases.iter().any(|lease| lease["metadata"]["name"] == name);
        self.lock().retain(|name, _| there(name));
        leases.iter().for_each(|lease| self.applied(lease, now));
    }

    /// Nothing is known any more.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Those that were silent for so long that they may be cleared away, each with its version.
    pub(crate) fn forgotten(&self, now: Instant) -> Vec<(String, Value)> {
        let long = Duration::from_secs(LASTS) * FORGOTTEN;
        let nodes = self.lock();
        nodes.iter().filter(|(_, node)| now >= node.since + long).map(|(name, node)| (name.clone(), node.version.clone())).collect()
    }

    /// What is told of all plugins, so that two looks can be compared.
    pub(crate) fn print(&self, now: Instant) -> Vec<(String, Report)> {
        self.lock().iter().filter(|(_, node)| node.counts(now)).map(|(name, node)| (name.clone(), node.report.clone())).collect()
    }

    /// What nodes tell of a plugin: as `status.nodes` has it, and a condition without its times; none if no node has told anything.
    pub(crate) fn of(&self, namespace: &str, name: &str, now: Instant) -> Option<(Value, Value)> {
        let plugin = format!("{namespace}/{name}");
        let nodes = self.lock();
        let told: Vec<(&str, &OfPlugin)> = nodes
            .iter()
            .filter(|(_, node)| node.counts(now))
            .filter_map(|(lease, node)| Some((lease.strip_prefix(PREFIX).unwrap_or(lease), node.report.0.get(&plugin)?)))
            .collect();
        let all = told.len();
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (_, of) in &told {
            *counts.entry((&of.sha256, &of.version)).or_default() += 1;
        }
        let mut generations: Vec<((&str, &str), usize)> = counts.into_iter().collect();
        generations.sort_by_key(|((sha256, _), nodes)| (std::cmp::Reverse(*nodes), *sha256));
        let (_, most) = *generations.first()?;
        let refused: Vec<(&str, &str)> = told.iter().filter_map(|(node, of)| Some((*node, of.refused.as_deref()?))).collect();
        let (holds, reason, message) = match refused.first() {
            Some((node, why)) => ("False", "RefusedOnNodes", format!("refused on {} of {all} nodes; on {node}: {why}", refused.len())),
            None if generations.len() > 1 => (
                "False",
                "GenerationsDiffer",
                format!("{} generations serve; {most} of {all} nodes have the most common one", generations.len()),
            ),
            None => ("True", "SameGeneration", String::new()),
        };
        let shown = generations.iter().take(SHOWN).map(|((sha256, version), nodes)| match *sha256 {
            "" => json!({"nodes": nodes}),
            _ => json!({"sha256": sha256, "version": version, "nodes": nodes}),
        });
        let status = json!({"reporting": all, "refused": refused.len(), "generations": shown.collect::<Vec<_>>()});
        Some((status, json!({"type": "Consistent", "status": holds, "reason": reason, "message": message})))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(node: &str, renewed: &str, sha256: &str, refused: Option<&str>) -> Value {
        let of = OfPlugin { sha256: sha256.to_owned(), version: "1".to_owned(), refused: refused.map(str::to_owned) };
        let report = Report([("shop/mine".to_owned(), of)].into());
        json!({
            "metadata": {"name": format!("sluicegate-node-{node}"), "resourceVersion": renewed, "annotations": {ANNOTATION: report.text()}},
            "spec": {"renewTime": renewed},
        })
    }

    #[test]
    fn generations_are_counted_by_nodes_that_are_alive() {
        let (fleet, now) = (Fleet::default(), Instant::now());
        let of = |at: Instant| fleet.of("shop", "mine", at);
        assert!(of(now).is_none());
        fleet.listed(&[lease("a", "1", "aa", None), lease("b", "1", "aa", None)], now);
        let (status, condition) = of(now).expect("told");
        assert_eq!(status, json!({"reporting": 2, "refused": 0, "generations": [{"sha256": "aa", "version": "1", "nodes": 2}]}));
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("SameGeneration")));
        let later = now + Duration::from_secs(LASTS - 1);
        fleet.applied(&lease("b", "2", "bb", None), later);
        fleet.applied(&lease("c", "2", "bb", None), later);
        let (status, condition) = of(later).expect("told");
        assert_eq!(status["generations"][0], json!({"sha256": "bb", "version": "1", "nodes": 2}));
        assert_eq!(condition["message"], "2 generations serve; 2 of 3 nodes have the most common one");
        // One falls silent: telling the same again is no renewal.
        fleet.applied(&lease("a", "1", "aa", None), later);
        let (status, condition) = of(now + Duration::from_secs(LASTS)).expect("told");
        assert_eq!((&status["reporting"], &condition["status"]), (&json!(2), &json!("True")));
        fleet.applied(&lease("c", "3", "bb", Some("no module")), later);
        let (status, condition) = of(later).expect("told");
        assert_eq!((&status["refused"], &condition["message"]), (&json!(1), &json!("refused on 1 of 3 nodes; on c: no module")));
        assert!(fleet.of("shop", "other", later).is_none());
        let long = now + Duration::from_secs(LASTS) * FORGOTTEN;
        assert_eq!(fleet.forgotten(long), [("sluicegate-node-a".to_owned(), json!("1"))]);
        fleet.gone("sluicegate-node-b");
        assert_eq!(fleet.print(later).len(), 2);
    }
}
