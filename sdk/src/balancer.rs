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

/// The condition of an endpoint. A pool holds healthy and warming endpoints; it holds others only if nothing better is left.
///
/// ```
/// use sluicegate_sdk::{Condition, Pick, testing::FakeHost};
/// let pick = Pick::fake(&FakeHost { conditions: vec![Condition::Ejected], ..FakeHost::default() });
/// assert_eq!((pick.condition(0), pick.condition(1)), (Condition::Ejected, Condition::Healthy));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is known against the endpoint.
    #[default]
    Healthy,
    /// The endpoint joined a moment ago, or has become healthy again, and its weight still grows.
    Warming,
    /// The endpoint joined, and its first health check has no result yet.
    Pending,
    /// The endpoint was ejected, as exchanges with it failed.
    Ejected,
    /// Health checks of the endpoint fail.
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
    /// The configuration, which policies set. Give every field a default: a policy may leave the configuration out, which arrives as `{}`.
    type Config: DeserializeOwned + JsonSchema;

    /// Whether [`report`](Self::report) is called. This costs a call for each exchange, so it is off unless asked for.
    const REPORTS: bool = false;

    /// Whether endpoints come with the annotations of their pods. Annotations may be long, and each worker gets a copy.
    const ANNOTATIONS: bool = false;

    /// The version of the form in which [`save`](Self::save) writes the state; raise it when the form changes. `None`: there is no state to save.
    const STATE: Option<u32> = None;

    /// Begins a pool. The text of an error is shown to the operator.
    fn open(config: Self::Config) -> Result<Self, String>;

    /// Takes the pool's endpoints when they or their weights have changed, and before the first pick. Later picks return indices into this list. Unhealthy and
    /// ejected endpoints are not in it, and an endpoint that warms up has a share of its weight, so a balancer needs no code for either.
    fn update(&mut self, endpoints: &[Endpoint]);

    /// Returns the index of the endpoint to use, or `None` if none will do. This is called for every request, so it should not allocate.
    fn pick(&mut self, pick: &Pick) -> Option<usize>;

    /// Takes the outcome of a pick. Its index is one of the list at the time of the report.
    fn report(&mut self, outcome: Outcome) {
        let _ = outcome;
    }

    /// Returns what the pool has learned and should not lose, in the form of version [`STATE`](Self::STATE), in at most 1 MiB. This is called when another
    /// version of the plugin takes over, and from time to time if the `Plugin` object says that its state is kept over restarts (`state.persist`).
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Begins with what another pool had learned: one of another version of the plugin, or one before a restart. `version` is that of the state's form. This is
    /// called after `open` and before the first `update`, so state about endpoints is best kept by their addresses. It must cope with any bytes: after an
    /// error, which is logged, or when it takes too long, the pool is opened again and begins without state.
    ///
    /// # Errors
    /// The state cannot be used. This default implementation never uses it.
    fn restore(&mut self, version: u32, state: &[u8]) -> Result<(), String> {
        Err(format!("{} bytes of state of version {version} are of no use to it", state.len()))
    }
}

impl Endpoint {
    /// Makes an endpoint of weight 1 at `ip:port` or `[ip]:port`, of which nothing else is known.
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

    /// The address and port of the endpoint.
    ///
    /// ```
    /// use sluicegate_sdk::Endpoint;
    /// let endpoint = Endpoint::new("[fd00::1]:80");
    /// assert_eq!(endpoint.socket_address().map(|address| address.port()), Some(80));
    /// ```
    pub fn socket_address(&self) -> Option<std::net::SocketAddr> {
        self.address.parse().ok()
    }

    /// The value of a label of the endpoint's pod.
    ///
    /// ```
    /// use sluicegate_sdk::Endpoint;
    /// let endpoint = Endpoint { labels: vec![("tier".into(), "gold".into())], ..Endpoint::new("10.0.0.1:80") };
    /// assert_eq!((endpoint.label("tier"), endpoint.label("app")), (Some("gold"), None));
    /// ```
    pub fn label(&self, name: &str) -> Option<&str> {
        find(&self.labels, name)
    }

    /// The value of an annotation of the endpoint's pod, if [`Balancer::ANNOTATIONS`] asks for annotations.
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

    /// Returns 64 uniform random bits, different ones at each call. They are not for secrets.
    ///
    /// ```
    /// # use sluicegate_sdk::{Pick, testing::FakeHost};
    /// let pick = Pick::fake(&FakeHost::default());
    /// assert_ne!(pick.random(), pick.random());
    /// ```
    pub fn random(&self) -> u64 {
        host::split_mix(&self.random)
    }

    /// Returns a uniform random index below `n`, and 0 if `n` is 0.
    ///
    /// ```
    /// # use sluicegate_sdk::{Pick, testing::FakeHost};
    /// assert!(Pick::fake(&FakeHost::default()).below(3) < 3);
    /// ```
    pub fn below(&self, n: usize) -> usize {
        host::below(self.random(), n)
    }
}

// An index that does not fit the host's `u32` is out of range there, too, and the host answers as for an endpoint without statistics.
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

/// The outcome of a pick.
///
/// ```
/// let outcome = sluicegate_sdk::Outcome { endpoint: 0, success: true, latency_us: 900 };
/// assert!(outcome.success);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The index of the endpoint.
    pub endpoint: usize,
    /// Whether the endpoint answered without an error of its own (5xx).
    pub success: bool,
    /// The time to the response's head, or for TCP the time of connecting, in microseconds.
    pub latency_us: u32,
}

/// The component that [`export_balancer!`](crate::export_balancer) exports.
pub struct BalancerComponent<B, N>(PhantomData<(B, N)>);

/// The balancer of one pool. The host never calls a resource while a call of it is under way, so the borrow cannot fail.
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
