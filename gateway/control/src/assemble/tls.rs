//! TLS configurations, which outlive snapshots: one is kept as long as its settings stay the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use sluicegate_config::plan::{PlannedEndpointTls, PlannedTlsHost, PlannedTlsMode};
use sluicegate_config::status::Uncertified;
use sluicegate_model::fault::{Fault, Severity};
use sluicegate_model::persistent::Map;
use sluicegate_model::route::Protocol;
use sluicegate_model::snapshot::{At, EndpointTls, Front, Listener, TlsMode};
use sluicegate_model::tls::acme::Ask;
use sluicegate_model::tls::{Acme, ServerSettings, ServerTls, TicketSecrets, UpstreamTls};

use crate::port::PortId;

/// An address and one of its host names.
type Place = (SocketAddr, Option<String>);

/// The TLS configurations that were made.
#[derive(Default)]
pub(crate) struct Tls {
    servers: HashMap<Place, Arc<ServerTls>>,
    endpoints: HashMap<PortId, Arc<UpstreamTls>>,
    secrets: Arc<TicketSecrets>,
    /// What ACME has brought.
    acme: Arc<Acme>,
    /// What listeners ask ACME's issuers for.
    asks: BTreeMap<Place, Arc<Ask>>,
}

impl Tls {
    /// Has no configurations yet. The keys of session tickets are made from `secrets`.
    pub(crate) fn new(secrets: Arc<TicketSecrets>) -> Self {
        Self { secrets, ..Self::default() }
    }

    /// With the certificates that ACME brings.
    pub(crate) fn with_acme(self, acme: Arc<Acme>) -> Self {
        Self { acme, ..self }
    }

    /// What listeners ask ACME's issuers for.
    pub(crate) fn asks(&self) -> impl Iterator<Item = &Arc<Ask>> {
        self.asks.values()
    }

    /// The listeners that have nothing to show until their first certificate is issued, and what they wait for.
    pub(crate) fn awaiting(&self) -> Uncertified {
        let waits = |(place, ask): (&Place, &Arc<Ask>)| {
            self.servers.get(place)?.lacks("")?;
            let what = format!("no certificate is issued yet for {}: handshakes are refused", ask.names.join(", "));
            Some(((ask.object.clone(), ask.listener.clone()), what))
        };
        self.asks.iter().filter_map(waits).collect()
    }

    /// The addresses whose listeners ask ACME's issuers for something.
    pub(crate) fn asking(&self) -> BTreeSet<SocketAddr> {
        self.asks.keys().map(|(address, _)| *address).collect()
    }

    /// What becomes of TLS at one host name of a listener.
    pub(crate) fn mode(&mut self, address: SocketAddr, host: &PlannedTlsHost, faults: &mut Vec<Fault>) -> TlsMode {
        let mut server = |settings| self.server((address, host.hostname.clone()), settings, faults);
        match &host.mode {
            PlannedTlsMode::Passthrough => TlsMode::Passthrough,
            PlannedTlsMode::Tcp(settings) => TlsMode::Tcp(server(settings)),
            PlannedTlsMode::Http(settings) => TlsMode::Http(server(settings)),
        }
    }

    fn server(&mut self, place: Place, settings: &Arc<ServerSettings>, faults: &mut Vec<Fault>) -> Arc<ServerTls> {
        // Where it is asked may have changed, although nothing else has.
        match &settings.acme {
            Some(ask) => _ = self.asks.insert(place.clone(), ask.clone()),
            None => _ = self.asks.remove(&place),
        }
        let known = self.servers.get(&place);
        if let Some(known) = known.filter(|k| Arc::ptr_eq(&k.settings, settings) || k.settings == *settings) {
            return known.clone();
        }
        let tickets = self.secrets.tickets(place.0, place.1.as_deref(), settings);
        let made = ServerTls::build_with(settings.clone(), tickets, &self.acme).unwrap_or_else(|error| {
            faults.push(fault(format!("TLS on {} for {:?}: {error}", place.0, place.1.as_deref().unwrap_or("*"))));
            ServerTls::refusing(settings.clone())
        });
        let made = Arc::new(made);
        self.servers.insert(place, made.clone());
        made
    }

    /// How TLS is spoken with the endpoints of a service port.
    pub(crate) fn endpoint(&mut self, service: &PortId, planned: &PlannedEndpointTls, faults: &mut Vec<Fault>) -> EndpointTls {
        let settings = match planned {
            PlannedEndpointTls::Off => return EndpointTls::Off,
            PlannedEndpointTls::Untold => return EndpointTls::Untold,
            PlannedEndpointTls::Broken => return EndpointTls::Broken,
            PlannedEndpointTls::On(settings) => settings,
        };
        if let Some(known) = self.endpoints.get(service).filter(|k| Arc::ptr_eq(&k.settings, settings) || k.settings == *settings) {
            return EndpointTls::On(known.clone());
        }
        match UpstreamTls::build(settings.clone()) {
            Ok(made) => {
                let made = Arc::new(made);
                self.endpoints.insert(service.clone(), made.clone());
                EndpointTls::On(made)
            }
            Err(error) => {
                faults.push(fault(format!("TLS towards the endpoints of {}: {error}", service.0)));
                EndpointTls::Broken
            }
        }
    }

    /// Drops the configurations of listeners that are gone.
    pub(crate) fn forget(&mut self, listeners: &Map<At, Listener>) {
        let serves = |(address, hostname): &Place| {
            let listener = listeners.get(&(Protocol::Tcp, *address));
            listener.is_some_and(|l| matches!(&l.front, Front::Tls(hosts) if hosts.named(hostname.as_deref()).is_some()))
        };
        self.servers.retain(|place, _| serves(place));
        self.asks.retain(|place, _| serves(place));
    }

    /// Drops the configuration of a service port that is gone.
    pub(crate) fn forget_endpoints(&mut self, service: &PortId) {
        self.endpoints.remove(service);
    }
}

fn fault(message: String) -> Fault {
    Fault { severity: Severity::Error, place: None, object: None, message, expected: None }
}
