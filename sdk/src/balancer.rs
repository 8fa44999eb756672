//! Balancers: the trait, what a pick may read, and the component that the host sees.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::balancer::exports::sluicegate::plugin::balancing as wit;
use crate::bindings::balancer::sluicegate::plugin::types::{Description, PluginKind};
use crate::config::{self, Named};
use crate::host;

pub use wit::{Endpoint, EndpointState};

/// Whether an endpoint is fit. The pool holds healthy and warming ones; the others only where nothing better is left.
///
/// ```
/// use sluicegate_sdk::{Condition, Pick, testing::FakeHost};
/// let pick = Pick::fake(&FakeHost { conditions: vec![Condition::Ejected], ..FakeHost::default() });
/// assert_eq!((pick.condition(0), pick.condition(1)), (Condition::Ejected, Condition::Healthy));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is known against it.
    #[default]
    Healthy,
    /// It joined a moment ago, or is healthy again: its weight still grows.
    Warming,
    /// It joined, and its first health check is not back.
    Pending,
    /// Exchanges with it failed.
    Ejected,
    /// Health checks of it fail.
    Unhealthy,
}

/// Chooses the endpoint of a pool that serves. One value holds the state of one pool.
///
/// ```
/// use sluicegate_sdk::{Balancer, Endpoint, Pick, schemars::JsonSchema, serde::Deserialize, testing::FakeHost};
///
/// #[derive(Default, Deserialize, JsonSchema)]
/// #[serde(crate = "sluicegate_sdk::serde", deny_unknown_fields, default)]
/// #[schemars(crate = "sluicegate_sdk::schemars")]
/// struct Config {}
///
/// /// The one that has least to do. It remembers how often it was asked, also over a swap.
/// struct Idlest { endpoints: usize, picks: u64 }
///
/// impl Balancer for Idlest {
///     type Config = Config;
///     const STATE: Option<u32> = Some(1);
///
///     fn open(_: Config) -> Result<Self, String> {
///         Ok(Self { endpoints: 0, picks: 0 })
///     }
///
///     fn update(&mut self, endpoints: &[Endpoint]) {
///         self.endpoints = endpoints.len();
///     }
///
///     fn pick(&mut self, pick: &Pick) -> Option<usize> {
///         self.picks += 1;
///         (0..self.endpoints).min_by_key(|&endpoint| pick.in_flight(endpoint))
///     }
///
///     fn save(&self) -> Vec<u8> {
///         self.picks.to_le_bytes().to_vec()
///     }
///
///     fn restore(&mut self, version: u32, state: &[u8]) -> Result<(), String> {
///         let bytes = state.try_into().map_err(|_| format!("version {version}, and not eight bytes"))?;
///         self.picks = u64::from_le_bytes(bytes);
///         Ok(())
///     }
/// }
///
/// sluicegate_sdk::export_balancer!(Idlest);
///
/// let mut old = Idlest::open(Config {}).unwrap();
/// old.update(&[Endpoint::new("10.0.0.1:80"), Endpoint::new("10.0.0.2:80")]);
/// assert_eq!(old.pick(&Pick::fake(&FakeHost { in_flight: vec![3, 1], ..FakeHost::default() })), Some(1));
/// let mut new = Idlest::open(Config {}).unwrap();
/// new.restore(1, &old.save()).unwrap();
/// assert_eq!(new.picks, 1);
/// ```
pub trait Balancer: Sized + 'static {
    /// What a policy may set. Give every field a default: a policy may leave the configuration out, which arrives as `{}`.
    type Config: DeserializeOwned + JsonSchema;

    /// Whether [`report`](Self::report) is called. It costs a call per exchange, so it is off unless asked for.
    const REPORTS: bool = false;

    /// Whether endpoints come with the annotations of their pods. They may be long, and each worker gets its own.
    const ANNOTATIONS: bool = false;

    /// The version of what [`save`](Self::save) writes: count it up when its form changes. None: there is nothing to save.
    const STATE: Option<u32> = None;

    /// Begins a pool. The error's text is shown to the operator.
    fn open(config: Self::Config) -> Result<Self, String>;

    /// The pool's endpoints have changed, or their weights; indices of later picks are indices into this list. Called before the first pick.
    /// Endpoints that are unhealthy or ejected are not among them, and the weight of one that warms up is a share of its own: a balancer needs
    /// no code for either.
    fn update(&mut self, endpoints: &[Endpoint]);

    /// The index of the endpoint to use, or none when none will do. On the way of every request: allocate nothing here.
    fn pick(&mut self, pick: &Pick) -> Option<usize>;

    /// What came of a pick. The index is one of the list at the time of the report.
    fn report(&mut self, outcome: Outcome) {
        let _ = outcome;
    }

    /// What the pool has learnt and would miss, in the form of version [`STATE`](Self::STATE); 1 MiB at most. Asked when another version of the plugin
    /// takes over, and from time to time where the `Plugin` object wants its state to outlive the gateway.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Begins with what another pool had learnt, in the form of this version: that of another version of the plugin, or before a restart. Called
    /// after `open` and before the first `update`, so keep it by address. It must bear anything: after an error, which is logged, or when it takes too
    /// long, the pool is opened anew and begins with nothing.
    ///
    /// # Errors
    /// If it can make nothing of it, as this one does.
    fn restore(&mut self, version: u32, state: &[u8]) -> Result<(), String> {
        Err(format!("{} bytes of state of version {version} are of no use to it", state.len()))
    }
}

