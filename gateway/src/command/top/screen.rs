//! The terminal: taken for the table, and given back however the command ends, also by a signal or a panic.

use std::io::{self, Stdout, Write as _, stdin, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Once};
use std::time::Duration;

use termion::clear::UntilNewline;
use termion::cursor::{Goto, Hide, Show};
use termion::event::Key;
use termion::input::TermRead as _;
use termion::raw::{IntoRawMode as _, RawTerminal};
use termion::screen::{ToAlternateScreen, ToMainScreen};
use termion::style::{Bold, Reset};
use termion::terminal_size;
use tokio::signal::unix::{SignalKind, signal};

use super::rates::{Look, Rates};
use super::view::{Asked, View};
use super::{Arguments, Kind};
use crate::command::at::At;

/// How soon a key is obeyed while nothing else happens.
const TICK: Duration = Duration::from_millis(100);

/// Shows the table until it is to end.
pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let mut view = View {
        kind: arguments.kind,
        sort: arguments.sort,
        reverse: false,
        filter: arguments.filter.clone(),
        typing: false,
        paused: false,
        above: 0,
        at: arguments.at.admin_address.to_string(),
        error: None,
    };
    // If the gateway does not answer at all, that is an error like any other command's.
    view.kind.look(&arguments.at)?;
    let told = told_to_end().map_err(|error| format!("signals: {error}"))?;
    let (wanted, looks) = looks(arguments.at.clone(), view.kind, arguments.interval());
    let mut screen = Screen::take().map_err(|error| format!("the terminal: {error}"))?;
    let keys = keys();
    let (mut last, mut rates): (Option<Look>, Option<Rates>) = (None, None);
    while !told.load(Ordering::Relaxed) {
        while let Ok((kind, look)) = looks.try_recv() {
            take(&mut view, kind, look, &mut last, &mut rates);
        }
        if let Some(rates) = &mut rates {
            rates.select(&view.filter, view.sort, view.reverse);
        }
        let page = screen.show(&mut view, rates.as_ref()).map_err(|error| format!("the terminal: {error}"))?;
        match keys.recv_timeout(TICK).map(|key| view.press(key, page)) {
            Ok(Asked::Quit) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(Asked::Kind) => {
                (last, rates) = (None, None);
                // Nobody takes it if the thread is gone, which is seen as no answer.
                let _ = wanted.send(view.kind);
            }
            Ok(Asked::Nothing) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
    Ok(())
}

/// Takes a look at the counters in.
fn take(view: &mut View, kind: Kind, look: Result<Look, String>, last: &mut Option<Look>, rates: &mut Option<Rates>) {
    if kind != view.kind {
        return;
    }
    match look {
        Ok(look) => {
            view.error = None;
            if let Some(last) = last.as_ref().filter(|_| !view.paused) {
                *rates = Some(Rates::between(last, &look));
            }
            *last = Some(look);
        }
        Err(error) => view.error = Some(error),
    }
}

/// A thread that looks at the counters, so that keys are obeyed while the gateway is slow. It is told what to look at, and ends when nobody takes its looks.
fn looks(at: At, mut kind: Kind, interval: Duration) -> (Sender<Kind>, Receiver<(Kind, Result<Look, String>)>) {
    let ((want, wanted), (give, looks)) = (channel(), channel());
    std::thread::spawn(move || {
        while give.send((kind, kind.look(&at))).is_ok() {
            match wanted.recv_timeout(interval) {
                Ok(other) => kind = other,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    (want, looks)
}

/// A thread that reads keys. It ends with the process, or when nobody can press any more.
fn keys() -> Receiver<Key> {
    let (press, keys) = channel();
    std::thread::spawn(move || {
        for key in stdin().keys().map_while(Result::ok) {
            if press.send(key).is_err() {
                return;
            }
        }
    });
    keys
}

/// Becomes true at SIGTERM or SIGHUP, after which the terminal is given back. What the terminal itself sends as signals are keys here.
fn told_to_end() -> io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut hangup) = {
        let _within = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    let told = Arc::new(AtomicBool::new(false));
    let tell = told.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = terminate.recv() => {}, _ = hangup.recv() => {} }
        });
        tell.store(true, Ordering::Relaxed);
    })?;
    Ok(told)
}

/// The terminal while it is ours.
struct Screen {
    /// It leaves the raw mode when it is dropped.
    out: RawTerminal<Stdout>,
    /// The size of the terminal, and the lines that were drawn last.
    drawn: ((u16, u16), Vec<String>),
}

impl Screen {
    fn take() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let said = std::panic::take_hook();
            // What a panic says must not be lost with the screen that it was said on.
            std::panic::set_hook(Box::new(move |panic| {
                leave();
                said(panic);
            }));
        });
        let mut screen = Self { out: stdout().into_raw_mode()?, drawn: ((0, 0), Vec::new()) };
        write!(screen.out, "{ToAlternateScreen}{Hide}")?;
        Ok(screen)
    }

    /// Draws the table, and returns how many rows of it are seen.
    fn show(&mut self, view: &mut View, rates: Option<&Rates>) -> io::Result<usize> {
        // The size may have changed.
        let size = terminal_size()?;
        let lines = view.lines(rates, (size.0.into(), size.1.into()));
        let now = (size, lines);
        if now != self.drawn {
            for (row, line) in (1_u16..).zip(&now.1) {
                write!(self.out, "{}", Goto(1, row))?;
                // The title and the head.
                if row <= 2 {
                    write!(self.out, "{Bold}{line}{Reset}{UntilNewline}")?;
                } else {
                    write!(self.out, "{line}{UntilNewline}")?;
                }
            }
            self.out.flush()?;
            self.drawn = now;
        }
        Ok(usize::from(size.1).saturating_sub(3))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Shows what was there before.
fn leave() {
    let mut out = stdout();
    let _ = write!(out, "{Show}{ToMainScreen}").and_then(|()| out.flush());
}
