//! Which kinds an API server has, and in which versions. Kinds that come by a CustomResourceDefinition may be missing, and be installed at any time. That is
//! found out by asking for the groups there are, and for the kinds of those groups that matter: every user may ask for these, while a watch of the
//! definitions would need a permission of its own, and bring their schemas, of which one alone has 100 KB. The answer counts for a while, for all kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::client::{Cluster, ClusterError};
use crate::kinds::Kind;

/// What the server has said last.
#[derive(Default)]
pub(super) struct Served {
    known: Mutex<Option<Known>>,
    /// What is known may be wrong.
    doubtful: AtomicBool,
}

struct Known {
    at: Instant,
    /// The versions of each group.
    groups: BTreeMap<String, BTreeSet<String>>,
    /// The plurals of each version of a group that was asked for.
    resources: BTreeMap<(String, String), BTreeSet<String>>,
}

fn texts<'v>(list: &'v Value, name: &'static str) -> impl Iterator<Item = &'v str> {
    list.as_array().into_iter().flatten().filter_map(move |item| item[name].as_str())
}

impl Served {
    /// The server is asked again, as what it said does not fit what it did.
    pub(super) fn forget(&self) {
        self.doubtful.store(true, Ordering::Relaxed);
    }

    /// The best version of a kind that the server has; none: it does not have the kind. What it said up to `age` ago counts.
    ///
    /// # Errors
    /// The server does not say.
    pub(super) async fn version(
        &self,
        cluster: &Cluster,
        kind: &'static Kind,
        age: Duration,
    ) -> Result<Option<&'static str>, ClusterError> {
        if kind.is_built_in() {
            return Ok(kind.versions.first().copied());
        }
        // Whoever comes meanwhile waits for the same answer.
        let mut known = self.known.lock().await;
        if self.doubtful.swap(false, Ordering::Relaxed) {
            *known = None;
        }
        if known.as_ref().is_none_or(|known| known.at.elapsed() >= age) {
            let answer = cluster.get("/apis").await?.body;
            if answer["kind"] != "APIGroupList" {
                return Err(ClusterError::Damaged("it is no list of groups".to_owned()));
            }
            // A server that begins does not have all groups yet. Whoever may not ask whether it is ready has to believe it.
            if let Err(error) = cluster.stream("/readyz").await
                && matches!(error.code(), 500..)
            {
                return Err(error);
            }
            let groups = answer["groups"].as_array().into_iter().flatten().filter_map(|group| {
                let versions = texts(&group["versions"], "version").map(str::to_owned).collect();
                Some((group["name"].as_str()?.to_owned(), versions))
            });
            *known = Some(Known { at: Instant::now(), groups: groups.collect(), resources: BTreeMap::new() });
        }
        let Some(known) = known.as_mut() else { return Ok(None) };
        for version in kind.versions {
            if !known.groups.get(kind.group).is_some_and(|versions| versions.contains(*version)) {
                continue;
            }
            let id = (kind.group.to_owned(), (*version).to_owned());
            if !known.resources.contains_key(&id) {
                let answer = cluster.get(&format!("/apis/{}/{version}", kind.group)).await?.body;
                if answer["kind"] != "APIResourceList" {
                    return Err(ClusterError::Damaged("it is no list of kinds".to_owned()));
                }
                known.resources.insert(id.clone(), texts(&answer["resources"], "name").map(str::to_owned).collect());
            }
            if known.resources.get(&id).is_some_and(|plurals| plurals.contains(kind.plural)) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }
}
