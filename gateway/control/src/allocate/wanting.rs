//! Those who are allocated something: Services, and Gateways, which may have a load balancer address.

use std::sync::Arc;

use sluicegate_config::family::ServiceFamilies;
use sluicegate_config::object::{Body, Gateway, Named, Object, ObjectKey, Service, ServiceSpec, error};
use sluicegate_model::family::IpFamily;
use sluicegate_model::fault::Fault;
use sluicegate_model::route::PortProtocol;

/// The id of a holder: `namespace/name` of a Service; other kinds stand before it.
pub(super) fn id(key: &ObjectKey) -> String {
    let Named { kind, namespace, name } = &**key;
    if kind == "Service" { format!("{namespace}/{name}") } else { format!("{kind}/{namespace}/{name}") }
}

/// The id as people are shown it.
pub(super) fn shown(id: &str) -> String {
    match id.split_once('/') {
        Some((kind, rest)) if rest.contains('/') => format!("{kind} {rest}"),
        _ => format!("Service {id}"),
    }
}

/// A Service or Gateway, with what bears on allocation.
pub(super) struct Wanting<'a> {
    pub(super) object: &'a Arc<Object>,
    pub(super) service: Option<&'a Service>,
    /// The Gateway, if it is one. It may have a load balancer address, and nothing else.
    pub(super) gateway: Option<&'a Gateway>,
    pub(super) id: String,
    pub(super) ports: Vec<Port>,
    pub(super) families: ServiceFamilies,
}

impl<'a> Wanting<'a> {
    pub(super) fn new(object: &'a Arc<Object>, configured: &[IpFamily], faults: &mut Vec<Fault>) -> Option<Self> {
        let id = id(&object.key);
        let service = match &object.body {
            Body::Service(service) => service,
            Body::Gateway(gateway) => {
                let families = ServiceFamilies::default();
                return Some(Self { object, service: None, gateway: Some(&**gateway), id, ports: Vec::new(), families });
            }
            _ => return None,
        };
        let (families, unconfigured) = service.spec.as_ref().map(|spec| ServiceFamilies::resolve(spec, configured)).unwrap_or_default();
        for (path, what) in unconfigured {
            let message = format!("Service {:?} is invalid: {path}: {what}", object.key.name);
            let hint =
                "a range of each family in --service-cluster-ip-range, as in 127.96.0.0/16,fd96::/112; its other addresses are served";
            faults.push(error(&object.origin, &object.key, &path, message, Some(hint.to_owned())));
        }
        Some(Self { object, service: Some(&**service), gateway: None, id, ports: ports(service), families })
    }

    /// The `spec`, if it is a Service.
    pub(super) fn spec(&self) -> Option<&'a ServiceSpec> {
        self.service?.spec.as_ref()
    }

    /// The type, if it is a Service.
    pub(super) fn type_(&self) -> Option<&str> {
        self.service.map(|_| self.spec().and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP"))
    }
}

pub(super) struct Port {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) protocol: PortProtocol,
    pub(super) node_port: Option<i32>,
}

impl Port {
    pub(super) fn key(&self, service: &str) -> String {
        format!("{service}:{}/{}", self.port, self.protocol)
    }
}

pub(super) fn ports(service: &Service) -> Vec<Port> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten()).enumerate();
    ports
        .filter_map(|(index, p)| {
            Some(Port {
                index,
                name: p.name.clone().unwrap_or_default(),
                port: u16::try_from(p.port).ok()?,
                protocol: PortProtocol::named(p.protocol.as_deref()),
                node_port: p.node_port.filter(|n| *n != 0),
            })
        })
        .collect()
}
