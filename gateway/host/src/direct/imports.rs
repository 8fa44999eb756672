//! What a core module imports: the functions of the contract, lowered. Each reads its parameters of the guest's memory and calls what the component's imports
//! call as well.

use wasmtime::{Caller, Extern, Linker, Result, Trap, bail};

use super::{BALANCING, ROUTING};
use crate::bindings::balancer::sluicegate::plugin::{host, metrics, shared, statistics};
use crate::state::State;
use crate::state::boundary::{Boundary, View};

const HOST: &str = "sluicegate:plugin/host@0.2.0";
const METRICS: &str = "sluicegate:plugin/metrics@0.2.0";
const SHARED: &str = "sluicegate:plugin/shared@0.2.0";
const STATISTICS: &str = "sluicegate:plugin/statistics@0.2.0";
/// The interfaces that export resources, and these.
const RESOURCES: [(&str, &str); 2] = [(BALANCING, "pool"), (ROUTING, "table")];

pub(super) fn add_to(linker: &mut Linker<State>) -> Result<()> {
    for (interface, resource) in RESOURCES {
        let module = format!("[export]{interface}");
        linker.func_wrap(&module, &format!("[resource-new]{resource}"), |mut caller: Caller<'_, State>, number: u32| -> Result<u32> {
            leave(&caller)?;
            caller.data_mut().handles.add(number)
        })?;
        linker.func_wrap(&module, &format!("[resource-rep]{resource}"), |caller: Caller<'_, State>, handle: u32| -> Result<u32> {
            caller.data().handles.get(handle)
        })?;
        let destructor = format!("{interface}#[dtor]{resource}");
        linker.func_wrap(
            &module,
            &format!("[resource-drop]{resource}"),
            move |mut caller: Caller<'_, State>, handle: u32| -> Result<()> {
                leave(&caller)?;
                let number = caller.data_mut().handles.take(handle)?;
                let Some(free) = caller.get_export(&destructor).and_then(Extern::into_func) else { return Ok(()) };
                free.typed::<u32, ()>(&caller)?.call(&mut caller, number)
            },
        )?;
    }
    add_host(linker)?;
    add_metrics(linker)?;
    add_shared(linker)?;
    add_statistics(linker)
}

/// While the host has it allocate or free, a guest may not call out.
fn leave(caller: &Caller<'_, State>) -> Result<()> {
    if !caller.data().may_leave {
        bail!(Trap::CannotLeaveComponent);
    }
    Ok(())
}

fn add_host(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(HOST, "random", |mut caller: Caller<'_, State>| -> Result<u64> {
        leave(&caller)?;
        Ok(host::Host::random(caller.data_mut()))
    })?;
    linker.func_wrap(
        HOST,
        "log",
        |mut caller: Caller<'_, State>, level: u32, text: u32, length: u32, fields: u32, count: u32| -> Result<()> {
            leave(&caller)?;
            let level = match level {
                0 => host::Level::Debug,
                1 => host::Level::Info,
                2 => host::Level::Warn,
                3 => host::Level::Error,
                other => bail!("unexpected discriminant: {other}"),
            };
            let (mut view, state) = Boundary::of_caller(&mut caller)?;
            let message = view.text((text, length))?.to_owned();
            let places = view.list((fields, count), 24, 8)?;
            let fields = places.map(|at| Ok((view.text_at(at)?.to_owned(), value(&mut view, at.wrapping_add(8))?)));
            let fields = fields.collect::<Result<Vec<_>>>()?;
            host::Host::log(state, level, message, fields);
            Ok(())
        },
    )?;
    Ok(())
}

fn value(view: &mut View<'_>, at: u32) -> Result<host::Value> {
    let of = at.wrapping_add(8);
    Ok(match view.case(at, 4)? {
        0 => host::Value::Text(view.text_at(of)?.to_owned()),
        1 => host::Value::Integer(view.u64(of)?.cast_signed()),
        2 => host::Value::Number(f64::from_bits(view.u64(of)?)),
        _ => host::Value::Boolean(view.bool(of)?),
    })
}

