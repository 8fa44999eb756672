//! A balancer's exports.

use sluicegate_model::plugin::Saved;
use sluicegate_model::pool::Endpoint;
use wasmtime::{InstancePre, Result, Store, TypedFunc, bail};

use super::{Destructor, Export, plain};
use crate::bindings::balancer::exports::sluicegate::plugin::balancing::{Outcome, PickContext, Wants};
use crate::state::State;
use crate::state::boundary::Boundary;

pub(crate) const BALANCING: &str = "sluicegate:plugin/balancing@0.2.0";
/// The size of an endpoint's record.
const ENDPOINT: u32 = 56;

/// An instance of a balancer's core module.
pub(crate) struct Balancer {
    boundary: Boundary,
    open: Export<(u32, u32)>,
    wants: TypedFunc<u32, u32>,
    update: TypedFunc<(u32, u32, u32), ()>,
    pick: Export<(u32, u32, u64, u32, u64)>,
    report: TypedFunc<(u32, u32, u32, u32), ()>,
    save: Export<u32>,
    restore: Export<(u32, u32, u32, u32)>,
    free: Destructor,
}

impl Balancer {
    pub(crate) fn start(pre: &InstancePre<State>, store: &mut Store<State>) -> Result<Self> {
        let (instance, boundary) = super::instantiate(pre, store)?;
        Ok(Self {
            open: Export::of(&instance, store, BALANCING, "[static]pool.open")?,
            wants: instance.get_typed_func(&mut *store, &format!("{BALANCING}#[method]pool.wants"))?,
            update: plain(&instance, store, BALANCING, "[method]pool.update")?,
            pick: Export::of(&instance, store, BALANCING, "[method]pool.pick")?,
            report: plain(&instance, store, BALANCING, "[method]pool.report")?,
            save: Export::of(&instance, store, BALANCING, "[method]pool.save")?,
            restore: Export::of(&instance, store, BALANCING, "[method]pool.restore")?,
            free: Destructor::of(&instance, store, BALANCING, "pool"),
            boundary,
        })
    }

    pub(crate) fn open(&self, store: &mut Store<State>, config: &str) -> Result<Result<u32, String>> {
        let (at, length) = self.boundary.text(&mut *store, config)?;
        let opened = self.open.call(store, &self.boundary, (at, length), |view, at| {
            let at = view.place(at, 12, 4)?;
            Ok(match view.u8(at)? {
                0 => Ok(view.u32(at + 4)?),
                1 => Err(view.text_at(at + 4)?.to_owned()),
                _ => bail!("invalid expected discriminant"),
            })
        })?;
        match opened {
            Ok(handle) => store.data_mut().handles.take(handle).map(Ok),
            Err(reason) => Ok(Err(reason)),
        }
    }

    pub(crate) fn wants(&self, store: &mut Store<State>, pool: u32) -> Result<Wants> {
        let bits = self.wants.call(&mut *store, pool)?;
        let wants = [Wants::REPORTS, Wants::ANNOTATIONS, Wants::STATE].into_iter().enumerate();
        let wants = wants.filter(|(bit, _)| bits & (1 << bit) != 0);
        Ok(wants.fold(Wants::empty(), |all, (_, one)| all | one))
    }

    pub(crate) fn update(&self, store: &mut Store<State>, pool: u32, endpoints: &[Endpoint], wants: Wants) -> Result<()> {
        let block = self.boundary.allocate(&mut *store, 4, endpoints.len() * ENDPOINT as usize)?;
        for (endpoint, at) in endpoints.iter().zip((block..).step_by(ENDPOINT as usize)) {
            let annotations = if wants.contains(Wants::ANNOTATIONS) { &endpoint.annotations[..] } else { &[] };
            self.lower(store, endpoint, annotations, at)?;
        }
        self.update.call(&mut *store, (pool, block, u32::try_from(endpoints.len())?))
    }

    fn lower(&self, store: &mut Store<State>, endpoint: &Endpoint, annotations: &[(String, String)], at: u32) -> Result<()> {
        let boundary = &self.boundary;
        boundary.text_to(&mut *store, at, &endpoint.address.to_string())?;
        boundary.numbers(&mut *store, at + 8, [endpoint.weight])?;
        boundary.option_to(&mut *store, at + 12, endpoint.zone.as_deref())?;
        boundary.option_to(&mut *store, at + 24, endpoint.node.as_deref())?;
        boundary.write(&mut *store, at + 36, &[u8::from(endpoint.terminating)])?;
        for (pairs, at) in [(&endpoint.labels[..], at + 40), (annotations, at + 48)] {
            let block = boundary.allocate(&mut *store, 4, pairs.len() * 16)?;
            for ((key, value), at) in pairs.iter().zip((block..).step_by(16)) {
                boundary.text_to(&mut *store, at, key)?;
                boundary.text_to(&mut *store, at + 8, value)?;
            }
            boundary.numbers(&mut *store, at, [block, u32::try_from(pairs.len())?])?;
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn pick(&self, store: &mut Store<State>, pool: u32, context: PickContext) -> Result<Option<u32>> {
        let parameters = (pool, u32::from(context.hash.is_some()), context.hash.unwrap_or(0), context.attempt, context.random);
        self.pick.call(store, &self.boundary, parameters, |view, at| {
            let at = view.place(at, 8, 4)?;
            match view.u8(at)? {
                0 => Ok(None),
                1 => view.u32(at + 4).map(Some),
                _ => bail!("invalid option discriminant"),
            }
        })
    }

    pub(crate) fn report(&self, store: &mut Store<State>, pool: u32, outcome: Outcome) -> Result<()> {
        self.report.call(&mut *store, (pool, outcome.endpoint, u32::from(outcome.success), outcome.latency_us))
    }

    pub(crate) fn save(&self, store: &mut Store<State>, pool: u32) -> Result<Saved> {
        let most = store.hostcall_fuel();
        self.save.call(store, &self.boundary, pool, |view, at| {
            view.limit(most);
            let at = view.place(at, 12, 4)?;
            let version = view.u32(at)?;
            let data = view.span(at + 4)?;
            Ok(Saved { version, data: view.bytes(data)?.to_owned() })
        })
    }

    pub(crate) fn restore(&self, store: &mut Store<State>, pool: u32, saved: &Saved) -> Result<Result<(), String>> {
        let (at, length) = self.boundary.bytes(&mut *store, &saved.data)?;
        self.restore.call(store, &self.boundary, (pool, saved.version, at, length), |view, at| {
            let at = view.place(at, 12, 4)?;
            Ok(match view.u8(at)? {
                0 => Ok(()),
                1 => Err(view.text_at(at + 4)?.to_owned()),
                _ => bail!("invalid expected discriminant"),
            })
        })
    }

    pub(crate) fn free(&self, store: &mut Store<State>, pool: u32) -> Result<()> {
        self.free.call(store, pool)
    }
}
