//! Tells what this node runs.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};
use sluicegate_model::hash::hash_bytes;
use tokio::time::{Instant, sleep};

use super::path;
use crate::client::{APPLY, ClusterError};
use crate::counts::Part;
use crate::fleet::{ANNOTATION, LABEL, LASTS, PREFIX, Report};
use crate::turn::{Spacing, Writing, within};

/// The longest name of an object.
const LONGEST: usize = 253;
/// How often it is looked whether something else is to be told.
const LOOK: Duration = Duration::from_secs(1);
/// The shortest time between two reports of a change. A fifth is left to chance, as all nodes learn of a change at the same moment.
const SHORTEST: Duration = Duration::from_secs(5);
/// How often what has not changed is told again; a fifth is left to chance.
const AGAIN: Duration = Duration::from_secs(120);

/// Tells it.
pub struct Teller {
    with: Writing,
    namespace: String,
    name: String,
    /// What was told last, when, and which version of the Lease that is.
    told: Option<(String, Instant)>,
    version: Option<Value>,
}

impl Teller {
    /// One that tells of this node, in a namespace.
    pub fn new(with: Writing, namespace: &str, node: &str) -> Self {
        Self { with, namespace: namespace.to_owned(), name: name(node), told: None, version: None }
    }

    /// Tells it until `stop` is ready; then its Lease is deleted, unless a successor on the same node has one by now.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = self.tell() => {}
            () = stop => {}
        }
        if let Some(version) = self.version.take() {
            let only = json!({"preconditions": {"resourceVersion": version}});
            let _ = within(self.with.cluster.delete(&format!("{}/{}", path(&self.namespace), self.name), &only)).await;
        }
    }

    async fn tell(&mut self) {
        let mut spacing = Spacing::new();
        // Thousands that begin together do not write together.
        sleep(SHORTEST.mul_f64(chance())).await;
        let mut looked = None;
        loop {
            let status = (self.with.now)();
            let same = looked.as_ref().is_some_and(|looked| Arc::ptr_eq(looked, &status));
            let due = self.told.as_ref().is_some_and(|(_, at)| at.elapsed() >= AGAIN);
            let mut pause = LOOK;
            if status.complete && (!same || due) {
                let text = Report::of(&status).text();
                let is_new = match &self.told {
                    // Where no object names a plugin there is nothing to tell.
                    None => text != "{}",
                    Some((told, _)) => *told != text,
                };
                if is_new || due {
                    pause = match self.write(&text).await {
                        Ok(()) => {
                            spacing.answered();
                            SHORTEST
                        }
                        Err(error) => spacing.failed(&error, "what this node runs"),
                    };
                }
                let untold = is_new && self.told.as_ref().is_none_or(|(told, _)| *told != text);
                looked = (!untold).then_some(status);
            }
            sleep(pause.mul_f64(1.0 + chance())).await;
        }
    }

    async fn write(&mut self, text: &str) -> Result<(), ClusterError> {
        let now = jiff::Timestamp::now();
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"namespace": self.namespace, "name": self.name, "labels": {LABEL.0: LABEL.1}, "annotations": {ANNOTATION: text}},
            "spec": {"holderIdentity": self.with.identity, "leaseDurationSeconds": LASTS, "renewTime": format!("{now:.6}")},
        });
        let one = format!("{}/{}?fieldManager=sluicegate.dev%2Fnode&force=true", path(&self.namespace), self.name);
        let answer = within(self.with.cluster.patch(&one, APPLY, &lease)).await;
        self.with.counts.count("Lease", Part::Object, &answer);
        self.version = Some(answer?.body["metadata"]["resourceVersion"].clone());
        self.told = Some((text.to_owned(), Instant::now()));
        Ok(())
    }
}

/// From 0 to a fifth.
fn chance() -> f64 {
    rand::rng().random::<f64>() / 5.0
}

/// The name of a node's Lease. Names of Nodes are names of objects; hosts may have others.
fn name(node: &str) -> String {
    let plain: String =
        node.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-' { c } else { '-' }).collect();
    let plain = plain.trim_matches(['-', '.']);
    if plain == node && !plain.is_empty() && !plain.contains("..") && PREFIX.len() + plain.len() <= LONGEST {
        return format!("{PREFIX}{plain}");
    }
    let hash = format!("{:016x}", hash_bytes(node.as_bytes()));
    let kept: String = plain.replace('.', "-").chars().take(LONGEST - PREFIX.len() - hash.len() - 1).collect();
    let kept = kept.trim_matches('-');
    if kept.is_empty() { format!("{PREFIX}{hash}") } else { format!("{PREFIX}{kept}-{hash}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_a_lease_of_its_own() {
        assert_eq!(name("node-1.example.com"), "sluicegate-node-node-1.example.com");
        let odd = ["Node_1", "node_1", "", "-", "a..b", &"n".repeat(250)];
        let names: std::collections::BTreeSet<String> = odd.iter().map(|node| name(node)).collect();
        assert_eq!(names.len(), odd.len(), "{names:?}");
        for name in names {
            let ends = name.ends_with(|c: char| c.is_ascii_alphanumeric());
            assert!(
                name.len() <= LONGEST && ends && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b)),
                "{name}"
            );
        }
    }
}