impl Endpoint {
    /// An endpoint of weight 1 with nothing else known, at `ip:port` or `[ip]:port`.
    ///
    /// ```
    /// use sluicegate_sdk::Endpoint;
    /// assert_eq!(Endpoint::new("10.0.0.1:80").weight, 1);
    /// ```
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            weight: 1,
            zone: None,
            node: None,
            state: EndpointState::Ready,
            labels: Vec::new(),
            annotations: Vec::new(),
        }
    }

    /// Where it is.
    ///
    /// ```
    /// use sluicegate_sdk::Endpoint;
    /// let endpoint = Endpoint::new("[fd00::1]:80");
    /// assert_eq!(endpoint.socket_address().map(|address| address.port()), Some(80));
    /// ```
    pub fn socket_address(&self) -> Option<std::net::SocketAddr> {
        self.address.parse().ok()
    }

    /// A label of its pod.
    ///
    /// ```
    /// use sluicegate_sdk::Endpoint;
    /// let endpoint = Endpoint { labels: vec![("tier".into(), "gold".into())], ..Endpoint::new("10.0.0.1:80") };
    /// assert_eq!((endpoint.label("tier"), endpoint.label("app")), (Some("gold"), None));
    /// ```
    pub fn label(&self, name: &str) -> Option<&str> {
        find(&self.labels, name)
    }

    /// An annotation of its pod, if [`Balancer::ANNOTATIONS`] asks for them.
    ///
    /// ```
    /// use sluicegate_sdk::Endpoint;
    /// let endpoint = Endpoint { annotations: vec![("example.com/cost".into(), "3".into())], ..Endpoint::new("10.0.0.1:80") };
    /// assert_eq!(endpoint.annotation("example.com/cost"), Some("3"));
    /// ```
    pub fn annotation(&self, name: &str) -> Option<&str> {
        find(&self.annotations, name)
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// What a pick may depend on: the request, the host's statistics, and chance.
///
/// ```
/// use sluicegate_sdk::{Pick, testing::FakeHost};
/// let mut pick = Pick::fake(&FakeHost::default());
/// pick.hash = Some(7);
/// assert_eq!((pick.hash, pick.attempt, pick.success(0)), (Some(7), 0, 1.0));
/// ```
#[derive(Clone, Debug)]
pub struct Pick {
    /// The hash of what the policy names (client address, header, cookie, path), if it names something and the request has it.
    pub hash: Option<u64>,
    /// 0 for the first try of an exchange, 1 for its first retry, and so on.
    pub attempt: u32,
    random: Cell<u64>,
    #[cfg(not(target_arch = "wasm32"))]
    host: std::rc::Rc<crate::testing::FakeHost>,
}

impl Pick {
    /// A first try without a hash that reads a copy of these statistics, for native tests.
    ///
    /// ```
    /// # use sluicegate_sdk::{Pick, testing::FakeHost};
    /// assert_eq!(Pick::fake(&FakeHost::default()).hash, None);
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn fake(host: &crate::testing::FakeHost) -> Self {
        Self { hash: None, attempt: 0, random: Cell::new(host::random()), host: std::rc::Rc::new(host.clone()) }
    }

    /// 64 uniform random bits, others at each call. Not for secrets.
    ///
    /// ```
    /// # use sluicegate_sdk::{Pick, testing::FakeHost};
    /// let pick = Pick::fake(&FakeHost::default());
    /// assert_ne!(pick.random(), pick.random());
    /// ```
    pub fn random(&self) -> u64 {
        host::split_mix(&self.random)
    }

    /// A uniform random index below `n`; 0 when `n` is 0.
    ///
    /// ```
    /// # use sluicegate_sdk::{Pick, testing::FakeHost};
    /// assert!(Pick::fake(&FakeHost::default()).below(3) < 3);
    /// ```
    pub fn below(&self, n: usize) -> usize {
        host::below(self.random(), n)
    }
}

// An index that does not fit the host's `u32` is out of range there too, and reads as no statistics.
#[cfg(target_arch = "wasm32")]
mod statistics {
    use super::{Condition, Pick};
    use crate::bindings::balancer::sluicegate::plugin::statistics;

    impl Pick {
        /// Exchanges or connections under way at an endpoint, counted over all workers.
        pub fn in_flight(&self, endpoint: usize) -> u32 {
            statistics::in_flight(endpoint as u32)
        }

        /// Mean time to the response's head in microseconds; 0 before the first.
        pub fn latency_us(&self, endpoint: usize) -> u32 {
            statistics::latency(endpoint as u32)
        }

        /// Share of successes from 0 to 1; 1 before the first.
        pub fn success(&self, endpoint: usize) -> f32 {
            statistics::success(endpoint as u32)
        }

        /// Whether an endpoint is fit; healthy or warming unless the pool is in a panic.
        pub fn condition(&self, endpoint: usize) -> Condition {
            match statistics::condition_of(endpoint as u32) {
                statistics::Condition::Healthy => Condition::Healthy,
                statistics::Condition::Warming => Condition::Warming,
                statistics::Condition::Pending => Condition::Pending,
                statistics::Condition::Ejected => Condition::Ejected,
                statistics::Condition::Unhealthy => Condition::Unhealthy,
            }
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod statistics {
    use super::{Condition, Pick};

    impl Pick {
        /// Exchanges or connections under way at an endpoint, counted over all workers.
        ///
        /// ```
        /// # use sluicegate_sdk::{Pick, testing::FakeHost};
        /// assert_eq!(Pick::fake(&FakeHost::default()).in_flight(0), 0);
        /// ```
        pub fn in_flight(&self, endpoint: usize) -> u32 {
            self.host.in_flight.get(endpoint).copied().unwrap_or(0)
        }

        /// Mean time to the response's head in microseconds; 0 before the first.
        ///
        /// ```
        /// # use sluicegate_sdk::{Pick, testing::FakeHost};
        /// assert_eq!(Pick::fake(&FakeHost::default()).latency_us(0), 0);
        /// ```
        pub fn latency_us(&self, endpoint: usize) -> u32 {
            self.host.latency_us.get(endpoint).copied().unwrap_or(0)
        }

        /// Share of successes from 0 to 1; 1 before the first.
        ///
        /// ```
        /// # use sluicegate_sdk::{Pick, testing::FakeHost};
        /// assert_eq!(Pick::fake(&FakeHost::default()).success(0), 1.0);
        /// ```
        pub fn success(&self, endpoint: usize) -> f32 {
            self.host.success.get(endpoint).copied().unwrap_or(1.0)
        }

        /// Whether an endpoint is fit; healthy or warming unless the pool is in a panic.
        ///
        /// ```
        /// # use sluicegate_sdk::{Pick, testing::FakeHost};
        /// assert_eq!(Pick::fake(&FakeHost::default()).condition(0), sluicegate_sdk::Condition::Healthy);
        /// ```
        pub fn condition(&self, endpoint: usize) -> Condition {
            self.host.conditions.get(endpoint).copied().unwrap_or_default()
        }
    }
}

/// What came of a pick.
///
/// ```
/// let outcome = sluicegate_sdk::Outcome { endpoint: 0, success: true, latency_us: 900 };
/// assert!(outcome.success);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Index of the endpoint.
    pub endpoint: usize,
    /// Whether it answered, and not with an error of its own (5xx).
    pub success: bool,
    /// Time to the response's head, or of connecting for TCP, in microseconds.
    pub latency_us: u32,
}

/// What [`export_balancer!`](crate::export_balancer) exports.
pub struct BalancerComponent<B, N>(PhantomData<(B, N)>);

/// One pool's balancer. The host never calls a resource while a call of it is under way, so the borrow cannot fail.
pub struct PoolState<B>(RefCell<B>);

impl<B: Balancer, N: Named> wit::Guest for BalancerComponent<B, N> {
    type Pool = PoolState<B>;

    fn describe() -> Description {
        host::report_panics();
        Description {
            name: config::plugin_name(N::NAME),
            version: N::VERSION.to_owned(),
            kind: PluginKind::Balancer,
            config_schema: config::schema::<B::Config>(),
        }
    }
}

impl<B: Balancer> wit::GuestPool for PoolState<B> {
    fn open(config: String) -> Result<wit::Pool, String> {
        host::report_panics();
        let balancer = B::open(config::parse(&config)?)?;
        Ok(wit::Pool::new(Self(RefCell::new(balancer))))
    }

    fn wants(&self) -> wit::Wants {
        let of = |wanted, flag| if wanted { flag } else { wit::Wants::empty() };
        of(B::REPORTS, wit::Wants::REPORTS) | of(B::ANNOTATIONS, wit::Wants::ANNOTATIONS) | of(B::STATE.is_some(), wit::Wants::STATE)
    }

    fn update(&self, endpoints: Vec<Endpoint>) {
        self.0.borrow_mut().update(&endpoints);
    }

    fn pick(&self, context: wit::PickContext) -> Option<u32> {
        let pick = Pick {
            hash: context.hash,
            attempt: context.attempt,
            random: Cell::new(context.random),
            #[cfg(not(target_arch = "wasm32"))]
            host: Default::default(),
        };
        // An index over `u32` stays out of range for the host, which counts it as the plugin's failure.
        self.0.borrow_mut().pick(&pick).map(|index| u32::try_from(index).unwrap_or(u32::MAX))
    }

    fn report(&self, outcome: wit::Outcome) {
        let outcome = Outcome { endpoint: outcome.endpoint as usize, success: outcome.success, latency_us: outcome.latency_us };
        self.0.borrow_mut().report(outcome);
    }

    fn save(&self) -> wit::SavedState {
        wit::SavedState { version: B::STATE.unwrap_or_default(), data: self.0.borrow().save() }
    }

    fn restore(&self, state: wit::SavedState) -> Result<(), String> {
        self.0.borrow_mut().restore(state.version, &state.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeHost;
    use wit::GuestPool;

    #[derive(serde::Deserialize, JsonSchema)]
    struct NoConfig {}

    struct Fewest(usize, Vec<Outcome>);

    impl Balancer for Fewest {
        type Config = NoConfig;
        const REPORTS: bool = true;

        fn open(_: NoConfig) -> Result<Self, String> {
            Ok(Self(0, Vec::new()))
        }
        fn update(&mut self, endpoints: &[Endpoint]) {
            self.0 = endpoints.len();
        }
        fn pick(&mut self, pick: &Pick) -> Option<usize> {
            (0..self.0).min_by_key(|&i| pick.in_flight(i))
        }
        fn report(&mut self, outcome: Outcome) {
            self.1.push(outcome);
        }
    }

    #[test]
    fn a_balancer_reads_the_statistics_of_the_fake_host() {
        let mut fewest = Fewest::open(NoConfig {}).unwrap();
        fewest.update(&[Endpoint::new("10.0.0.1:80"), Endpoint::new("10.0.0.2:80")]);
        let pick =
            Pick::fake(&FakeHost { in_flight: vec![3, 1], latency_us: vec![9], success: vec![0.5], conditions: vec![Condition::Ejected] });
        assert_eq!(fewest.pick(&pick), Some(1));
        assert_eq!((pick.latency_us(0), pick.latency_us(1)), (9, 0));
        assert_eq!((pick.success(0), pick.success(1)), (0.5, 1.0));
        assert_eq!((pick.condition(0), pick.condition(1)), (Condition::Ejected, Condition::Healthy));
    }

    #[test]
    fn the_component_passes_calls_on() {
        let pool = PoolState(RefCell::new(Fewest(0, Vec::new())));
        assert!(pool.wants() == wit::Wants::REPORTS);
        let context = wit::PickContext { hash: None, attempt: 0, random: 1 };
        assert_eq!(pool.pick(context), None);
        pool.update(vec![Endpoint::new("10.0.0.1:80")]);
        assert_eq!(pool.pick(context), Some(0));
        pool.report(wit::Outcome { endpoint: 0, success: true, latency_us: 5 });
        assert_eq!(pool.0.borrow().1, [Outcome { endpoint: 0, success: true, latency_us: 5 }]);
    }
}