fn add_metrics(linker: &mut Linker<State>) -> Result<()> {
    type Definition = (u32, u32, u32, u32, u32, u32, u32, u32, u32);
    let define = |mut caller: Caller<'_, State>,
                  (name, name_length, help, help_length, kind, labels, label_count, bounds, bound_count): Definition,
                  to: u32|
     -> Result<()> {
        leave(&caller)?;
        let (mut view, state) = Boundary::of_caller(&mut caller)?;
        let definition = metrics::Definition {
            name: view.text((name, name_length))?.to_owned(),
            help: view.text((help, help_length))?.to_owned(),
            kind: match kind {
                0 => metrics::Kind::Counter,
                1 => metrics::Kind::Gauge,
                2 => metrics::Kind::Histogram,
                other => bail!("unexpected discriminant: {other}"),
            },
            labels: view.texts((labels, label_count))?,
            bounds: view.list((bounds, bound_count), 8, 8)?.map(|at| view.u64(at).map(f64::from_bits)).collect::<Result<_>>()?,
        };
        let defined = metrics::Host::define(state, definition);
        numbered(caller, to, defined)
    };
    linker.func_wrap(
        METRICS,
        "define",
        move |caller: Caller<'_, State>, a: u32, b: u32, c: u32, d: u32, e: u32, f: u32, g: u32, h: u32, i: u32, to: u32| {
            define(caller, (a, b, c, d, e, f, g, h, i), to)
        },
    )?;
    linker.func_wrap(METRICS, "series", |mut caller: Caller<'_, State>, metric: u32, values: u32, count: u32, to: u32| -> Result<()> {
        leave(&caller)?;
        let (mut view, state) = Boundary::of_caller(&mut caller)?;
        let values = view.texts((values, count))?;
        let series = metrics::Host::series(state, metric, values);
        numbered(caller, to, series)
    })?;
    for (name, count) in
        [("add", metrics::Host::add as fn(&mut State, u32, f64)), ("set", metrics::Host::set), ("observe", metrics::Host::observe)]
    {
        linker.func_wrap(METRICS, name, move |mut caller: Caller<'_, State>, series: u32, amount: f64| -> Result<()> {
            leave(&caller)?;
            count(caller.data_mut(), series, amount);
            Ok(())
        })?;
    }
    Ok(())
}

/// Answers with `result<u32, failure>` of the metrics.
fn numbered(mut caller: Caller<'_, State>, to: u32, result: Result<u32, metrics::Failure>) -> Result<()> {
    let answer = Answer::at(&mut caller, to, 16, 4)?;
    answer.case(&mut caller, 0, result.is_err())?;
    match result {
        Ok(number) => answer.bytes(&mut caller, 4, &number.to_le_bytes()),
        Err(metrics::Failure::Invalid(reason)) => {
            answer.case(&mut caller, 4, false)?;
            answer.list(&mut caller, 8, reason.as_bytes())
        }
        Err(metrics::Failure::Full) => answer.case(&mut caller, 4, true),
    }
}

/// A result that is written to where the guest wants it, part by part: what is no part of it stays as it is.
struct Answer {
    boundary: Boundary,
    to: u32,
}

impl Answer {
    fn at(caller: &mut Caller<'_, State>, to: u32, size: u32, align: u32) -> Result<Self> {
        let Some(boundary) = caller.data().boundary.clone() else { bail!(Trap::CannotEnterComponent) };
        let (view, _) = Boundary::of_caller(caller)?;
        view.result(to, size, align)?;
        Ok(Self { boundary, to })
    }

    fn bytes(&self, caller: &mut Caller<'_, State>, at: u32, bytes: &[u8]) -> Result<()> {
        self.boundary.write(caller, self.to + at, bytes)
    }

    /// The discriminant of one of two cases.
    fn case(&self, caller: &mut Caller<'_, State>, at: u32, second: bool) -> Result<()> {
        self.bytes(caller, at, &[u8::from(second)])
    }

    /// A string or list of bytes that the guest is given.
    fn list(&self, caller: &mut Caller<'_, State>, at: u32, bytes: &[u8]) -> Result<()> {
        let (pointer, length) = self.boundary.bytes(&mut *caller, bytes)?;
        self.boundary.numbers(caller, self.to + at, [pointer, length])
    }
}

fn option(case: u32, value: u64) -> Result<Option<u64>> {
    match case {
        0 => Ok(None),
        1 => Ok(Some(value)),
        _ => bail!("invalid option discriminant"),
    }
}

