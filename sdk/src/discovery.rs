//! Discovery: the trait, what it publishes, and the component that the host runs. [`crate::driver`] decides which services are asked again, and when.

use std::marker::PhantomData;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ask::{Ask, Next, Reply};
use crate::bindings::discovery::exports::sluicegate::plugin::discovering as wit;
use crate::bindings::discovery::sluicegate::plugin::types::{Description, PluginKind};
use crate::bindings::discovery::sluicegate::plugin::{objects, publishing};
use crate::clock;
use crate::config::{self, Named};
use crate::driver::{Driver, Finding};
use crate::host;
use crate::objects::{Object, Objects};

pub use publishing::Endpoint as PublishedEndpoint;

/// How long published endpoints may wait for the host to take them in while other services are asked.
const TELL: Duration = Duration::from_millis(50);

/// Finds the endpoints of services. One value serves one service; the SDK opens it, asks it, and publishes what has changed.
///
/// ```
/// use sluicegate_sdk::{Discovery, Objects, PublishedEndpoint, Service, resolve, schemars::JsonSchema, serde::Deserialize, serde_json::Value, testing};
///
/// #[derive(Deserialize, JsonSchema)]
/// #[serde(crate = "sluicegate_sdk::serde", deny_unknown_fields)]
/// #[schemars(crate = "sluicegate_sdk::schemars")]
/// struct Config { host: String }
///
/// struct ByName(Config);
///
/// impl Discovery for ByName {
///     type Config = Config;
///
///     fn open(_: &Service, config: Config) -> Result<Self, String> {
///         Ok(Self(config))
///     }
///
///     fn endpoints(&mut self, _: &Service, _: &Objects) -> Result<Vec<PublishedEndpoint>, String> {
///         let found = resolve(&self.0.host).map_err(|error| error.to_string())?;
///         Ok(found.into_iter().map(|ip| PublishedEndpoint::new(ip.to_string(), 80)).collect())
///     }
/// }
///
/// sluicegate_sdk::export_discovery!(ByName);
///
/// testing::resolves("web.example", &["10.0.0.1".parse().unwrap()]);
/// let service = Service { namespace: "shop".into(), name: "web".into(), object: Value::Null };
/// let mut by_name = ByName::open(&service, Config { host: "web.example".into() }).unwrap();
/// assert_eq!(by_name.endpoints(&service, &Objects::default()).unwrap()[0].address, "10.0.0.1");
/// ```
pub trait Discovery: Sized + 'static {
    /// The configuration, which policies set. Give every field a default: a policy may leave the configuration out, which arrives as `{}`.
    type Config: DeserializeOwned + JsonSchema;

    /// The kinds of objects to watch, such as `Pod`. Secrets are never given to plugins.
    const WATCHES: &'static [&'static str] = &[];

    /// Whether the plugin asks the network by [`Discovery::ask`]. A plugin that does not is built without the code for that.
    const ASKS: bool = false;

    /// Whether a change of a file that the plugin may read ([`crate::files`]) is a reason to ask for the endpoints again.
    const FILES: bool = false;

    /// Begins a service. This is called again when the Service or its configuration has changed. The text of an error is shown to the operator.
    fn open(service: &Service, config: Self::Config) -> Result<Self, String>;

    /// Removes from an object, before it is kept, what the plugin never looks at: a plugin's memory is limited, and a cluster has many Pods. [`Objects`] and
    /// all functions of this trait show only what is left.
    fn trim(object: &mut Object) {
        let _ = object;
    }

    /// Removes from a Service, before it is kept, what the plugin has read in [`Discovery::open`] and does not look at again: there may be thousands of
    /// Services.
    fn trim_service(service: &mut Service) {
        let _ = service;
    }

    /// Returns which services a change of this object might [concern](Discovery::concerns). A narrow answer saves asking all the others, which may be
    /// thousands.
    fn concerned(object: &Object) -> Concerned {
        let _ = object;
        Concerned::All
    }

    /// Whether a change of this object can change the service's endpoints. This is called with the old and with the new version of the object.
    fn concerns(&self, service: &Service, object: &Object) -> bool {
        let _ = (service, object);
        true
    }

    /// After what time to ask for the endpoints again although no object has changed, counted from when they were last asked for. Less than 100 ms counts as
    /// that.
    fn refresh(&self) -> Option<Duration> {
        None
    }

    /// Returns what to ask the network in order to find the endpoints. The answer comes to [`Discovery::answered`], and other services do not wait for it. If
    /// this returns `None`, [`Discovery::endpoints`] is called. It is only called if [`Discovery::ASKS`] is set.
    fn ask(&mut self, service: &Service) -> Option<Ask> {
        let _ = service;
        None
    }

    /// Takes the answer to what was asked last, and returns the endpoints or another question. After an error the last endpoints stay, and the text of the
    /// error is shown to the operator.
    fn answered(&mut self, service: &Service, reply: Reply) -> Result<Next, String> {
        let _ = (service, reply);
        Err("the plugin does not say what follows from an answer".to_owned())
    }

    /// Returns the service's endpoints. This may send requests ([`crate::http`]) and look up names ([`crate::resolve`]); other services wait meanwhile. After
    /// an error the last endpoints stay, and the text of the error is shown to the operator.
    fn endpoints(&mut self, service: &Service, objects: &Objects) -> Result<Vec<PublishedEndpoint>, String> {
        let _ = (service, objects);
        Err("the plugin does not say what the endpoints are".to_owned())
    }
}

