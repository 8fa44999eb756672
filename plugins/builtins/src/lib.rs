//! The list of the built-in plugins, and which of them serve where no object names one.
//!
//! Everything else follows from it: `plugins/build.rs` builds and embeds what is listed here, `sluicegate-config` lets objects name it, and tests compare the
//! tables of `plugins/README.md` and `config/README.md` with it. A plugin is added by its folder, a line here, a member in the root `Cargo.toml`, and a row in
//! each of the two tables.

/// What a built-in plugin decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The plugin decides which endpoint of a pool serves.
    Balancer,
    /// The plugin decides which endpoints exist.
    Discovery,
    /// The plugin decides which rule and backend takes a request.
    Router,
}

impl Kind {
    /// The name of the kind in `Plugin` objects.
    pub fn name(self) -> &'static str {
        match self {
            Self::Balancer => "balancer",
            Self::Discovery => "discovery",
            Self::Router => "router",
        }
    }
}

/// All built-in plugins, by the name that objects use, which is also that of the plugin's folder.
pub const BUILTINS: &[(&str, Kind)] = &[
    ("bounded-load", Kind::Balancer),
    (DEFAULT_BALANCER, Kind::Balancer),
    ("maglev", Kind::Balancer),
    ("peak-ewma", Kind::Balancer),
    ("priority", Kind::Balancer),
    ("random", Kind::Balancer),
    ("rendezvous", Kind::Balancer),
    ("ring-hash", Kind::Balancer),
    ("round-robin", Kind::Balancer),
    ("slow-start", Kind::Balancer),
    ("sticky", Kind::Balancer),
    ("zone-aware", Kind::Balancer),
    ("consul", Kind::Discovery),
    (DNS, Kind::Discovery),
    ("file", Kind::Discovery),
    ("http", Kind::Discovery),
    (DEFAULT_DISCOVERY, Kind::Discovery),
    (STATIC, Kind::Discovery),
    (RULES, Kind::Router),
];

/// The balancer of a service port whose policy names none.
pub const DEFAULT_BALANCER: &str = "least-request";
/// The discovery plugin of a service port whose policy names none.
pub const DEFAULT_DISCOVERY: &str = "kubernetes";
/// The discovery plugin of endpoints that are written into an object.
pub const STATIC: &str = "static";
/// The discovery plugin of host names that a `Backend` names.
pub const DNS: &str = "dns";
/// The router that the Gateway API's routes are written for.
pub const RULES: &str = "rules";

/// Whether a discovery plugin publishes only what the operator's own objects say: Pods, EndpointSlices, and the lists in policies. Such a plugin asks no server
/// and reads no file.
pub fn publishes_objects(name: &str) -> bool {
    matches!(name, DEFAULT_DISCOVERY | STATIC)
}
