//! The gateway in a cluster: its API server as a source of objects, on a runtime of its own, as a list of a large cluster takes a while to read.

use std::path::Path;
use std::sync::Arc;

use sluicegate_cluster::client::Cluster;
use sluicegate_cluster::source::{ClusterSource, NAME};
use sluicegate_control::controller::Controller;
use sluicegate_control::saved::{self, Saver};
use sluicegate_control::sources::Wanted;
use sluicegate_model::status::sources::ReportSource;

use crate::apart::Apart;
use crate::{Error, InCluster, io};

/// The API server, and what runs for it. It ends when this is dropped.
pub(crate) struct Joined {
    source: Option<ClusterSource>,
    wanted: Wanted,
    saver: Option<Saver>,
    view: Arc<dyn ReportSource>,
    _apart: Apart,
}

impl Joined {
    /// Reads where the API server is, and what was saved of it. It is not asked yet.
    pub(crate) fn prepare(settled: &InCluster, state_dir: &Path) -> Result<Self, Error> {
        let apart = Apart::start("cluster").map_err(io("the thread of the cluster"))?;
        let (send, receive) = std::sync::mpsc::channel();
        let connection = settled.connection.clone();
        apart.handle().spawn(async move {
            // Whoever waits for it is below.
            let _ = send.send(Cluster::connect(connection).await);
        });
        let connected = receive.recv().map_err(|error| Error::Control(error.to_string()))?;
        let cluster = connected.map_err(|error| Error::Control(format!("the API server: {error}")))?;
        tracing::info!(server = cluster.name(), "objects come from an API server");
        let folder = state_dir.join(NAME);
        let wanted = Wanted::default();
        let mut source = ClusterSource::new(cluster, apart.handle().clone(), wanted.clone()).with_timing(settled.timing.clone());
        if let Some(saved) = saved::load(&folder) {
            source = source.with_saved(saved);
        }
        Ok(Self { view: source.view(), source: Some(source), wanted, saver: Some(Saver::new(folder, NAME)), _apart: apart })
    }

    /// Hands the source over.
    pub(crate) fn join(&mut self, mut controller: Controller) -> Controller {
        if let Some(source) = self.source.take() {
            controller = controller.with_source(Box::new(source)).with_wanted(self.wanted.clone());
        }
        match self.saver.take() {
            Some(saver) => controller.with_saver(saver),
            None => controller,
        }
    }

    /// What is seen of it.
    pub(crate) fn view(&self) -> Arc<dyn ReportSource> {
        self.view.clone()
    }
}