/// The services that a change of an object may concern; see [`Discovery::concerned`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concerned {
    /// Any Service may be concerned.
    All,
    /// Services of the object's namespace may be concerned.
    Namespace,
    /// The Service of this name in the object's namespace may be concerned.
    Service(String),
    /// No Service is concerned.
    Nobody,
}

/// A Service to find endpoints for.
///
/// ```
/// use sluicegate_sdk::{Service, serde_json::json};
/// let service = Service { namespace: "shop".into(), name: "web".into(), object: json!({"spec": {"ports": [{"port": 80}]}}) };
/// assert_eq!(service.object["spec"]["ports"][0]["port"], 80);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The namespace of the Service.
    pub namespace: String,
    /// The name of the Service.
    pub name: String,
    /// The whole Service, or what [`Discovery::trim_service`] has left of it.
    pub object: Value,
}

impl PublishedEndpoint {
    /// Makes a ready endpoint of weight 1 at an IP address and port, which serves all ports of the service.
    ///
    /// ```
    /// use sluicegate_sdk::PublishedEndpoint;
    /// let endpoint = PublishedEndpoint { zone: Some("a".into()), ..PublishedEndpoint::new("10.0.0.1", 80) };
    /// assert!(endpoint.ready && endpoint.weight == 1);
    /// ```
    pub fn new(address: impl Into<String>, port: u16) -> Self {
        Self {
            address: address.into(),
            port,
            port_name: None,
            ready: true,
            serving: true,
            terminating: false,
            weight: 1,
            zone: None,
            node: None,
            hint_zones: Vec::new(),
            hint_nodes: Vec::new(),
            labels: Vec::new(),
            annotations: Vec::new(),
        }
    }
}

/// The component that [`export_discovery!`](crate::export_discovery) exports.
pub struct DiscoveryComponent<D, N>(PhantomData<(D, N)>);

impl<D: Discovery, N: Named> wit::Guest for DiscoveryComponent<D, N> {
    fn describe() -> Description {
        host::report_panics();
        Description {
            name: config::plugin_name(N::NAME),
            version: N::VERSION.to_owned(),
            kind: PluginKind::Discovery,
            config_schema: config::schema::<D::Config>(),
        }
    }

    fn run() -> Result<(), String> {
        host::report_panics();
        objects::watch(&D::WATCHES.iter().map(|kind| (*kind).to_owned()).collect::<Vec<_>>());
        #[cfg(target_arch = "wasm32")]
        if D::ASKS || D::FILES {
            crate::asking::run::<D>()
        }
        let mut driver = Driver::<D>::default();
        let mut early = Vec::new();
        // The loop ends when the host drops the task, which waits in `next`.
        loop {
            let timeout = if early.is_empty() { driver.timeout_ms(clock::monotonic()) } else { Some(0) };
            early.extend(objects::next(timeout));
            driver.take(clock::monotonic(), std::mem::take(&mut early));
            early = resolve(&mut driver);
        }
    }
}

/// Asks for the endpoints that are due and tells the host. Returns the events that came meanwhile.
pub(crate) fn resolve<D: Discovery>(driver: &mut Driver<D>) -> Vec<objects::Event> {
    let mut early = Vec::new();
    let mut told = clock::monotonic();
    driver.resolve(clock::monotonic, |target, finding| {
        tell(target, finding);
        // The host takes in published endpoints while the guest waits. A slow source of one service must not hold back the endpoints of others.
        if clock::monotonic() - told > TELL {
            early.extend(objects::next(Some(0)));
            told = clock::monotonic();
        }
    });
    early
}

pub(crate) fn tell(target: &objects::Key, finding: Option<Finding>) {
    match finding {
        Some(Finding::Endpoints(endpoints)) => publishing::publish(target, &endpoints),
        Some(Finding::Failed(reason)) => publishing::fail(target, &reason),
        None => {}
    }
}
