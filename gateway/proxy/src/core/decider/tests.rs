//! Tests of what instances are told when snapshots change; and service ports for other tests.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use sluicegate_model::plugin::{Balancer, BalancerGeneration, Generation, GenerationStats, PickContext, PluginError, Saved};
use sluicegate_model::pool::{Distribution, Endpoint, Here, Pool, TrafficPolicy, unique};
use sluicegate_model::route::ServiceRef;
use sluicegate_model::shared::Shared;
use sluicegate_model::snapshot::{ServiceIndex, ServicePort, Side, Snapshot};
use sluicegate_model::state_store::StateStore;

use super::Decider;
use crate::core::View;
use crate::core::delta::Delta;

fn pool(id: u64, ports: &[u16]) -> Arc<Pool> {
    let endpoint = |port: &u16| Endpoint::new(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), *port));
    let all: Vec<Endpoint> = ports.iter().map(endpoint).collect();
    Arc::new(Pool::select(id, &all, TrafficPolicy::Cluster, Distribution::Any, &Here::default(), 50))
}

/// A service port with endpoints at these ports, and a generation of its own.
pub(crate) fn service(ports: &[u16]) -> ServicePort {
    of(&Arc::new(Telling::default()), ports)
}

fn of(balancer: &Arc<Telling>, ports: &[u16]) -> ServicePort {
    let id = ServiceRef { namespace: "default".into(), name: "s".into(), port: 80 };
    ServicePort { balancers: vec![balancer.clone()], ..ServicePort::of(id, pool(unique(), ports)) }
}

/// The next snapshot, in which one service port has other endpoints.
pub(crate) fn changed(last: &Snapshot, index: ServiceIndex, ports: &[u16]) -> Snapshot {
    let service = last.services.get(&index).expect("there is such a service port");
    let pool = pool(service.internal.id, ports);
    let service = ServicePort { internal: pool.clone(), external: pool, ..ServicePort::clone(service) };
    let mut next = last.clone();
    next.version += 1;
    next.services.insert(index, Arc::new(service));
    next
}

/// A balancer that writes down what it is told.
struct Telling {
    generation: Arc<Generation>,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    /// Pools that were asked for, and not freed.
    pools: Vec<u64>,
    instances: usize,
    retains: usize,
    saves: Vec<u64>,
}

impl Default for Telling {
    fn default() -> Self {
        let generation = Generation {
            id: unique(),
            plugin: "native".into(),
            number: 1,
            version: String::new(),
            sha256: String::new(),
            stats: GenerationStats::default(),
            shared: Shared::default(),
        };
        Self { generation: Arc::new(generation), told: Arc::default() }
    }
}

impl BalancerGeneration for Telling {
    fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }
    fn instantiate(&self) -> Result<Box<dyn Balancer>, PluginError> {
        self.told.lock().expect("no test panics with it").instances += 1;
        Ok(Box::new(Instance(self.told.clone())))
    }
}

struct Instance(Arc<Mutex<Told>>);

impl Balancer for Instance {
    fn pick(&mut self, pool: &Arc<Pool>, _: &Arc<str>, _: PickContext) -> Result<Option<usize>, PluginError> {
        let pools = &mut self.0.lock().expect("no test panics with it").pools;
        if !pools.contains(&pool.id) {
            pools.push(pool.id);
        }
        Ok(Some(0))
    }
    fn save(&mut self, pool: u64) -> Option<Saved> {
        self.0.lock().expect("no test panics with it").saves.push(pool);
        None
    }
    fn retain(&mut self, live: &dyn Fn(u64) -> bool) {
        let mut told = self.0.lock().expect("no test panics with it");
        told.retains += 1;
        told.pools.retain(|id| live(*id));
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let mut told = self.0.lock().expect("no test panics with it");
        told.instances -= 1;
        told.pools.clear();
    }
}

