//! The ground that all rooms of a worker stand on: the [`View`] of what is served, the [`delta`] to the next one, the [`decider`], [`admission`], the [`places`]
//! that connections take, statistics, the access log and the time. It knows no protocol.

pub(crate) mod admission;
pub(crate) mod decider;
pub(crate) mod delta;
pub(crate) mod places;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use ::http::HeaderValue;
use ipnet::IpNet;
use sluicegate_model::requests::Requests;
use sluicegate_model::route::Protocol;
use sluicegate_model::settings::contains;
use sluicegate_model::snapshot::{Listener, ServicePort, Side, Snapshot};
use sluicegate_model::stats::ProxyStats;
use sluicegate_model::telemetry::Tracer;
use sluicegate_model::tls::Acme;

use crate::access::Log;
use admission::Admission;
use decider::Decider;

/// A snapshot as one worker holds it. Requests share it by `Rc`, so that no two workers write one reference count.
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
}

impl View {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Rc<Self> {
        Rc::new(Self { snapshot })
    }

    /// The TCP listener of an address.
    pub(crate) fn listener(&self, address: SocketAddr) -> Option<&Listener> {
        self.snapshot.listeners.get(&(Protocol::Tcp, address)).map(Arc::as_ref)
    }

    /// The UDP listener of an address.
    pub(crate) fn datagrams(&self, address: SocketAddr) -> Option<&Arc<Listener>> {
        self.snapshot.listeners.get(&(Protocol::Udp, address))
    }
}

/// What all connections of a worker share, whatever they speak. It belongs to one thread, so there are no locks.
pub(crate) struct Core {
    view: RefCell<Rc<View>>,
    /// The number of views that this worker has had.
    views: Cell<u64>,
    pub(crate) decider: RefCell<Decider>,
    pub(crate) stats: Arc<ProxyStats>,
    pub(crate) admission: Arc<Admission>,
    /// This worker's end of the access log; none: there is no log.
    pub(crate) log: Option<Rc<Log>>,
    /// Who samples requests.
    pub(crate) requests: Arc<Requests>,
    /// Which exchanges are traced, and where their spans go; none: none are.
    pub(crate) tracer: Option<Arc<Tracer>>,
    /// Whether the worker stops.
    pub(crate) stopping: Cell<bool>,
    /// The `Date` of answers, which is renewed each second.
    pub(crate) date: RefCell<HeaderValue>,
    /// Whether endpoints of Services with `externalTrafficPolicy: Local` see clients' addresses, but for clients in these networks.
    keep_clients: Option<Arc<[IpNet]>>,
    /// The challenges of ACME's orders, which are answered here.
    pub(crate) acme: Arc<Acme>,
    /// Seconds since the worker's start.
    pub(crate) clock: Rc<Cell<u64>>,
}

impl Core {
    pub(crate) fn new(
        stats: Arc<ProxyStats>,
        log: Option<Rc<Log>>,
        tracer: Option<Arc<Tracer>>,
        admission: Arc<Admission>,
        keep_clients: Option<Arc<[IpNet]>>,
        requests: Arc<Requests>,
        acme: Arc<Acme>,
    ) -> Rc<Self> {
        Rc::new(Self {
            view: RefCell::new(View::new(Arc::default())),
            views: Cell::new(0),
            decider: RefCell::default(),
            stats,
            admission,
            log,
            requests,
            tracer,
            stopping: Cell::new(false),
            date: RefCell::new(date()),
            keep_clients,
            acme,
            clock: Rc::default(),
        })
    }

    /// The client's address, if an endpoint of this service port is to see the client as its peer.
    pub(crate) fn source(&self, service: &ServicePort, side: Side, client: IpAddr) -> Option<IpAddr> {
        let but = self.keep_clients.as_ref()?;
        let client = client.to_canonical();
        (service.local && side == Side::External && !client.is_loopback() && !contains(but, client)).then_some(client)
    }

    /// The newest snapshot.
    pub(crate) fn view(&self) -> Rc<View> {
        self.view.borrow().clone()
    }

    /// Shows a new view.
    pub(crate) fn show(&self, view: Rc<View>) {
        *self.view.borrow_mut() = view;
        self.views.set(self.views.get() + 1);
    }

    /// Whether HTTP requests are still taken at an address. `known`: the last answer, and the view that it is of.
    pub(crate) fn serves_http(&self, address: SocketAddr, known: &mut (u64, bool)) -> bool {
        if known.0 != self.views.get() {
            *known = (self.views.get(), self.view.borrow().listener(address).is_some_and(|l| l.front.serves_http()));
        }
        known.1
    }

    pub(crate) fn hand_over_log(&self) {
        if let Some(log) = &self.log {
            log.hand_over();
        }
    }

    pub(crate) fn renew_date(&self) {
        *self.date.borrow_mut() = date();
    }
}

fn date() -> HeaderValue {
    let now = httpdate::fmt_http_date(SystemTime::now());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(now)).unwrap_or_else(|_| HeaderValue::from_static(""))
}