fn add_shared(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(SHARED, "get", |mut caller: Caller<'_, State>, key: u32, length: u32, to: u32| -> Result<()> {
        leave(&caller)?;
        let (mut view, state) = Boundary::of_caller(&mut caller)?;
        let key = view.text((key, length))?.to_owned();
        let entry = shared::Host::get(state, key);
        let answer = Answer::at(&mut caller, to, 24, 8)?;
        answer.case(&mut caller, 0, entry.is_some())?;
        let Some(entry) = entry else { return Ok(()) };
        answer.list(&mut caller, 8, &entry.value)?;
        answer.bytes(&mut caller, 16, &entry.version.to_le_bytes())
    })?;
    linker.func_wrap(
        SHARED,
        "set",
        |mut caller: Caller<'_, State>, key: u32, length: u32, value: u32, bytes: u32, ttl: u32, ttl_ms: u64, to: u32| -> Result<()> {
            leave(&caller)?;
            let (mut view, state) = Boundary::of_caller(&mut caller)?;
            let (key, value) = (view.text((key, length))?.to_owned(), view.bytes((value, bytes))?.to_owned());
            let ttl = option(ttl, ttl_ms)?;
            let set = shared::Host::set(state, key, value, ttl);
            stored(caller, to, set)
        },
    )?;
    type Exchange = (u32, u32, u32, u64, u32, u32, u32, u64);
    let exchange =
        |mut caller: Caller<'_, State>, (key, length, is_expected, expected, value, bytes, ttl, ttl_ms): Exchange, to: u32| -> Result<()> {
            leave(&caller)?;
            let (mut view, state) = Boundary::of_caller(&mut caller)?;
            let (key, expected) = (view.text((key, length))?.to_owned(), option(is_expected, expected)?);
            let (value, ttl) = (view.bytes((value, bytes))?.to_owned(), option(ttl, ttl_ms)?);
            let set = shared::Host::compare_and_set(state, key, expected, value, ttl);
            stored(caller, to, set)
        };
    linker.func_wrap(
        SHARED,
        "compare-and-set",
        move |caller: Caller<'_, State>, a: u32, b: u32, c: u32, d: u64, e: u32, f: u32, g: u32, h: u64, to: u32| {
            exchange(caller, (a, b, c, d, e, f, g, h), to)
        },
    )?;
    linker.func_wrap(
        SHARED,
        "add",
        |mut caller: Caller<'_, State>, key: u32, length: u32, amount: u64, ttl: u32, ttl_ms: u64, to: u32| -> Result<()> {
            leave(&caller)?;
            let (mut view, state) = Boundary::of_caller(&mut caller)?;
            let (key, ttl) = (view.text((key, length))?.to_owned(), option(ttl, ttl_ms)?);
            let sum = shared::Host::add(state, key, amount.cast_signed(), ttl);
            stored(caller, to, sum.map(i64::cast_unsigned))
        },
    )?;
    linker.func_wrap(SHARED, "remove", |mut caller: Caller<'_, State>, key: u32, length: u32| -> Result<u32> {
        leave(&caller)?;
        let (mut view, state) = Boundary::of_caller(&mut caller)?;
        let key = view.text((key, length))?.to_owned();
        Ok(u32::from(shared::Host::remove(state, key)))
    })?;
    Ok(())
}

/// Answers with `result<u64, failure>` of the shared state.
fn stored(mut caller: Caller<'_, State>, to: u32, result: Result<u64, shared::Failure>) -> Result<()> {
    let answer = Answer::at(&mut caller, to, 16, 8)?;
    answer.case(&mut caller, 0, result.is_err())?;
    match result {
        Ok(number) => answer.bytes(&mut caller, 8, &number.to_le_bytes()),
        Err(failure) => {
            let case = match failure {
                shared::Failure::Full => 0,
                shared::Failure::TooLarge => 1,
                shared::Failure::Conflict => 2,
                shared::Failure::NotANumber => 3,
            };
            answer.bytes(&mut caller, 8, &[case])
        }
    }
}

fn add_statistics(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(STATISTICS, "condition-of", |mut caller: Caller<'_, State>, endpoint: u32| -> Result<u32> {
        leave(&caller)?;
        Ok(match statistics::Host::condition_of(caller.data_mut(), endpoint) {
            statistics::Condition::Healthy => 0,
            statistics::Condition::Warming => 1,
            statistics::Condition::Pending => 2,
            statistics::Condition::Ejected => 3,
            statistics::Condition::Unhealthy => 4,
        })
    })?;
    linker.func_wrap(STATISTICS, "in-flight", |mut caller: Caller<'_, State>, endpoint: u32| -> Result<u32> {
        leave(&caller)?;
        Ok(statistics::Host::in_flight(caller.data_mut(), endpoint))
    })?;
    linker.func_wrap(STATISTICS, "latency", |mut caller: Caller<'_, State>, endpoint: u32| -> Result<u32> {
        leave(&caller)?;
        Ok(statistics::Host::latency(caller.data_mut(), endpoint))
    })?;
    linker.func_wrap(STATISTICS, "success", |mut caller: Caller<'_, State>, endpoint: u32| -> Result<f32> {
        leave(&caller)?;
        Ok(statistics::Host::success(caller.data_mut(), endpoint))
    })?;
    Ok(())
}
