//! `sluicegate tap`: requests of a running gateway, live, with the decision that was taken.

use std::io::{BufRead as _, BufReader};
use std::process::ExitCode;
use std::time::Duration;

use sluicegate_model::escape;
use sluicegate_model::requests::{Line, RequestLine};

use super::at::At;
use super::get::Output;
use super::lab::exit;
use super::record::Which;
use super::{complain, out, out_json};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// How many requests are shown a second, at most; of the others it is told how many there were
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=50_000))]
    rate: u64,
    /// End after so many requests
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How to show them: a line each, or JSON, an object a line
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    at: At,
}

/// How long it may take besides the time that was asked for.
const PATIENCE: Duration = Duration::from_secs(60);

impl Arguments {
    pub(super) fn execute(self) -> ExitCode {
        exit(self.run().map(|()| true))
    }

    fn run(&self) -> Result<(), String> {
        let headers = if matches!(self.output, Output::Json) { "user-agent" } else { "" };
        let query = format!(
            "/api/v1/requests?seconds={}&count={}&rate={}&bytes={}&headers={headers}&{}",
            self.seconds,
            self.count.unwrap_or(100_000_000),
            self.rate,
            16_u64 << 30,
            self.which.query()
        );
        let mut lines = self.at.post(&query, Duration::from_secs(self.seconds) + PATIENCE)?;
        for line in BufReader::new(lines.body_mut().as_reader()).lines() {
            let line = line.map_err(|error| format!("the gateway's answer broke off: {error}"))?;
            let read: Line = serde_json::from_str(&line).map_err(|error| format!("the gateway said {:?}: {error}", escape::line(&line)))?;
            match (read, self.output) {
                (Line::Request(request), Output::Table) => out(told(&request)),
                (Line::Request(request), Output::Json) => out_json(serde_json::to_string(&request).unwrap_or_default()),
                (Line::Dropped(so_far), _) => complain(format_args!("{} requests were too many, and are not shown", so_far.dropped)),
                (Line::End(_), _) => return Ok(()),
                (Line::Begin(_), _) => {}
            }
        }
        Err("the gateway ended".to_owned())
    }
}

/// One request in a line.
fn told(line: &RequestLine) -> String {
    let decided = &line.decided;
    let scheme = if line.server_name.is_some() && line.is_request() { "https://" } else { "" };
    let what = if line.is_request() {
        format!("{} {scheme}{}{}", line.method, line.host, line.target)
    } else {
        format!("{} connection {}", line.protocol, line.server_name.as_deref().unwrap_or_default())
    };
    let status = decided.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let to = match (&decided.service, &decided.reason) {
        (Some(service), None) => service.clone(),
        (Some(service), Some(reason)) => format!("{service} {reason}"),
        (None, reason) => reason.clone().unwrap_or_else(|| "-".to_owned()),
    };
    let endpoint = decided.endpoint.map(|endpoint| format!(" {endpoint}")).unwrap_or_default();
    let rule = decided.rule.as_ref().map(|rule| format!(" ({rule})")).unwrap_or_default();
    let took = decided.microseconds.map(|us| format!(" {}.{:03} ms", us / 1_000, us % 1_000)).unwrap_or_default();
    escape::line(&format!("{} {} {what} -> {status} {to}{endpoint}{rule}{took}", clock(line.at), line.client)).into_owned()
}

/// The time of the day, UTC.
fn clock(ms: u64) -> String {
    let seconds = ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use sluicegate_model::requests::Decided;

    use super::*;

    #[test]
    fn what_a_client_sends_is_one_line_without_effect_on_the_terminal() {
        let decided = Decided {
            rule: Some("HTTPRoute default/shop rules[0]".to_owned()),
            service: Some("default/shop:80".to_owned()),
            status: Some(200),
            microseconds: Some(1_234),
            ..Decided::default()
        };
        let line = RequestLine {
            at: 86_400_000 * 3 + 3_723_004,
            client: "192.0.2.1".to_owned(),
            method: "GET".to_owned(),
            host: "a.example".to_owned(),
            target: "/\u{1b}[31m\u{202e}\nfake".to_owned(),
            decided,
            ..RequestLine::default()
        };
        assert_eq!(
            told(&line),
            "01:02:03.004 192.0.2.1 GET a.example/\\u{1b}[31m\\u{202e}\\nfake -> 200 default/shop:80 (HTTPRoute default/shop rules[0]) 1.234 ms"
        );
    }
}
