//! A router's exports, as far as workers call them: what is static of its tables, control has read of the component.

use sluicegate_model::route::{ListenerInfo, Transport};
use wasmtime::{InstancePre, Result, Store, bail};

use super::{Destructor, Export};
use crate::bindings::router::exports::sluicegate::plugin::routing::{Answer, Choice, Decision, Header, Interests, Method, Request};
use crate::state::State;
use crate::state::boundary::{Boundary, View};

pub(crate) const ROUTING: &str = "sluicegate:plugin/routing@0.2.0";
const CHANGING: &str = "sluicegate:plugin/changing@0.2.0";

/// The name, the port, the transport, the host name and the namespace.
type Listener = (u32, u32, u32, u32, u32, u32, u32, u32, u32);

/// An instance of a router's core module.
pub(crate) struct Router {
    boundary: Boundary,
    configure: Export<(u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32)>,
    change: Option<Export<(u32, u32, u32)>>,
    route: Export<(u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32)>,
    free: Destructor,
}

/// Elements of a list that stand in the place of others.
pub(crate) struct Splice<'s> {
    pub(crate) at: u32,
    pub(crate) removed: u32,
    pub(crate) inserted: Vec<&'s str>,
}

impl Router {
    pub(crate) fn start(pre: &InstancePre<State>, store: &mut Store<State>) -> Result<Self> {
        let (instance, boundary) = super::instantiate(pre, store)?;
        Ok(Self {
            configure: Export::of(&instance, store, ROUTING, "[static]table.configure")?,
            change: Export::of(&instance, store, CHANGING, "change").ok(),
            route: Export::of(&instance, store, ROUTING, "[method]table.route")?,
            free: Destructor::of(&instance, store, ROUTING, "table"),
            boundary,
        })
    }

    pub(crate) fn changes_tables(&self) -> bool {
        self.change.is_some()
    }

    /// The table, and what was read of it.
    pub(crate) fn configure(&self, store: &mut Store<State>, config: &str, listener: &ListenerInfo) -> Result<Result<(u32, Read), String>> {
        let (config, length) = self.boundary.text(&mut *store, config)?;
        let (name, name_length, port, transport, named, host, host_length, namespace, namespace_length) = self.listener(store, listener)?;
        let parameters = (config, length, name, name_length, port, transport, named, host, host_length, namespace, namespace_length);
        let made = self.configure.call(store, &self.boundary, parameters, |view, at| {
            let at = view.place(at, 36, 4)?;
            Ok(match view.u8(at)? {
                0 => Ok((view.u32(at + 4)?, configured(view, at + 8)?)),
                1 => Err(view.text_at(at + 4)?.to_owned()),
                _ => bail!("invalid expected discriminant"),
            })
        })?;
        match made {
            Ok((handle, read)) => Ok(Ok((store.data_mut().handles.take(handle)?, read))),
            Err(reason) => Ok(Err(reason)),
        }
    }

    fn listener(&self, store: &mut Store<State>, listener: &ListenerInfo) -> Result<Listener> {
        let (name, name_length) = self.boundary.text(&mut *store, &listener.name)?;
        let transport = match listener.transport {
            Transport::Http => 0,
            Transport::Tls => 1,
            Transport::Tcp => 2,
            Transport::Udp => 3,
        };
        let host = listener.hostname.as_deref();
        let (at, length) = host.map_or(Ok((0, 0)), |host| self.boundary.text(&mut *store, host))?;
        let (namespace, namespace_length) = self.boundary.text(&mut *store, &listener.namespace)?;
        Ok((name, name_length, listener.port.into(), transport, host.is_some().into(), at, length, namespace, namespace_length))
    }

