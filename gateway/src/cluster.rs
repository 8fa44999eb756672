//! The gateway in a cluster: its API server as a source of objects, on a runtime of its own, as a list of a large cluster takes a while to read.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sluicegate_cluster::client::Cluster;
use sluicegate_cluster::counts::Counts;
use sluicegate_cluster::fleet::Fleet;
use sluicegate_cluster::infrastructure::Keeper;
use sluicegate_cluster::lead::{self, Leadership, Nudge, Tell};
use sluicegate_cluster::leader::{Options, Terms};
use sluicegate_cluster::nodes::{Gatherer, Teller};
use sluicegate_cluster::seen::Seen;
use sluicegate_cluster::source::{ClusterSource, NAME, Said, View};
use sluicegate_cluster::status::Writer;
use sluicegate_cluster::turn::Writing;
use sluicegate_control::allocate::Leads;
use sluicegate_control::controller::Controller;
use sluicegate_control::saved::{self, Saver};
use sluicegate_control::sources::Wanted;
use sluicegate_model::status::Status;
use sluicegate_model::status::sources::{ReportSource, SourceReport, WritingReport};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::apart::Apart;
use crate::{Error, InCluster, io};

/// The API server, and what runs for it. It ends when this is dropped.
pub(crate) struct Joined {
    source: Option<ClusterSource>,
    wanted: Wanted,
    saver: Option<Saver>,
    view: Arc<View>,
    counts: Arc<Counts>,
    /// The name of this node, if it is configured.
    node: Option<String>,
    cluster: Cluster,
    seen: Seen,
    leadership: Leadership,
    terms: Terms,
    /// Is taken by whoever takes part in the election.
    tell: Option<Tell>,
    apart: Apart,
}

/// The name of the Lease by which one of many gateways leads. It is in the namespace of its pod.
const LEASE: &str = "sluicegate";
/// How long giving the Lease up may take at the end.
const GIVE_UP: Duration = Duration::from_secs(3);

/// Takes part in the election, and writes while it leads.
pub(crate) struct Leading {
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Leading {
    /// Gives the Lease up, so that another gateway need not wait until it runs out.
    pub(crate) async fn give_up(self) {
        drop(self.stop);
        let mut task = self.task;
        if tokio::time::timeout(GIVE_UP, &mut task).await.is_err() {
            task.abort();
        }
    }
}

impl Joined {
    /// Reads where the API server is, and what was saved of it. It is not asked yet.
    pub(crate) fn prepare(settled: &InCluster, node: Option<String>, state_dir: &Path) -> Result<Self, Error> {
        let apart = Apart::start("cluster").map_err(io("the thread of the cluster"))?;
        let (send, receive) = std::sync::mpsc::channel();
        let connection = settled.connection.clone();
        apart.handle().spawn(async move {
            // Whoever waits for it is below.
            let _ = send.send(Cluster::connect(connection).await);
        });
        let connected = receive.recv()?;
        let cluster = connected.map_err(Error::Cluster)?;
        tracing::info!(server = cluster.name(), "objects come from an API server");
        let folder = state_dir.join(NAME);
        let wanted = Wanted::default();
        let seen = Seen::default();
        let observed = seen.clone();
        let observer = move |said: Said<'_>| match said {
            Said::Applied(object) => observed.applied(object),
            Said::Gone(kind, namespace, name) => observed.gone(kind, namespace, name),
        };
        let source = ClusterSource::new(cluster.clone(), apart.handle().clone(), wanted.clone());
        let mut source = source.with_timing(settled.timing.clone()).with_observer(Arc::new(observer));
        if let Some(saved) = saved::load(&folder) {
            source = source.with_saved(saved);
        }
        let (tell, leadership) = Leadership::new();
        let (view, saver) = (source.view(), Some(Saver::new(folder, NAME)));
        let (source, terms, tell, counts) = (Some(source), settled.terms, Some(tell), Arc::default());
        Ok(Self { view, counts, node, source, wanted, saver, cluster, seen, leadership, terms, tell, apart })
    }

