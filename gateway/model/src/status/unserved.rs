//! What is not served although the configuration asks for it, and why: the body of `/readyz`.

use super::Status;
use crate::fault::Severity;
use crate::route::PortProtocol;

/// The number of lines that are shown. If there are more, their number is told.
const MOST: usize = 100;

impl Status {
    /// The lines: first what is wrong with the configuration or could not be listened on, then service ports without a ready endpoint.
    pub fn unserved(&self) -> Vec<String> {
        let errors = self.faults.iter().filter(|fault| fault.severity == Severity::Error).map(|fault| {
            let object = fault.object.as_ref().filter(|object| !fault.message.contains(object.as_str()));
            let object = object.map(|object| format!("{object}: ")).unwrap_or_default();
            let place = fault.place.as_ref().map(|place| format!(" ({}:{})", place.file.display(), place.line)).unwrap_or_default();
            format!("not as configured: {object}{}{place}", fault.message)
        });
        let forwarded = self.services.iter().filter(|service| !matches!(service.type_.as_str(), "Headless" | "ExternalName"));
        let ports = forwarded.flat_map(|service| service.ports.iter().map(move |port| (service, port)));
        let idle = ports
            .filter(|(_, port)| port.protocol.forwarded().is_some() && !port.endpoints.iter().any(|endpoint| endpoint.ready))
            .map(|(service, port)| {
                let protocol = if port.protocol == PortProtocol::Udp { "/UDP" } else { "" };
                format!("no ready endpoint: {}/{}:{}{protocol}", service.namespace, service.name, port.port)
            });
        let mut lines = errors.chain(idle);
        let mut shown: Vec<String> = lines.by_ref().take(MOST).collect();
        let left = lines.count();
        if left > 0 {
            shown.push(format!("and {left} more"));
        }
        shown
    }
}
