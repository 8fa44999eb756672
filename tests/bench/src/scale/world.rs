//! Configurations on disk: many Services with a policy and ten endpoints each, or many routes on one Gateway. Few of the endpoints exist: those of the
//! Service that gets load, and the one that is changed; the others are addresses that nobody connects to.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::peers::write;

/// The range from which each Service has a cluster IP.
pub(super) const CLUSTER_IPS: &str = "127.213.0.0/16";
pub(super) const ENDPOINTS: u32 = 10;
/// The Service that gets load; all its endpoints exist.
const LOADED: u32 = 0;
/// The Service that is changed.
pub(super) const CHANGED: u32 = 1;

/// One of the two endpoints between which changes switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    A,
    B,
}

impl Side {
    /// The two in turn.
    pub(super) fn of(number: usize) -> Self {
        if number.is_multiple_of(2) { Self::B } else { Self::A }
    }

    /// The address of the endpoint.
    pub(super) fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 0, if self == Self::A { 2 } else { 3 })
    }

    pub(super) fn name(self) -> &'static str {
        if self == Self::A { "a" } else { "b" }
    }
}

/// The addresses that exist: those of both sides, and further ones of the Service that gets load.
pub(super) fn real() -> impl Iterator<Item = Ipv4Addr> {
    (0..ENDPOINTS as u8).map(|i| Ipv4Addr::new(127, 0, 0, 2 + i))
}

/// Addresses that nobody connects to.
pub(super) fn unreal(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 128, 0, 0)) + number)
}

/// Services in a folder, with a file for each.
pub(super) struct Services {
    pub(super) folder: PathBuf,
    count: u32,
    backend: u16,
}

impl Services {
    pub(super) fn lay_down(folder: PathBuf, count: u32, backend: u16) -> Result<Self, String> {
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let services = Self { folder, count, backend };
        for number in 0..count {
            services.put(number, Side::A, false)?;
        }
        Ok(services)
    }

    pub(super) fn loaded() -> SocketAddr {
        at(LOADED)
    }

    pub(super) fn changed() -> SocketAddr {
        at(CHANGED)
    }

    /// The address of a Service that comes and goes.
    pub(super) fn further(&self) -> SocketAddr {
        at(self.count)
    }

    /// Gives the changed Service this endpoint.
    pub(super) fn endpoint(&self, side: Side) -> Result<(), String> {
        self.put(CHANGED, side, false)
    }

    /// Gives the changed Service's policy a limit of one request a day, or removes it.
    pub(super) fn policy(&self, limited: bool) -> Result<(), String> {
        self.put(CHANGED, Side::A, limited)
    }

    pub(super) fn add(&self) -> Result<(), String> {
        self.put(self.count, Side::A, false)
    }

    pub(super) fn remove(&self) -> Result<(), String> {
        std::fs::remove_file(self.file(self.count)).map_err(|e| e.to_string())
    }

    fn file(&self, number: u32) -> PathBuf {
        self.folder.join(format!("service-{number}.yaml"))
    }

    /// Writes a Service's file. Someone who deploys a service has its objects in one file.
    fn put(&self, number: u32, side: Side, limited: bool) -> Result<(), String> {
        let objects = of_service(number, self.count, side, limited, self.backend);
        replace(&self.file(number), &objects.map(|o| o.to_string()).join("\n---\n"))
    }
}

/// The name of a Service and its objects.
pub(super) fn name(number: u32) -> String {
    format!("service-{number}")
}

/// The Service of a number, its EndpointSlice and its policy; `count` is the number of the Service that comes and goes.
pub(super) fn of_service(number: u32, count: u32, side: Side, limited: bool, backend: u16) -> [Value; 3] {
    let name = name(number);
    let endpoint = |address: Ipv4Addr, ready: bool| json!({"addresses": [address.to_string()], "conditions": {"ready": ready}});
    let unreal = |i: u32| unreal(number * ENDPOINTS + i);
    let endpoints: Vec<Value> = match number {
        LOADED => real().map(|address| endpoint(address, true)).collect(),
        n if n == CHANGED || n == count => {
            let others = (1..ENDPOINTS).map(|i| endpoint(unreal(i), false));
            std::iter::once(endpoint(side.address(), true)).chain(others).collect()
        }
        _ => (0..ENDPOINTS).map(|i| endpoint(unreal(i), true)).collect(),
    };
    let mut policy = json!({"targetRefs": [{"kind": "Service", "name": name}], "loadBalancer": {"plugin": "least-request"}});
    if limited {
        policy["rateLimit"] = json!({"type": "Local", "local": {"rules": [{"limit": {"requests": 1, "unit": "Day"}}]}});
    }
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
            "clusterIP": at(number).ip().to_string(), "ports": [{"port": 80, "targetPort": backend, "appProtocol": "http"}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": endpoints, "ports": [{"port": backend, "protocol": "TCP"}]}),
        json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "BackendTrafficPolicy", "metadata": {"name": name}, "spec": policy}),
    ]
}

