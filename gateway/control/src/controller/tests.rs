//! The work that control does when one among many changes.

use std::sync::mpsc::{Receiver, channel};

use sluicegate_config::plan::Settings;
use sluicegate_host::Loader;
use sluicegate_model::snapshot::{ServiceIndex, ServicePort};

use super::*;
use crate::allocate::Ranges;
use crate::sources::What;
use crate::sources::memory::{Hand, Memory};

const COUNT: usize = 50;
/// How long is waited for anything, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// A time that is longer than control gathers.
const QUIET: Duration = Duration::from_millis(400);

/// A Service with one endpoint, and a policy.
fn unit(number: usize, endpoint: u8) -> What {
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\nspec: {{ports: [{{port: 80, appProtocol: http}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{number}, labels: {{kubernetes.io/service-name: s{number}}}}}\n\
         addressType: IPv4\nendpoints: [{{addresses: [192.0.2.{endpoint}]}}]\nports: [{{port: 8080}}]\n---\n\
         apiVersion: sluicegate.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: s{number}}}\n\
         spec: {{targetRefs: [{{kind: Service, name: s{number}}}], loadBalancer: {{plugin: least-request}}}}\n"
    );
    What::Text(text.into())
}

/// The addresses that were prepared.
type Prepared = Arc<std::sync::Mutex<BTreeSet<String>>>;

/// A controller at work, and what it publishes.
struct Running {
    hand: Hand,
    published: Receiver<Arc<Snapshot>>,
    last: Arc<Snapshot>,
}

impl Running {
    fn start() -> Self {
        Self::preparing(None)
    }

    fn preparing(prepare: Option<(Prepare, Prepared)>) -> Self {
        let (source, hand) = Memory::new("memory");
        (0..COUNT).for_each(|number| hand.put(number.to_string(), unit(number, 1)));
        let options = Options {
            paths: Vec::new(),
            settings: Settings::default(),
            builtins: |name| sluicegate_plugins::builtin(name).map(|plugin| plugin.wasm()),
            trusted_keys: Vec::new(),
            admin: None,
            turns: Arc::default(),
        };
        let (publish, published) = channel();
        std::thread::spawn(move || {
            let loader = Loader::new().expect("a loader");
            let controller = Controller::new(options, loader, Allocator::in_memory(Ranges::default())).with_source(Box::new(source));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let (controller, prepared) = match prepare {
                Some((prepare, prepared)) => (controller.preparing(prepare), Some(prepared)),
                None => (controller, None),
            };
            // It ends with the process, or when something is published that was not prepared: then nothing more is.
            let publish: Publish = Box::new(move |snapshot| {
                if let Some(prepared) = &prepared {
                    let prepared = prepared.lock().expect("not poisoned");
                    assert!(
                        snapshot.listeners.values().all(|listener| prepared.contains(&listener.address.to_string())),
                        "it is bound too early"
                    );
                }
                let _ = publish.send(snapshot);
                Vec::new()
            });
            let _ = runtime.block_on(controller.run(Arc::default(), publish));
        });
        let mut running = Self { hand, published, last: Arc::default() };
        let deadline = std::time::Instant::now() + PATIENCE;
        while running.last.services.values().filter(|service| !service.internal.endpoints.is_empty()).count() < COUNT {
            assert!(std::time::Instant::now() < deadline, "not all endpoints are found");
            running.settle();
        }
        running
    }

    /// Takes what is published until there is a pause.
    fn settle(&mut self) {
        while let Ok(snapshot) = self.published.recv_timeout(QUIET) {
            self.last = snapshot;
        }
    }

    /// What a change has published: the number of snapshots, and the service ports in which the last of them differs from the one before the change.
    fn change(&mut self, number: usize, what: What) -> (u64, Vec<ServiceIndex>) {
        let before = self.last.clone();
        self.hand.put(number.to_string(), what);
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.last.version == before.version && std::time::Instant::now() < deadline {
            self.settle();
        }
        (self.last.version - before.version, self.last.services.changes(&before.services).iter().map(|change| change.key).collect())
    }

    fn service(&self, name: &str) -> Arc<ServicePort> {
        self.last.services.values().find(|service| service.id.name == name).expect("it is there").clone()
    }
}

#[test]
fn a_changed_endpoint_is_one_snapshot_and_one_service_port_and_what_is_the_same_is_none() {
    let mut running = Running::start();
    let (snapshots, changed) = running.change(7, unit(7, 2));
    assert_eq!((snapshots, changed.len()), (1, 1), "what nobody but discovery looks at is not published before it has");
    assert_eq!(running.service("s7").internal.endpoints[0].address.to_string(), "192.0.2.2:8080");
    // The same change once more, and then another one.
    running.hand.put("7", unit(7, 2));
    running.settle();
    let (snapshots, changed) = running.change(8, unit(8, 2));
    assert_eq!((snapshots, changed.len()), (1, 1));
    // A whole Service comes: there is a snapshot at once, and one when its endpoint is found.
    let (snapshots, changed) = running.change(COUNT, unit(COUNT, 1));
    assert!(snapshots <= 2 && changed.len() == 1, "{snapshots} snapshots, {changed:?}");
    let (snapshots, changed) = running.change(COUNT, What::Gone);
    assert!(snapshots <= 2 && changed.len() == 1, "{snapshots} snapshots, {changed:?}");
}

#[test]
fn what_is_listened_on_is_prepared_before_it_is_bound_and_what_moves_nothing_is_not() {
    let prepared = Prepared::default();
    let (done, count) = (prepared.clone(), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let counted = count.clone();
    let prepare: Prepare = Box::new(move |status| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (done, addresses): (_, Vec<String>) =
            (done.clone(), status.listeners.iter().map(|listener| listener.address.clone()).collect());
        Box::pin(async move {
            // The kernel takes its time.
            tokio::time::sleep(Duration::from_millis(20)).await;
            done.lock().expect("not poisoned").extend(addresses);
        })
    });
    let mut running = Running::preparing(Some((prepare, prepared)));
    let count = || count.load(std::sync::atomic::Ordering::Relaxed);
    let before = count();
    running.change(7, unit(7, 2));
    assert_eq!(count(), before, "an endpoint is not listened on");
    let (snapshots, _) = running.change(COUNT, unit(COUNT, 1));
    assert!(snapshots > 0 && count() == before + 1, "{snapshots} snapshots, prepared {} times", count() - before);
}