    /// Hands the source over.
    pub(crate) fn join(&mut self, mut controller: Controller) -> Controller {
        if let Some(source) = self.source.take() {
            controller = controller.with_source(Box::new(source)).with_wanted(self.wanted.clone());
            controller = controller.with_source(Box::new(Nudge(self.leadership.clone())));
        }
        match self.saver.take() {
            Some(saver) => controller.with_saver(saver),
            None => controller,
        }
    }

    /// Says whether this gateway leads.
    pub(crate) fn leads(&self) -> Leads {
        let leadership = self.leadership.clone();
        Arc::new(move || leadership.until().is_some())
    }

    /// Begins to take part in the election. None: it was begun before.
    pub(crate) fn lead(&mut self, status: Arc<ArcSwap<Status>>) -> Option<Leading> {
        let tell = self.tell.take()?;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        // No earlier process of the same host had the name.
        let identity = format!("{}_{:016x}", host.trim(), RandomState::new().hash_one(std::process::id()));
        let options = Options::new(self.cluster.namespace(), LEASE, identity.as_str()).within(self.terms);
        let (stop, stopped) = watch::channel(());
        let view = self.view.clone();
        let with = Writing {
            cluster: self.cluster.clone(),
            seen: self.seen.clone(),
            has: Arc::new(move |kind: &str| view.has(kind)),
            now: Arc::new(move || status.load_full()),
            leadership: self.leadership.clone(),
            identity,
            counts: self.counts.clone(),
            fleet: Fleet::default(),
        };
        let (namespace, node) = (self.cluster.namespace(), told_as(self.node.as_deref(), host.trim()));
        let (gatherer, teller) = (Gatherer::new(with.clone(), namespace), Teller::new(with.clone(), namespace, &node));
        let (writer, keeper) = (Writer::new(with.clone()), Keeper::new(with));
        let cluster = self.cluster.clone();
        let task = self.apart.handle().spawn(async move {
            let asked = || {
                let mut stopped = stopped.clone();
                async move { while stopped.changed().await.is_ok() {} }
            };
            let ended = async { tokio::join!(lead::run(&cluster, options, &tell, asked()), teller.run(asked())) };
            tokio::select! {
                () = writer.run() => {}
                () = keeper.run() => {}
                () = gatherer.run() => {}
                ((), ()) = ended => {}
            }
        });
        Some(Leading { stop, task })
    }

    /// What is seen of it, and written.
    pub(crate) fn view(&self) -> Arc<dyn ReportSource> {
        Arc::new(Reported { view: self.view.clone(), leadership: self.leadership.clone(), counts: self.counts.clone() })
    }
}

/// The name by which what this process runs is told. Several pods of a node, which are no hosts of their own network, tell it each for themselves.
fn told_as(node: Option<&str>, host: &str) -> String {
    match node {
        None => host.to_owned(),
        Some(node) if node == host || node.split('.').next() == Some(host) => node.to_owned(),
        Some(node) => format!("{node}.{host}"),
    }
}

/// What is seen of the API server, and written to it.
struct Reported {
    view: Arc<View>,
    leadership: Leadership,
    counts: Arc<Counts>,
}

impl ReportSource for Reported {
    fn report(&self) -> SourceReport {
        let writing = WritingReport {
            leads: self.leadership.until().is_some(),
            begun: self.leadership.begun(),
            pending: self.counts.pending(),
            writes: self.counts.report(),
        };
        SourceReport { writing: Some(writing), ..self.view.report() }
    }
}

#[cfg(test)]
mod tests {
    use super::told_as;

    #[test]
    fn pods_of_a_node_tell_what_they_run_each_for_themselves() {
        assert_eq!(told_as(None, "host"), "host");
        assert_eq!(told_as(Some("host"), "host"), "host");
        assert_eq!(told_as(Some("host.example.com"), "host"), "host.example.com");
        assert_eq!(told_as(Some("node"), "sluicegate-7d4f-x2x"), "node.sluicegate-7d4f-x2x");
    }
}