/// A worker's view and its decider.
struct Worker {
    view: Rc<View>,
    decider: Decider,
}

impl Worker {
    fn new(snapshot: Snapshot) -> Self {
        let mut worker = Self { view: Rc::new(View { snapshot: Arc::default() }), decider: Decider::default() };
        worker.take(snapshot);
        worker
    }

    /// Returns the view before.
    fn take(&mut self, next: Snapshot) -> Rc<View> {
        let delta = Delta::between(&self.view.snapshot, &next);
        self.decider.hand_over(&delta, &StateStore::default(), 0);
        self.decider.retain(&self.view, &delta);
        std::mem::replace(&mut self.view, Rc::new(View { snapshot: Arc::new(next) }))
    }

    fn pick(&mut self, view: &View, index: ServiceIndex) {
        let service = view.snapshot.services.get(&index).expect("there is such a service port");
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(self.decider.pick(service, Side::Internal, client, None, &[]).is_ok());
    }
}

#[test]
fn one_changed_endpoint_among_ten_thousand_services_tells_no_balancer_anything() {
    let balancer = Arc::new(Telling::default());
    let all = Snapshot::of(1, [], (0..10_000).map(|_| Arc::new(of(&balancer, &[1, 2]))));
    let mut worker = Worker::new(all.clone());
    assert_eq!(balancer.told.lock().expect("it is free").instances, 0, "nothing is made for what was not asked for");
    let view = worker.view.clone();
    worker.pick(&view, 3);
    worker.take(changed(&all, 3, &[2, 3]));
    worker.take(changed(&all, 4, &[2, 3]));
    let told = balancer.told.lock().expect("it is free");
    assert_eq!((told.instances, told.pools.len(), told.retains), (1, 1, 0));
}

#[test]
fn a_pool_is_freed_with_its_service_and_once_more_when_the_last_exchange_of_before_has_ended() {
    let balancer = Arc::new(Telling::default());
    let all = Snapshot::of(1, [], (0..3).map(|_| Arc::new(of(&balancer, &[1]))));
    let mut worker = Worker::new(all.clone());
    let exchange = worker.view.clone();
    (0..3).for_each(|index| worker.pick(&exchange, index));
    let mut fewer = all.clone();
    fewer.services.remove(&1);
    worker.take(fewer.clone());
    let pools = || balancer.told.lock().expect("it is free").pools.len();
    assert_eq!(pools(), 2);
    // The exchange tries another endpoint, on the snapshot that it began with.
    worker.pick(&exchange, 1);
    worker.take(fewer);
    worker.decider.settle();
    assert_eq!(pools(), 3, "somebody may ask again");
    drop(exchange);
    worker.decider.settle();
    assert_eq!(pools(), 2);
    worker.take(Snapshot::default());
    assert_eq!(balancer.told.lock().expect("it is free").instances, 0, "nothing refers to the generation any more");
}

#[test]
fn pools_are_put_aside_in_turn_and_only_those_that_are_kept() {
    let balancer = Arc::new(Telling::default());
    let kept = |n: usize| ServicePort { kept_as: (n.is_multiple_of(2)).then(|| n.to_string().into()), ..of(&balancer, &[1]) };
    let all = Snapshot::of(1, [], (0..80).map(|n| Arc::new(kept(n))));
    let mut worker = Worker::new(all.clone());
    let view = worker.view.clone();
    (0..80).for_each(|index| worker.pick(&view, index));
    let ids: Vec<u64> = (0..80).filter(|n| n % 2 == 0).filter_map(|n| Some(all.services.get(&n)?.internal.id)).collect();
    let mut saved = |times: usize| {
        (0..times).for_each(|_| worker.decider.put_aside(&StateStore::default(), 0));
        std::mem::take(&mut balancer.told.lock().expect("it is free").saves)
    };
    assert_eq!(saved(2), ids, "32, and then the other 8");
    assert_eq!(saved(1), ids[..32], "and anew");
}