    /// Changes a table. Returns what was read of the change; none: it cannot.
    pub(crate) fn change(&self, store: &mut Store<State>, table: u32, splices: &[Splice<'_>]) -> Result<Result<Option<Read>, String>> {
        let Some(change) = &self.change else { return Ok(Ok(None)) };
        let block = self.boundary.allocate(&mut *store, 4, splices.len() * 16)?;
        for (splice, at) in splices.iter().zip((block..).step_by(16)) {
            self.boundary.numbers(&mut *store, at, [splice.at, splice.removed])?;
            let inserted = self.boundary.allocate(&mut *store, 4, splice.inserted.len() * 8)?;
            for (text, at) in splice.inserted.iter().zip((inserted..).step_by(8)) {
                self.boundary.text_to(&mut *store, at, text)?;
            }
            self.boundary.numbers(&mut *store, at + 8, [inserted, u32::try_from(splice.inserted.len())?])?;
        }
        change.call(store, &self.boundary, (table, block, u32::try_from(splices.len())?), |view, at| {
            let at = view.place(at, 36, 4)?;
            Ok(match (view.u8(at)?, view.u8(at + 4)?) {
                (0, 0) => Ok(None),
                (0, 1) => Ok(Some(configured(view, at + 8)?)),
                (0, _) => bail!("invalid option discriminant"),
                (1, _) => Err(view.text_at(at + 4)?.to_owned()),
                _ => bail!("invalid expected discriminant"),
            })
        })
    }

    /// The guest's decision.
    #[inline]
    pub(crate) fn route(&self, store: &mut Store<State>, table: u32, request: Request<'_>) -> Result<Decision> {
        let boundary = &self.boundary;
        let (case, other, other_length) = match request.method {
            Method::Get => (0, 0, 0),
            Method::Head => (1, 0, 0),
            Method::Post => (2, 0, 0),
            Method::Put => (3, 0, 0),
            Method::Delete => (4, 0, 0),
            Method::Options => (5, 0, 0),
            Method::Patch => (6, 0, 0),
            Method::Other(name) => {
                let (at, length) = boundary.text(&mut *store, name)?;
                (7, at, length)
            }
        };
        let (host, host_length) = boundary.text(&mut *store, request.host)?;
        let (path, path_length) = boundary.text(&mut *store, request.path)?;
        let (given, values, count) = match request.values {
            None => (0, 0, 0),
            Some(values) => {
                let (at, count) = self.values(store, values)?;
                (1, at, count)
            }
        };
        let parameters = (table, case, other, other_length, host, host_length, path, path_length, given, values, count);
        self.route.call(store, boundary, parameters, decision)
    }

    fn values(&self, store: &mut Store<State>, values: &[Option<&str>]) -> Result<(u32, u32)> {
        let block = self.boundary.allocate(&mut *store, 4, values.len() * 12)?;
        for (value, at) in values.iter().zip((block..).step_by(12)) {
            self.boundary.option_to(&mut *store, at, *value)?;
        }
        Ok((block, u32::try_from(values.len())?))
    }

    pub(crate) fn free(&self, store: &mut Store<State>, table: u32) -> Result<()> {
        self.free.call(store, table)
    }
}

/// The number of rules, and what the table reads.
pub(crate) type Read = (u32, Interests);

fn configured(view: &mut View<'_>, at: u32) -> Result<Read> {
    let (_, count) = view.span(at)?;
    let interests = Interests {
        headers: view.texts_at(at + 8)?,
        cookies: view.texts_at(at + 16)?,
        query: view.bool(at + 24)?,
        client: view.bool(at + 25)?,
    };
    Ok((count, interests))
}

#[inline]
fn decision(view: &mut View<'_>, at: u32) -> Result<Decision> {
    let at = view.place(at, 24, 4)?;
    Ok(match view.case(at, 3)? {
        0 => {
            let backend = match view.u8(at + 8)? {
                0 => None,
                1 => Some(view.u32(at + 12)?),
                _ => bail!("invalid option discriminant"),
            };
            Decision::Matched(Choice { rule: view.u32(at + 4)?, backend, matched_prefix: view.u32(at + 16)? })
        }
        1 => {
            let headers = view.span(at + 8)?;
            let places = view.list(headers, 16, 4)?;
            let headers = places.map(|at| Ok(Header { name: view.text_at(at)?.to_owned(), value: view.text_at(at + 8)?.to_owned() }));
            let headers = headers.collect::<Result<_>>()?;
            Decision::Answer(Answer { status: view.u16(at + 4)?, headers, body: view.text_at(at + 16)?.to_owned() })
        }
        _ => Decision::NoMatch,
    })
}
