//! The log: lines to stderr, coloured where that is a terminal, by a writer that nobody waits for ([`crate::standard_error`]). Whatever guests, clients and files bring into a line stays within it, and can be seen
//! ([`sluicegate_model::escape`]): an event is one line, also a panic's.

use std::fmt;

use sluicegate_config::object::ours::LogFormat;
use sluicegate_model::escape;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::{MakeExt as _, RecordFields};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::{Settled, standard_error};

/// Begins to log. `SLUICEGATE_LOG` overrides the level.
pub(super) fn begin(settled: &Settled) -> Result<(), String> {
    let level = std::env::var("SLUICEGATE_LOG").unwrap_or_else(|_| settled.log_level.clone());
    let filter = filter(&level)?;
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = standard_error::start().map_err(|e| format!("standard error: {e}"))?;
    subscriber(settled.log_format, filter, terminal, lines).init();
    // A panic's message may quote what a client sent, and the default hook would print it as it is.
    std::panic::set_hook(Box::new(|panic| {
        if !tracing::enabled!(tracing::Level::ERROR) {
            return super::complain(panic);
        }
        let backtrace = std::backtrace::Backtrace::capture();
        let captured = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
        let backtrace = captured.then(|| tracing::field::display(&backtrace));
        tracing::error!(thread = std::thread::current().name(), backtrace, "{panic}");
    }));
    Ok(())
}

/// The filter of the log. A bare level up to `info` is that of the gateway's own code, and of the libraries only errors are logged: some of them warn at what a peer
/// sends, once each time, by which anybody could fill the log. The client of API servers logs
/// each refusal, which the source tells better. Bare `debug` and `trace` count for all code, and a directive that names a library (`h2=warn`) counts
/// as usual.
fn filter(directives: &str) -> Result<EnvFilter, String> {
    let wrong = |error| format!("log level {directives:?}: {error}");
    // It is parsed as it is, so that an error names it in the operator's own words.
    let asked = EnvFilter::try_new(directives).map_err(wrong)?;
    let mut levels = directives.split(',').filter_map(|part| part.trim().parse::<LevelFilter>().ok());
    match levels.next_back() {
        Some(own @ (LevelFilter::WARN | LevelFilter::INFO)) => {
            let others = directives.split(',').filter(|part| part.trim().parse::<LevelFilter>().is_err()).collect::<Vec<_>>().join(",");
            EnvFilter::try_new(format!("error,kube_client=off,sluicegate={own},{others}")).map_err(wrong)
        }
        _ => Ok(asked),
    }
}

fn subscriber<W>(form: LogFormat, filter: EnvFilter, ansi: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(writer);
    match form {
        LogFormat::Human => Box::new(logger.with_target(false).fmt_fields(Fields).finish()),
        LogFormat::Json => Box::new(logger.json().map_event_format(Visible).finish()),
    }
}

/// Formats the fields of a line for people, `message name=value`, escaped. The names are the program's own.
struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let each = format::debug_fn(|writer, field, value| {
            let text = format!("{value:?}");
            let text = escape::line(&text);
            match (field.name(), writer.has_ansi_escapes()) {
                ("message", _) => writer.write_str(&text),
                // Italic and dim, as the library does it.
                (name, true) => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{text}"),
                (name, false) => write!(writer, "{name}={text}"),
            }
        });
        each.delimited(" ").format_fields(writer, fields)
    }
}

/// Formats lines of JSON in which everything can be seen.
struct Visible<F>(F);

impl<S, N, F> FormatEvent<S, N> for Visible<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&escape::json(&line))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(form: LogFormat, ansi: bool, log: impl FnOnce()) -> String {
        filtered("debug", form, ansi, log)
    }

    fn filtered(directives: &str, form: LogFormat, ansi: bool, log: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = subscriber(form, filter(directives).expect("directives"), ansi, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let bytes = written.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).expect("a log is UTF-8")
    }

    const HOSTILE: &str =
        "ok\n2026-11-28T00:00:00Z  INFO all is well\r\0\u{1b}[2J\u{9b}31m\u{85}\u{2028}\u{202e}\u{2066}\u{200b}\u{feff}\u{7f}";

    fn hostile() {
        let error = io::Error::other(HOSTILE);
        let cause: &(dyn std::error::Error + 'static) = &error;
        tracing::error!(plugin = %HOSTILE, reason = HOSTILE, cause, debug = ?HOSTILE.to_owned(), "{HOSTILE}");
        tracing::warn!(plugin = "lb", "{}", HOSTILE);
        tracing::info_span!("span", client = HOSTILE).in_scope(|| tracing::info!("{HOSTILE}"));
    }

    #[test]
    fn nothing_leaves_its_line_or_hides_in_it() {
        for form in [LogFormat::Human, LogFormat::Json] {
            let text = logged(form, false, hostile);
            assert_eq!(text.lines().count(), 3, "{text}");
            assert!(text.ends_with('\n'));
            let hidden: Vec<char> = text.chars().filter(|c| escape::is_hidden(*c) && *c != '\n').collect();
            assert!(hidden.is_empty(), "{hidden:?} in {text}");
            assert!(text.lines().all(|line| line.contains("ERROR") || line.contains("WARN") || line.contains("span")), "{text}");
        }
    }

    #[test]
    fn libraries_warn_where_they_are_asked_to() {
        for (directives, wanted) in [
            ("info", "own-warn own-info library-error"),
            ("WARN", "own-warn library-error"),
            ("3", "own-warn own-info library-error"),
            ("error", "library-error"),
            ("off", ""),
            ("debug", "own-warn own-info own-debug library-error library-warn"),
            ("info,h2=warn", "own-warn own-info library-error library-warn"),
            ("h2=off, info", "own-warn own-info"),
            ("info,sluicegate_proxy=debug", "own-warn own-info own-debug library-error"),
            ("sluicegate=off,warn", "library-error"),
            ("sluicegate=debug", "own-warn own-info own-debug"),
        ] {
            let text = filtered(directives, LogFormat::Human, false, || {
                tracing::warn!(target: "sluicegate_proxy::worker", "own-warn");
                tracing::info!(target: "sluicegate_proxy::worker", "own-info");
                tracing::debug!(target: "sluicegate_proxy::worker", "own-debug");
                tracing::error!(target: "h2::proto::ping_pong", "library-error");
                tracing::warn!(target: "h2::proto::ping_pong", "library-warn");
            });
            let said: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next_back()).collect();
            assert_eq!(said.join(" "), wanted, "{directives}");
        }
        assert!(filter("info,h2=loud").is_err());
    }

    #[test]
    fn json_says_exactly_what_came() {
        let text = logged(LogFormat::Json, false, || tracing::info!(reason = HOSTILE, "{HOSTILE}"));
        let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&line["fields"]["message"], &line["fields"]["reason"]), (&HOSTILE.into(), &HOSTILE.into()));
    }

    #[test]
    fn colours_are_only_ours() {
        let text = logged(LogFormat::Human, true, || tracing::info!(name = %"\u{1b}[31mred", "plain \u{1b}[1m"));
        assert!(text.contains("plain \\u{1b}[1m") && text.contains("\u{1b}[3mname\u{1b}[0m\u{1b}[2m=\u{1b}[0m\\u{1b}[31mred"), "{text:?}");
    }
}
