//! A run of a discovery plugin, on a thread of its own, so that what it computes delays nobody here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use sluicegate_host::background::Priority;
use sluicegate_model::discovery::{DiscoveryGeneration, Event, Events};
use sluicegate_model::plugin::{PluginError, Stage};
use sluicegate_model::pool::unique;
use tokio::sync::{Notify, mpsc, oneshot};

use super::outbox::Outbox;
use super::share::Share;

/// How long a plugin that has ended for the first time waits before it is started anew.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a task must have run for the pauses to begin anew when it ends.
const PROVEN: Duration = Duration::from_secs(10);

/// A task that has ended and waits to be started anew: its plugin, its number, and why it has ended.
pub(super) type Ended = (String, u64, PluginError);

/// A plugin's task.
pub(super) struct Task {
    /// The number of the task; the plugin's next task has another.
    pub(super) number: u64,
    /// The id of the generation that runs.
    pub(super) generation: u64,
    events: mpsc::UnboundedSender<Vec<Event>>,
    pub(super) outbox: Arc<Outbox>,
    /// The kinds whose objects the plugin watches.
    pub(super) watched: BTreeSet<String>,
    /// How much of what it publishes control takes.
    pub(super) share: Share,
    /// Ends its thread when it is dropped.
    _stop: oneshot::Sender<()>,
    /// Why the plugin's task before this one has ended, if nothing was published since.
    pub(super) ended: Option<PluginError>,
    started: Instant,
    /// How long the plugin's next task waits, if this one ends.
    pause: Duration,
    /// Ends the pause before a task is started anew.
    hurry: Arc<Notify>,
}

/// How the tasks of all plugins report to control.
#[derive(Clone)]
pub(super) struct Reports {
    /// A task has ended.
    pub(super) ended: mpsc::UnboundedSender<Ended>,
    /// A task has published something.
    pub(super) published: Arc<Notify>,
}

impl Task {
    /// Starts a task; after a pause, if it is not the plugin's first.
    pub(super) fn start(name: &str, plugin: Arc<dyn DiscoveryGeneration>, after: Option<Duration>, reports: &Reports) -> Self {
        let (number, generation) = (unique(), plugin.generation().id);
        let (events, inbox) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let hurry = Arc::new(Notify::new());
        let outbox = Arc::new(Outbox::new(reports.published.clone()));
        let (hurried, publisher, ended, plugin_name) = (hurry.clone(), outbox.clone(), reports.ended.clone(), name.to_owned());
        let task = async move {
            if let Some(after) = after {
                tokio::select! { () = tokio::time::sleep(after) => {}, () = hurried.notified() => {} }
            }
            plugin.run(Box::new(Inbox { inbox, change: Vec::new().into_iter() }), publisher).await
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let started = runtime.and_then(|runtime| {
            std::thread::Builder::new().name("discovery".to_owned()).spawn(move || {
                Priority::Discover.take();
                runtime.block_on(async {
                    tokio::select! {
                        error = task => {
                            // Control ends only together with the process.
                            let _ = ended.send((plugin_name, number, error));
                        }
                        _ = stopped => {}
                    }
                });
                // A look-up of a name may still be under way, and is not waited for.
                runtime.shutdown_background();
            })
        });
        if let Err(reason) = started {
            let error = PluginError { plugin: name.into(), stage: Stage::Run, reason: format!("it has no thread: {reason}") };
            let _ = reports.ended.send((name.to_owned(), number, error));
        }
        Self {
            number,
            generation,
            events,
            outbox,
            watched: BTreeSet::new(),
            share: Share::new(Instant::now()),
            _stop: stop,
            ended: None,
            started: Instant::now(),
            pause: FIRST_PAUSE,
            hurry,
        }
    }

    /// Starts the task after this one, which has ended by `error`.
    pub(super) fn start_anew(self, name: &str, plugin: Arc<dyn DiscoveryGeneration>, error: PluginError, reports: &Reports) -> Self {
        let pause = if self.started.elapsed() > PROVEN + self.pause { FIRST_PAUSE } else { self.pause };
        tracing::error!(%error, ?pause, "the discovery task ended; it is started anew after a pause");
        let mut anew = Self::start(name, plugin, Some(pause), reports);
        // What the plugin has used of its share stays used.
        anew.share = self.share;
        anew.pause = (pause * 2).min(LONGEST_PAUSE);
        anew.ended = Some(error);
        anew
    }

    /// Tells the task one change, which may be of several objects.
    pub(super) fn send(&self, change: Vec<Event>) {
        if !change.is_empty() {
            // A task that has ended has dropped its receiver; it is told everything when it is started anew.
            let _ = self.events.send(change);
        }
    }

    /// Ends the pause before the task runs, as what made the last one end may be mended.
    pub(super) fn hurry(&mut self) {
        self.pause = FIRST_PAUSE;
        self.hurry.notify_one();
    }
}

/// The events of a task. Control drops the sender only together with the task.
struct Inbox {
    inbox: mpsc::UnboundedReceiver<Vec<Event>>,
    /// What is left of the change that is being told.
    change: std::vec::IntoIter<Event>,
}

impl Events for Inbox {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Some(event) = self.change.next() {
                return Poll::Ready(event);
            }
            match self.inbox.poll_recv(cx) {
                Poll::Ready(Some(change)) => self.change = change.into_iter(),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn try_next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.change.next() {
                return Some(event);
            }
            self.change = self.inbox.try_recv().ok()?.into_iter();
        }
    }

    fn is_within_a_change(&self) -> bool {
        !self.change.as_slice().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_of_a_change_come_one_by_one_and_are_told_to_belong_together() {
        let (send, inbox) = mpsc::unbounded_channel();
        let mut events = Inbox { inbox, change: Vec::new().into_iter() };
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(events.poll_next(&mut context).is_pending() && events.try_next().is_none() && !events.is_within_a_change());
        send.send(Vec::new()).expect("sent");
        send.send(vec![Event::Synced, Event::Synced]).expect("sent");
        send.send(vec![Event::Synced]).expect("sent");
        assert!(matches!(events.poll_next(&mut context), Poll::Ready(Event::Synced)) && events.is_within_a_change());
        assert!(events.try_next().is_some() && !events.is_within_a_change(), "the change is told");
        assert!(events.try_next().is_some() && !events.is_within_a_change());
        assert!(events.try_next().is_none());
    }
}
