//! The addresses of a Gateway: those that it names, one that is chosen for it, or all of this machine.

use super::*;

/// An address of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayAddress {
    /// The address that listeners are bound to. The unspecified address means all addresses of this machine.
    pub listen: IpAddr,
    /// The addresses that clients use.
    pub shown: Vec<IpAddr>,
}

/// The addresses that a Gateway asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedAddresses {
    /// The addresses that the Gateway names.
    pub named: Vec<IpAddr>,
    /// Whether an address is to be chosen for the Gateway, as it names none or has an entry without a value.
    pub open: bool,
}

impl AskedAddresses {
    /// Reads what a Gateway asks for. Values that are neither an address nor empty are ignored.
    pub fn of(gateway: &Gateway) -> Self {
        let given = gateway.spec.addresses.as_deref().unwrap_or_default();
        let mut asked = Self { named: Vec::new(), open: given.is_empty() };
        for address in given.iter().filter(|address| is_ip(address.r#type.as_deref())) {
            match value(address.value.as_deref()).map(str::parse) {
                None => asked.open = true,
                // One address may be written in two ways.
                Some(Ok(ip)) if !asked.named.contains(&ip) => asked.named.push(ip),
                Some(_) => {}
            }
        }
        asked
    }
}

fn is_ip(kind: Option<&str>) -> bool {
    kind.unwrap_or(IP) == IP
}

fn value(given: Option<&str>) -> Option<&str> {
    given.filter(|value| !value.is_empty())
}

/// The `type` of entries that are IP addresses.
const IP: &str = "IPAddress";

/// The addresses that a Gateway gets.
pub(super) struct Settled {
    pub(super) addresses: Vec<GatewayAddress>,
    /// Whether the Gateway can have all addresses that it asks for, as far as that is known before they are bound.
    pub(super) usable: Verdict,
    pub(super) accepted: Verdict,
}

impl Compiler<'_> {
    /// Settles the addresses of a Gateway. `defaults` are those of a Gateway that names none.
    pub(super) fn gateway_addresses(&mut self, object: &Object, gateway: &Gateway, defaults: &[IpAddr]) -> Settled {
        let AskedAddresses { named, open } = AskedAddresses::of(gateway);
        let mut settled = Settled { addresses: Vec::new(), usable: Ok(()), accepted: Ok(()) };
        for (i, address) in gateway.spec.addresses.iter().flatten().enumerate() {
            if let Some(kind) = address.r#type.as_deref().filter(|kind| !is_ip(Some(kind))) {
                let path = format!("spec.addresses[{i}].type");
                let message = format!("{path}: {kind:?} is no type of addresses that can be listened on");
                self.part.faults.push(warning(&object.origin, &object.key, &path, message.clone(), Some(IP.to_owned())));
                settled.accepted = Err(Refusal::new(Reason::UnsupportedAddress, message));
            } else if let Some(value) = value(address.value.as_deref()).filter(|value| value.parse::<IpAddr>().is_err()) {
                let path = format!("spec.addresses[{i}].value");
                let message = format!("{path}: {value:?} is not an IP address, and no other ones are listened on");
                self.part.faults.push(warning(&object.origin, &object.key, &path, message.clone(), None));
                settled.usable = Err(Refusal::new(Reason::AddressNotUsable, message));
            }
        }
        let mut listen = named;
        if open {
            let id = (object.key.namespace.clone(), object.key.name.clone());
            match self.allocations.gateways.get(&id) {
                _ if listen.is_empty() && settled.usable.is_ok() && !defaults.is_empty() => listen.extend(defaults),
                Some(chosen) if !chosen.is_empty() => listen.extend(chosen),
                // A Gateway that names an address does not ask for all of them.
                None if listen.is_empty() && settled.usable.is_ok() => listen.extend(self.settings.everywhere()),
                _ if settled.usable.is_ok() => {
                    let path = "spec.addresses";
                    let message = format!("{path}: there is no address left that could be chosen");
                    let hint = Some("the value of an address, or more loadBalancerAddresses".to_owned());
                    self.part.faults.push(warning(&object.origin, &object.key, path, message.clone(), hint));
                    settled.usable = Err(Refusal::new(Reason::AddressNotAssigned, message));
                }
                _ => {}
            }
        }
        for ip in listen {
            if !settled.addresses.iter().any(|known| known.listen == ip) {
                settled.addresses.push(GatewayAddress { listen: ip, shown: self.shown(ip) });
            }
        }
        settled
    }

    /// The addresses by which clients reach a listener that is bound to this one.
    fn shown(&self, ip: IpAddr) -> Vec<IpAddr> {
        if !ip.is_unspecified() {
            return vec![ip];
        }
        let (settings, everywhere) = (self.settings, &self.allocations.everywhere);
        if everywhere.iter().any(|own| own.is_ipv4() == ip.is_ipv4()) {
            return everywhere.iter().copied().filter(|own| own.is_ipv4() == ip.is_ipv4()).collect();
        }
        let here = if settings.node_addresses.is_empty() { &settings.own_addresses } else { &settings.node_addresses };
        here.iter().copied().filter(|own| own.is_ipv4() == ip.is_ipv4()).collect()
    }
}