/// The cluster IP of a Service.
pub(super) fn ip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 213, 1, 0)) + number)
}

fn at(number: u32) -> SocketAddr {
    SocketAddr::from((ip(number), 80))
}

/// The form in which routes are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// As the rules of one policy, in one file.
    Policy,
    /// As HTTPRoutes with one rule each, in a file each.
    HttpRoutes,
}

/// Many routes on one Gateway to two Services, and Services with endpoints that routes may lead to.
pub(super) struct Routes {
    pub(super) folder: PathBuf,
    pub(super) at: SocketAddr,
    form: Form,
    count: u32,
}

impl Routes {
    pub(super) fn lay_down(folder: PathBuf, form: Form, count: u32, at: SocketAddr, backend: u16) -> Result<Self, String> {
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let objects = of_gateway(at, backend);
        replace(&folder.join("gateway.yaml"), &objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n"))?;
        let routes = Self { folder, at, form, count };
        match form {
            Form::Policy => routes.route(Side::A)?,
            Form::HttpRoutes => (0..count).try_for_each(|number| routes.http_route(number, Side::A))?,
        }
        Ok(routes)
    }

    /// The path of the route that is changed, in the middle of the others.
    pub(super) fn changed(&self) -> String {
        path(self.count / 2)
    }

    /// Makes the changed route lead to this side.
    pub(super) fn route(&self, side: Side) -> Result<(), String> {
        if self.form == Form::HttpRoutes {
            return self.http_route(self.count / 2, side);
        }
        let rule = |number: u32| rule(number, if number == self.count / 2 { side } else { Side::A });
        let policy = json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "ClientTrafficPolicy", "metadata": {"name": "edge"}, "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}],
            "router": {"plugin": "rules", "config": {"rules": (0..self.count).map(rule).collect::<Vec<_>>()}}}});
        replace(&self.folder.join("routes.yaml"), &policy.to_string())
    }

    fn http_route(&self, number: u32, side: Side) -> Result<(), String> {
        replace(&self.folder.join(format!("route-{number}.yaml")), &of_route(number, side).to_string())
    }
}

/// A Gateway at an address, and the two Services to which routes lead.
pub(super) fn of_gateway(at: SocketAddr, backend: u16) -> Vec<Value> {
    let mut objects = vec![json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge"}, "spec": {
        "gatewayClassName": "sluicegate", "addresses": [{"type": "IPAddress", "value": at.ip().to_string()}],
        "listeners": [{"name": "web", "port": at.port(), "protocol": "HTTP"}]}})];
    for side in [Side::A, Side::B] {
        let name = side.name();
        objects.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"port": 80, "targetPort": backend, "appProtocol": "http"}]}}));
        objects.push(json!({"apiVersion": "sluicegate.dev/v1alpha1", "kind": "BackendTrafficPolicy", "metadata": {"name": name}, "spec": {
            "targetRefs": [{"kind": "Service", "name": name}],
            "discovery": {"plugin": "static", "config": {"endpoints": [format!("{}:{backend}", side.address())]}}}}));
    }
    objects
}

/// The HTTPRoute of a number.
pub(super) fn of_route(number: u32, side: Side) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": format!("route-{number}")},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": [rule(number, side)]}})
}

/// A rule, as it is written in both forms.
fn rule(number: u32, side: Side) -> Value {
    json!({"matches": [{"path": {"type": "PathPrefix", "value": path(number)}}], "backendRefs": [{"name": side.name(), "port": 80}]})
}

pub(super) fn path(number: u32) -> String {
    format!("/route-{number}/")
}

/// Writes a file beside the old one, and renames it into place.
pub(super) fn replace(file: &Path, text: &str) -> Result<(), String> {
    let beside = file.with_extension("partial");
    write(&beside, text)?;
    std::fs::rename(&beside, file).map_err(|e| format!("{}: {e}", file.display()))
}
