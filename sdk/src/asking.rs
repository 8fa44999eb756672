//! Runs a discovery plugin that asks the network or reads files. It waits for events, answers, changed files and refreshes at the same time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ask::{Ask, Reply};
use crate::bindings::discovery::sluicegate::plugin::{files, objects};
use crate::bindings::discovery::wasi::clocks::monotonic_clock::subscribe_duration;
use crate::bindings::discovery::wasi::io::poll::{Pollable, poll};
use crate::clock;
use crate::discovery::{Discovery, resolve, tell};
use crate::driver::{Driver, Ticket};
use crate::{http, names};

/// The longest time between two calls of `next`, by which the host sees that the guest is alive.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long to wait before asking again, if the gateway has no room for more questions and none is under way whose end could make room.
const AGAIN: Duration = Duration::from_millis(100);

enum Underway {
    Http(http::Exchange),
    Names(names::Underway),
}

impl Underway {
    /// Begins to ask a question. `None`: the gateway has no room for it now.
    fn begin(ask: &Ask) -> Option<Result<Self, Reply>> {
        Some(match ask {
            Ask::Http(request) => match http::Exchange::begin(request.clone()) {
                Err(http::Error::Busy) => return None,
                begun => begun.map(Self::Http).map_err(|error| Reply::Http(Err(error))),
            },
            Ask::Names(query) => match names::Underway::begin(query) {
                Err(names::Failure::Busy) => return None,
                begun => begun.map(Self::Names).map_err(|failure| Reply::Names(vec![Err(failure); query.questions.len()])),
            },
        })
    }

    fn poll(&mut self) -> Option<Reply> {
        match self {
            Self::Http(exchange) => exchange.poll().map(Reply::Http),
            Self::Names(look_up) => look_up.poll().map(Reply::Names),
        }
    }

    fn pollable(&self) -> Pollable {
        match self {
            Self::Http(exchange) => exchange.pollable(),
            Self::Names(look_up) => look_up.pollable(),
        }
    }
}

pub(crate) fn run<D: Discovery>() -> ! {
    let mut driver = Driver::<D>::default();
    let mut waiting: VecDeque<(Ticket, Ask)> = VecDeque::new();
    let mut underway: Vec<(Ticket, Underway)> = Vec::new();
    // This comes before the first reading, so that no change between the two is missed.
    let mut changed = D::FILES.then(files::changed);
    // The loop ends when the host drops the task.
    loop {
        let mut came = resolve(&mut driver);
        waiting.extend(driver.asks());
        waiting.retain(|(ticket, _)| driver.waits(*ticket));
        underway.retain(|(ticket, _)| driver.waits(*ticket));
        let full = begin(&mut driver, &mut waiting, &mut underway);
        // This call does not wait. It lets the host take in what was published.
        came.extend(objects::next(Some(0)));
        let news = !came.is_empty();
        driver.take(clock::monotonic(), came);
        if news {
            continue;
        }
        wait(&driver, changed.as_ref(), full, &underway);
        if changed.as_ref().is_some_and(Pollable::ready) {
            changed = Some(files::changed());
            driver.stir();
        }
        let mut at = 0;
        while at < underway.len() {
            match underway[at].1.poll() {
                None => at += 1,
                Some(reply) => {
                    let (ticket, _) = underway.swap_remove(at);
                    take_in(&mut driver, ticket, reply);
                }
            }
        }
        driver.take(clock::monotonic(), objects::next(Some(0)));
    }
}

/// Asks as many questions as the gateway has room for. Returns whether some are left for which there was no room.
fn begin<D: Discovery>(driver: &mut Driver<D>, waiting: &mut VecDeque<(Ticket, Ask)>, underway: &mut Vec<(Ticket, Underway)>) -> bool {
    while let Some((ticket, ask)) = waiting.pop_front() {
        match Underway::begin(&ask) {
            Some(Ok(begun)) => underway.push((ticket, begun)),
            Some(Err(reply)) => {
                take_in(driver, ticket, reply);
                waiting.extend(driver.asks());
            }
            None => {
                waiting.push_front((ticket, ask));
                return true;
            }
        }
    }
    false
}

fn take_in<D: Discovery>(driver: &mut Driver<D>, ticket: Ticket, reply: Reply) {
    if let Some((target, finding)) = driver.answered(ticket, reply, clock::monotonic) {
        tell(&target, finding);
    }
}

fn wait<D: Discovery>(driver: &Driver<D>, changed: Option<&Pollable>, full: bool, underway: &[(Ticket, Underway)]) {
    let due = driver.timeout_ms(clock::monotonic()).map(Duration::from_millis);
    let wait = if full { AGAIN } else { LONGEST_WAIT };
    let wait = due.map_or(wait, |due| due.min(wait));
    let events = objects::subscribe();
    let timer = subscribe_duration(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
    let answers: Vec<Pollable> = underway.iter().map(|(_, underway)| underway.pollable()).collect();
    let mut all: Vec<&Pollable> = vec![&events, &timer];
    all.extend(changed);
    all.extend(&answers);
    poll(&all);
}
